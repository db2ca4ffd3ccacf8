"""The float net on a few batches: does it answer, is it better than guessing, would the usual cures help?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.weights import Weights
from ristretto.data.records import RecordSource
from ristretto.decide.confidence import binomial_tail, no_better_than
from ristretto.decide.plan import group_of
from ristretto.graph.build import Simulation
from ristretto.pipeline.calibrate import values_read
from ristretto.pipeline.doctor.prepared import Preparation, Preparer
from ristretto.pipeline.doctor.scoring import accuracies
from ristretto.pipeline.feed import Batch, Feed
from ristretto.pipeline.pieces import Pieces
from ristretto.pipeline.runnable import runnable
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.sound import Watch
from ristretto.pipeline.verdicts import Verdicts, verdicts_of
from ristretto.report.findings import Finding, Measured, Trial

Say = Callable[[str], None]
"""Hears what is being done."""

IMAGES = 100
"""About how many images are scored where nothing else is asked for."""

_FEW = 32
"""About how many images each of many combined cures is tried on."""

_SURE = 0.05
"""The greatest probability of praising a cure that changes nothing, over all that are tried."""

_GOOD_ENOUGH = 0.95
"""From this score on no cure is tried."""

_PROMISING = 0.03
"""A cure that gains so much, not surely, is tried on more images: so many times as many."""
_MORE = 4

_CERTAIN = 0.999


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a net said to some images.

    Attributes:
        scores: (images, classes); nothing where the net has no such output.
        right: for each image whether it was right; None without labels.
        labels: the labels, or None.
        finite: whether all values were.
        images: how many.
    """

    scores: NDArray[np.float32] | None
    right: NDArray[np.bool_] | None
    labels: NDArray[np.float32] | None
    finite: bool
    images: int


def measure(
    net: NetSpec, feed: Feed, weights: Weights | None, blob: str, iterations: int | None, threads: int, say: Say
) -> tuple[Measured, list[Finding]]:
    """Score the net on some batches, and where it is not good on the same images prepared otherwise.

    Args:
        net: the TEST net.
        feed: its data.
        weights: its weights.
        blob: the blob that decides.
        iterations: how many batches; None for about a hundred images.
        threads: threads per run.
        say: hears what is being done.

    Raises:
        RistrettoError: the net cannot be run.
    """
    batches = iterations or max(1, math.ceil(IMAGES / feed.batch_size))
    net, _ = runnable(net, [net.finals[blob]])
    shapes = infer_shapes(net, feed.shapes).values
    judge = _judge(net, blob, shapes)
    wanted = judge.values if judge is not None else tuple(net.finals[output] for output in net.outputs)
    pieces = Pieces(Runner(net, weights, list(dict.fromkeys(wanted)), threads=threads))

    def answers(source: Iterable[Batch]) -> _Answers:
        return _answers(pieces, judge, wanted, source)

    say("scoring the float net")
    places, more = _places(feed, batches)
    pick = feed.picker(None) if places else None

    def drawn() -> Iterator[Batch]:
        return map(pick, places) if pick is not None else islice(feed.batches(), batches)

    base = answers(drawn())
    chance = None
    if judge is not None and base.scores is not None:
        chance = judge.top_k / base.scores.shape[1]
    findings = list(_answer_findings(base, net, chance))
    if base.finite:
        findings += _hidden_findings(Watch(net, weights, Simulation(), threads), net, drawn(), places)
    if base.right is None or not base.finite:
        return Measured(base.images, None if base.right is None else _share(base), chance), findings
    trials: list[Trial] = []
    helped = None
    source = feed.sources[0]
    if len(feed.sources) == 1 and isinstance(source, RecordSource) and _share(base) < _GOOD_ENOUGH and chance:
        fresh = Preparer(source, more) if more and iterations is None else None
        search = _Search(Preparer(source, places), fresh, answers, base, chance, say)
        helped = search.run()
        trials = search.trials
    score = _share(base)
    if helped is not None:
        what = (
            f"images prepared otherwise score {helped.score:.4g} ({helped.preparation.change}), as the prototxt says "
            f"{helped.before:.4g}, measured on the same {helped.images} images"
        )
        findings.append(Finding("warning", "preparation", what, helped.cure, net.file))
    elif _guesses(base.right, chance or 0):
        what = f"the float net scores {score:.4g} on {base.images} images: no better than guessing ({chance:.4g})"
        tried = "none of the usual cures (channels, mean, scale) helped" if trials else "the images' preparation"
        cure = f"{tried}: do labels and weights belong to this net?" if trials else f"check labels, weights and {tried}"
        findings.append(Finding("warning", "guessing", what, cure, net.file))
    return Measured(base.images, score, chance, tuple(trials)), findings


@dataclass(frozen=True, slots=True)
class _Helped:
    """A preparation that is surely better: its score and that of the prototxt's own, on so many images."""

    preparation: Preparation
    cure: str
    score: float
    before: float
    images: int


class _Search:
    """Tries cures: each alone, then on top of what helped, and all together where nothing did."""

    def __init__(
        self,
        preparer: Preparer,
        fresh: Preparer | None,
        answers: Callable[[Iterable[Batch]], _Answers],
        base: _Answers,
        chance: float,
        say: Say,
    ) -> None:
        self._preparer, self._fresh, self._answers, self._say = preparer, fresh, answers, say
        assert base.right is not None
        self._base, self._chance = base.right, chance
        self.trials: list[Trial] = []
        self._known: dict[Preparation, NDArray[np.bool_]] = {}

    def run(self) -> _Helped | None:
        """The preparation that is best, if it is surely better than what the prototxt says."""
        singles = self._preparer.singles()
        best = self._best(singles, len(singles))
        if best is None and _guesses(self._base, self._chance):
            best = self._best(self._promising(), len(singles))
        elif best is not None:
            best = self._best([_both(best, single) for single in singles], len(singles)) or best
        if best is None:
            return self._on_fresh_images()
        score, before = float(self._known[best].mean()), float(self._base.mean())
        return _Helped(best, self._preparer.cure(best), score, before, len(self._base))

    def _on_fresh_images(self) -> _Helped | None:
        """The best one so far, judged on images that had no part in choosing it."""
        best = max(self._known, key=lambda each: self._known[each].mean(), default=None)
        if best is None or self._fresh is None or self._known[best].mean() < self._base.mean() + _PROMISING:
            return None
        self._say(f"trying on more images: {best.change}")
        right = self._answers(self._fresh.batches(best)).right
        base = self._answers(self._fresh.batches(Preparation())).right
        assert right is not None
        assert base is not None
        score, before, sure = float(right.mean()), float(base.mean()), _surely_better(right, base, 1)
        of_others = f"on {len(right)} other images, where the net as it is scores {before:.4g}"
        self.trials.append(Trial(f"{best.change}, {of_others}", score, sure))
        return _Helped(best, self._preparer.cure(best), score, before, len(right)) if sure else None

    def _best(self, preparations: list[Preparation], tried: int) -> Preparation | None:
        """The one with the best score, if that is surely better than anything before."""
        before = max((right for right in [self._base, *self._known.values()]), key=np.mean)
        for preparation in dict.fromkeys(preparations):
            if preparation in self._known:
                continue
            self._say(f"trying: {preparation.change}")
            right = self._answers(self._preparer.batches(preparation)).right
            assert right is not None
            self._known[preparation] = right
            sure = _surely_better(right, self._base, tried)
            self.trials.append(Trial(preparation.change, float(right.mean()), sure))
        candidates = [each for each in dict.fromkeys(preparations) if each in self._known]
        best = max(candidates, key=lambda each: self._known[each].mean(), default=None)
        if best is None or not _surely_better(self._known[best], self._base, tried):
            return None
        return best if self._known[best].mean() >= before.mean() else None

    def _promising(self) -> list[Preparation]:
        """The combinations that do best on a few images."""
        preparer = self._preparer.few(_FEW)
        few: list[tuple[float, Preparation]] = []
        for preparation in self._preparer.combined():
            if preparation in self._known:
                continue
            self._say(f"trying: {preparation.change}")
            right = self._answers(preparer.batches(preparation)).right
            assert right is not None
            few.append((float(right.mean()), preparation))
        few.sort(key=lambda pair: -pair[0])
        return [preparation for _, preparation in few[:3]]


def _places(feed: Feed, batches: int) -> tuple[list[list[int]], list[list[int]]]:
    """Images drawn from the whole source, batch by batch, and others: the first ones may all be of one class."""
    if feed.images is None:
        return [], []
    drawn, size = np.random.default_rng(0).permutation(feed.images), batches * feed.batch_size
    parts = drawn[:size], drawn[size : size * (1 + _MORE)]
    chosen, more = (
        [sorted(map(int, part[at : at + feed.batch_size])) for at in range(0, len(part), feed.batch_size)]
        for part in parts
    )
    return chosen, more


def _both(one: Preparation, other: Preparation) -> Preparation:
    """The first with the second's change on top."""
    return Preparation(
        one.swapped or other.swapped,
        other.mean if other.mean != "as it is" else one.mean,
        other.scale if other.scale is not None else one.scale,
    )


def _judge(net: NetSpec, blob: str, shapes: dict[str, Shape]) -> Verdicts | None:
    """What tells right answers from wrong ones: the accuracy that decides, another one, or what a loss compares."""
    maker = net.producer(net.finals[blob])
    layers = [maker] if maker is not None and maker.type == "Accuracy" else []
    for layer in [*layers, *accuracies(net)]:
        judge = verdicts_of(net, layer.tops[0], shapes)
        if judge is not None:
            return judge
    for layer in reversed(net.layers):
        if is_loss(layer.type) and layer.type == "SoftmaxWithLoss":
            scores, labels = layer.inputs[:2]
            if math.prod(shapes[labels]) == shapes[scores][0]:
                return Verdicts(scores, labels, 1)
    return None


def _answers(pieces: Pieces, judge: Verdicts | None, wanted: tuple[str, ...], source: Iterable[Batch]) -> _Answers:
    own = Verdicts(judge.scores, judge.labels, judge.top_k) if judge is not None else None
    scores, labels, finite, images = [], [], True, 0
    for batch in source:
        values, _ = pieces.run(batch)
        finite = finite and all(bool(np.isfinite(values[value]).all()) for value in wanted)
        images += len(next(iter(batch.values())))
        if own is not None:
            own.add(values)
            scores.append(values[own.scores].reshape(len(values[own.scores]), -1))
            labels.append(values[own.labels].ravel())
    if own is None:
        return _Answers(None, None, None, finite, images)
    return _Answers(np.concatenate(scores), own.right(), np.concatenate(labels), finite, images)


def _share(answers: _Answers) -> float:
    return float(answers.right.mean()) if answers.right is not None else math.nan


def _answer_findings(answers: _Answers, net: NetSpec, chance: float | None) -> Iterator[Finding]:
    """What the answers tell by themselves: NaN, always the same class, certain of what is wrong."""
    if not answers.finite:
        what = f"the float net's outputs are NaN or infinite on the first {answers.images} images"
        cure = "check the weights (did the training diverge?) and scale: pixels may be far larger than in training"
        yield Finding("error", "not_finite", what, cure, net.file)
        return
    if answers.scores is None or answers.labels is None or answers.right is None:
        return
    classes = answers.scores.argmax(axis=1)
    if len(classes) > 3 and len(set(classes.tolist())) == 1 and len(set(answers.labels.tolist())) > 1:
        what = f"the float net answers class {classes[0]} to all {answers.images} images"
        cure = "check weights, mean and scale: it may be fed images that look all alike to it"
        yield Finding("warning", "constant_output", what, cure, net.file)
    sure = _probabilities(answers.scores).max(axis=1)
    if float(np.median(sure)) > _CERTAIN and _share(answers) < 0.5 and not _guesses_class(classes):
        what = (
            f"the float net is certain of nearly every answer, and {_share(answers):.4g} of {answers.images} are right"
        )
        cure = "its inputs may be far larger than in training: check scale in transform_param"
        yield Finding("warning", "saturated", what, cure, net.file)


def _hidden_findings(
    watch: Watch, net: NetSpec, batches: Iterable[Batch], places: list[list[int]]
) -> Iterator[Finding]:
    """NaN or infinity inside the net that no output shows: quantize refuses it where a range would be measured."""
    measured = {
        value
        for layer in net.layers
        if group_of(layer.type) is not None
        for value in (*values_read(layer), *layer.outputs[:1])
    }
    for number, batch in enumerate(batches):
        origin = watch.origin(batch, number)
        if origin is None:
            continue
        where = origin.where
        if places and origin.image is not None:
            where = f"image {places[number][origin.image]} of the source"
        refused = not measured.isdisjoint(origin.values)
        what = origin.hidden(where) + (": quantize refuses it" if refused else "")
        cure = "check its weights, mean and scale"
        severity: Literal["error", "warning"] = "error" if refused else "warning"
        yield Finding(severity, "not_finite", what, cure, net.file, origin.layer.view.line, origin.layer.name)
        return


def _guesses_class(classes: NDArray[np.intp]) -> bool:
    return len(set(classes.tolist())) == 1


def _probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores as probabilities; those that are some already stay as they are."""
    exact = scores.astype(np.float64)
    if exact.min() >= 0 and np.allclose(exact.sum(axis=1), 1, atol=1e-3):
        return exact
    powers = np.exp(exact - exact.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _guesses(right: NDArray[np.bool_], chance: float) -> bool:
    """Whether guessing gives as many right answers or more once in a hundred times."""
    return no_better_than(chance, int(right.sum()), len(right))


def _surely_better(right: NDArray[np.bool_], base: NDArray[np.bool_], tried: int) -> bool:
    """Whether a preparation gains more images than it loses by more than chance explains (sign test)."""
    gained, lost = int((right & ~base).sum()), int((base & ~right).sum())
    return gained > lost and binomial_tail(gained, gained + lost, 0.5) < _SURE / max(tried, 1)

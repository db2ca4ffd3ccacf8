"""Candidates scored no longer than it takes to know that they miss the margin (``quantize --fast``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.shapes import infer_shapes
from ristretto.data import Picker
from ristretto.decide.plan import QuantPlan
from ristretto.decide.sequential import Look, Sequential
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.feed import Feed, Picked
from ristretto.pipeline.pieces import image_by_image
from ristretto.pipeline.runner import Halfway
from ristretto.pipeline.verdicts import Verdicts
from ristretto.report.model import Scored

_STREAM = 41
"""Sets the order of the images apart from all other random numbers."""


@dataclass(frozen=True, slots=True)
class Early:
    """What candidates are compared with, and the order in which they see the images.

    Attributes:
        baseline: the float net, with a verdict for each image.
        margin: the allowed drop of the score.
        error: the greatest probability of dropping a candidate that holds the margin.
        batch_size: images in a full batch.
        picker: makes batches of any images; None where they have to come in the order of the source. Then only what
            is certain ends a pass: a source may be sorted.
        order: the place of each image in the pass, in the order in which candidates see them.
        pass_batches: how many batches the pass has; None for every image once.
    """

    baseline: Scored
    margin: float
    error: float
    batch_size: int
    picker: Picker | None
    order: NDArray[np.intp]
    pass_batches: int | None

    def batches(self, kept: Sequence[Halfway]) -> Picked | Iterator[Halfway] | None:
        """The batches of a pass in that order; None for the pass as it is.

        Args:
            kept: the batches on their way through the net, if the pass is to go on from there.
        """
        picker = self.picker
        if picker is None:
            return None
        starts = range(0, len(self.order), self.batch_size)
        places = tuple(tuple(self.order[start : start + self.batch_size].tolist()) for start in starts)
        if not kept:
            return Picked(picker, self.pass_batches, places)
        return (_picked(kept, self.batch_size, each) for each in places)

    def watch(self, verdicts: Verdicts) -> Watch:
        """Begin with a candidate, whose images these verdicts judge."""
        images = len(self.order)
        return Watch(self, verdicts, Sequential(images, self.margin, self.error, shuffled=self.picker is not None))


@dataclass
class Watch:
    """Follows one candidate through its pass.

    Attributes:
        dropped: whether it was found to miss the margin before the last image.
    """

    early: Early
    verdicts: Verdicts
    test: Sequential
    dropped: bool = False
    _last: Look = field(default="go on")

    def stop(self) -> bool:
        """Whether the candidate need not see more images; asked after each batch.

        One that holds goes on to the end even if that is certain: it may be chosen, and then its score counts.
        """
        right = self.verdicts.right()[self.test.seen :]
        places = self.early.order[self.test.seen : self.test.seen + len(right)]
        assert self.early.baseline.right is not None
        differences = self.early.baseline.right[places].astype(np.int8) - right.astype(np.int8)
        self.dropped = self.test.look(differences) == "below" and self.test.seen < self.test.images
        return self.dropped

    def judged(self, scored: Scored, blob: str) -> Scored:
        """The outcome of the pass: the score as the whole pass in the source's order gives it, or an estimate of it.

        Args:
            scored: what the pass gave.
            blob: the accuracy.
        """
        early = self.early
        if self.dropped:
            # The images seen may be easy ones or hard ones; the drop on them says more than the score.
            return replace(scored, score=max(0.0, early.baseline.score - self.test.drop), right=None)
        right = np.empty(len(early.order), np.bool_)
        right[early.order] = self.verdicts.right()
        if early.picker is None or self.verdicts.broken():
            return replace(scored, right=right)  # a batch with NaN has no score, nor has the pass
        score = _mean_accuracy(right, early.batch_size)
        return replace(scored, score=score, right=right, outputs={**scored.outputs, blob: (score,)})


def early_of(
    net: NetSpec, feed: Feed, kept: Sequence[Halfway], verdicts: Verdicts, baseline: Scored, batches: int | None,
    plan: QuantPlan, *, margin: float, error: float, rounding: Rounding, seed: int,
) -> Early | None:  # fmt: skip
    """What candidates are compared with; None where single images have no verdicts, or where none can miss the margin.

    Args:
        net: the TEST net.
        feed: its data.
        kept: batches from which passes may go on.
        verdicts: what the score is the mean of.
        baseline: the float net's score.
        batches: how many are scored; None for all images once.
        plan: formats that the user gives: they may round in a way of their own.
        margin: the allowed drop of the score.
        error: the greatest probability of dropping a candidate that holds.
        rounding: how candidates round.
        seed: of the order of the images.
    """
    if baseline.right is None or len(baseline.right) != baseline.images or margin >= baseline.score:
        return None
    images = baseline.images
    stochastic = Rounding.STOCHASTIC in {rounding, *(formats.rounding for formats in plan.layers.values())}
    alone = not stochastic and _one_by_one(net, feed, verdicts) and all(map(_by_image, kept))
    picker = feed.picker(batches) if alone else None
    rng = np.random.default_rng((_STREAM, seed))
    order = np.arange(images) if picker is None else rng.permutation(images)
    return Early(baseline, margin, error, feed.batch_size, picker, order.astype(np.intp), batches)


def _one_by_one(net: NetSpec, feed: Feed, verdicts: Verdicts) -> bool:
    """Whether the verdict on an image does not depend on the images it shares a batch with."""
    shapes = infer_shapes(net, feed.shapes).values
    if any(not shape or shape[0] != feed.batch_size for shape in feed.shapes.values()):
        return False
    needed = net.upstream(verdicts.values)
    return all(
        image_by_image(net, layer)
        and all(shapes[value] and shapes[value][0] == feed.batch_size for value in layer.outputs)
        for layer in net.layers
        if needed.intersection(layer.outputs)
    )


def _by_image(half: Halfway) -> bool:
    """Whether all that is on its way has a row for each image."""
    images = next(iter(half.fed.values()))[:1]
    return all(array.shape[:1] == images for array in half.values.values())


def _picked(kept: Sequence[Halfway], batch_size: int, places: Sequence[int]) -> Halfway:
    """A batch of single images out of batches that are on their way."""
    found = [(kept[place // batch_size], place % batch_size) for place in places]
    first = kept[0]
    return Halfway(
        {blob: (len(places), *shape[1:]) for blob, shape in first.fed.items()},
        {value: np.stack([half.values[value][row] for half, row in found]) for value in first.values},
    )


def _mean_accuracy(right: NDArray[np.bool_], batch_size: int) -> float:
    """The mean over the batches of a pass in order, each an accuracy in float32, as a pass adds it up."""
    total = 0.0
    for start in range(0, len(right), batch_size):
        batch = right[start : start + batch_size]
        total += float(np.float32(batch.sum()) / np.float32(len(batch))) * len(batch)
    return total / len(right)

"""Scoring the nets of a quantization: the float net first, then one candidate after the other on the same images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.weights import Weights
from ristretto.decide.plan import QuantPlan
from ristretto.graph.build import Section, Simulation
from ristretto.pipeline.early import Early, early_of
from ristretto.pipeline.feed import Feed
from ristretto.pipeline.finished import FinishedScores
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.prefix import Prefix, prefix_of
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.score import run_pass, scored_blobs
from ristretto.pipeline.scorers import Agreement, Scorer, choose_scorer
from ristretto.pipeline.verdicts import Verdicts, verdicts_of
from ristretto.report.events import Dropped, Listener, Warned, silent
from ristretto.report.model import Scored

WeightsFor = Callable[[QuantPlan], Weights]
"""Gives the weights that a plan is scored with: asked for when a pass is run, since to make them can take as long."""


@dataclass
class Scoring:
    """What all scores of one job share.

    Attributes:
        options: what was asked for.
        net: the TEST net.
        weights: the float net's.
        feed: its data.
        blob: the name of the score that decides.
        scorer: judges passes in place of a blob.
        prefix: what the float layers before the first FC layer make of the images, for FC candidates.
        overrides: formats that the user gives: they may round in a way of their own.
        finished: scores that are known already.
        listener: hears every batch.
    """

    options: QuantizeOptions
    net: NetSpec
    weights: Weights
    feed: Feed
    blob: str
    scorer: Scorer | None
    prefix: Prefix | None
    overrides: QuantPlan
    listener: Listener
    finished: FinishedScores = field(default_factory=FinishedScores)
    _float_net_run: bool = False

    def score(
        self,
        plan: QuantPlan,
        purpose: str,
        weights_for: WeightsFor | None = None,
        early: Early | None = None,
        *,
        judged: bool = True,
    ) -> Scored:
        """Score the net with a plan's formats; an empty plan is the float net.

        Args:
            plan: the formats.
            purpose: what the pass is for, for the listener.
            weights_for: gives other weights than the float net's.
            early: lets the pass end as soon as it is known that the margin is missed; the score is an estimate then.
            judged: whether the outcome says what became of each image.
        """

        def run(listener: Listener) -> Scored:
            compared = isinstance(self.scorer, Agreement)
            if plan.layers and (compared or (self.prefix is not None and self.prefix.would_serve(self.net, plan))):
                self._need_float_net()
            weights = self.weights if weights_for is None else weights_for(plan)
            return self._run(plan, purpose, weights, early, judged, listener)

        return self.finished.score(purpose, plan, run, self.listener)

    def _need_float_net(self) -> None:
        """Run the float net, if that was not done because its score was known, for what else it leaves behind."""
        if not self._float_net_run:
            self._run(QuantPlan(), "baseline", self.weights, None, False, silent)

    def _run(
        self, plan: QuantPlan, purpose: str, weights: Weights, early: Early | None, judged: bool, listener: Listener
    ) -> Scored:
        options = self.options
        self._float_net_run |= not plan.layers
        verdicts = self.verdicts() if judged or early is not None else None
        watch = early.watch(verdicts) if early is not None and verdicts is not None else None
        simulation = Simulation(plan.layers, options.rounding, options.seed)
        averaged = () if self.scorer is not None else scored_blobs(self.net, options.score)
        finals = [self.net.finals[blob] for blob in (self.scorer.blobs if self.scorer is not None else averaged)]
        wanted = list(dict.fromkeys([*finals, *(verdicts.values if verdicts is not None else ())]))
        prefix, section = self.prefix, Section()
        if prefix is not None and prefix.serves(self.net, plan):
            section = Section(prefix.position)
        elif prefix is not None and not plan.layers and not prefix.batches:
            wanted = list(dict.fromkeys([*wanted, *prefix.values]))
        else:
            prefix = None
        runner = Runner(self.net, weights, wanted, (), simulation, options.threads, section=section)
        source = None if watch is None else watch.early.batches(prefix.batches if prefix is not None else ())
        stop = None if watch is None else watch.stop
        start = time.perf_counter()
        result = run_pass(
            runner,
            self.feed,
            averaged,
            options.iterations,
            purpose,
            listener,
            self.scorer,
            verdicts,
            prefix,
            source,
            stop,
        )
        seconds = time.perf_counter() - start
        outputs = {output.blob: output.values for output in result.outputs}
        right = None if verdicts is None else verdicts.right()
        answers = None if verdicts is None else verdicts.answers()
        score = result.score(self.blob)
        marks = answers, result.broken, result.uncounted, result.missing
        scored = Scored(score, outputs, result.images, result.batches, seconds, right, *marks)
        if watch is None:
            return scored
        scored = watch.judged(scored, self.blob)
        if watch.dropped:
            listener(Dropped(purpose, scored.images, watch.test.images, scored.score))
        return scored

    def early(self, baseline: Scored) -> Early | None:
        """What lets a pass end early, where that is asked for and the score is a plain accuracy."""
        options = self.options
        if not options.fast:
            return None
        verdicts = self.verdicts()
        if verdicts is None:
            self.listener(Warned("--fast changes nothing: the score is no plain accuracy, it is taken from all images"))
            return None
        if self.prefix is not None:
            self._need_float_net()
        early = early_of(
            self.net,
            self.feed,
            self.prefix.batches if self.prefix is not None else (),
            verdicts,
            baseline,
            options.iterations,
            self.overrides,
            margin=options.error_margin / 100,
            error=options.fast_error,
            rounding=options.rounding,
            seed=options.seed,
        )
        if early is not None and early.picker is None:
            what = "the images cannot be scored in random order, so a width is dropped only where that is certain"
            self.listener(Warned(f"--fast: {what}"))
        return early

    def verdicts(self) -> Verdicts | None:
        """A judge of single images, or None where the score is no plain accuracy."""
        if self.scorer is not None:
            return None
        return verdicts_of(self.net, self.blob, infer_shapes(self.net, self.feed.shapes).values)

    @property
    def answers(self) -> tuple[str, ...]:
        """The values that stand for the net's answer: what the score is made of."""
        if self.scorer is not None:
            return tuple(self.net.finals[blob] for blob in self.scorer.blobs)
        value = self.net.finals[self.blob]
        maker = self.net.producer(value)
        if maker is not None and (maker.type == "Accuracy" or is_loss(maker.type)):
            return maker.inputs[:1]
        return (value,)


def open_scoring(
    options: QuantizeOptions,
    net: NetSpec,
    weights: Weights,
    feed: Feed,
    blob: str,
    overrides: QuantPlan,
    listener: Listener,
) -> Scoring:
    """Try the float net on the shapes of its data, and find out what its score is.

    Raises:
        RistrettoError: the net does not fit its data or weights, or the user's metric cannot be used.
    """
    shapes = Runner(net, weights, [net.finals[blob]]).prepare(feed.shapes)
    scorer = choose_scorer(net, shapes, options.score, options.score_script)
    if scorer is not None:
        return Scoring(options, net, weights, feed, scorer.name, scorer, None, overrides, listener)
    wanted = {net.finals[each] for each in scored_blobs(net, options.score)}
    maker = net.producer(net.finals[blob])
    prefix = prefix_of(net, (*wanted, *(maker.inputs if maker is not None else ())))
    return Scoring(options, net, weights, feed, blob, None, prefix, overrides, listener)

"""Scoring a net: the mean of its output blobs over some batches, or over every image once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import NetSpec
from ristretto.decide.stats import TensorStats, merge_stats
from ristretto.errors import DataError, UsageError
from ristretto.pipeline.feed import Batch, Feed, Picked
from ristretto.pipeline.integer import TapTotals
from ristretto.pipeline.pieces import Pieces
from ristretto.pipeline.prefix import PREFIX_BYTES, Prefix
from ristretto.pipeline.runner import Halfway, Runner
from ristretto.pipeline.scorers import Scorer
from ristretto.pipeline.shards import Ran, Wanted, bytes_kept, dispatched, run_batches
from ristretto.pipeline.verdicts import Verdicts
from ristretto.pipeline.workers import current_pool
from ristretto.report.events import BatchDone, Listener, Output, PassDone, PassStarted

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PassResult:
    """What one pass gave.

    Attributes:
        outputs: the output blobs, means over the images.
        loss: the weighted sum of the losses.
        images: images run.
        batches: batches run.
        ranges: ranges of the values that the runner measures.
        broken: number of the first batch with NaN or infinity in an output, or None.
        uncounted: how many batches had an accuracy without a label that counts.
        missing: how many had an accuracy of classes with a class without an image.
    """

    outputs: tuple[Output, ...]
    loss: float
    images: int
    batches: int
    ranges: dict[str, TensorStats]
    broken: int | None = None
    uncounted: int = 0
    missing: int = 0

    def output(self, blob: str) -> Output:
        """One output blob by name."""
        return next(output for output in self.outputs if output.blob == blob)

    def score(self, blob: str) -> float:
        """The first element of an output blob."""
        return self.output(blob).values[0]


def loss_weights(net: NetSpec) -> dict[str, float]:
    """The loss weight of each blob that has one (Layer::SetLossWeights): 1 for the first top of a loss layer."""
    weights: dict[str, float] = {}
    for layer in net.layers:
        given = layer.view.numbers("loss_weight")
        if not given and is_loss(layer.type):
            given = (1.0,)
        weights.update((top, weight) for top, weight in zip(layer.tops, given, strict=False) if weight)
    return weights


def score_blob(net: NetSpec, asked: str | None) -> str:
    """The blob that decides: the one asked for, or the first output in alphabetical order.

    Raises:
        UsageError: there is no such blob, or no output at all.
    """
    if asked is None:
        if not net.outputs:
            raise UsageError("the net has no output blob to score", file=net.file, cure="name one with --score")
        return net.outputs[0]
    if asked not in net.finals:
        cure = f"the net's outputs are {', '.join(net.outputs)}"
        raise UsageError(f"there is no blob '{asked}' to score", file=net.file, cure=cure)
    return asked


def scored_blobs(net: NetSpec, asked: str | None) -> tuple[str, ...]:
    """All blobs to average: the net's outputs, and the one asked for if it is none of them."""
    blob = score_blob(net, asked)
    return net.outputs if blob in net.outputs else tuple(sorted({*net.outputs, blob}))


def run_pass(
    runner: Runner,
    feed: Feed,
    blobs: tuple[str, ...],
    batches: int | None,
    purpose: str,
    listener: Listener,
    scorer: Scorer | None = None,
    verdicts: Verdicts | None = None,
    prefix: Prefix | None = None,
    source: Iterable[Batch | Halfway] | None = None,
    stop: Callable[[], bool] | None = None,
) -> PassResult:
    """Run a number of batches, or with None every image once, and average the outputs over the images.

    Args:
        runner: the net, whose outputs include the final values of ``blobs``.
        feed: its data.
        blobs: the blobs to average.
        batches: how many batches; None for one pass over all images.
        purpose: what the pass is for, for the listener.
        listener: hears every batch.
        scorer: judges the pass in place of a blob; its score becomes one more output.
        verdicts: judges every image; the runner's outputs include its values.
        prefix: is filled with the batches on their way, or, if it is full, they go on from there.
        source: the same batches or images in another order; None for that of the feed.
        stop: is asked after each batch whether that is enough.

    Raises:
        DataError: there was no image.
    """
    weights = loss_weights(runner.net)
    listener(PassStarted(purpose, batches if batches is not None else _batches_of(feed)))
    start = time.perf_counter()
    sums: dict[str, NDArray[np.float64]] = {}
    seen: list[dict[str, TensorStats]] = []
    images = count = uncounted = missing = 0
    broken: int | None = None
    if scorer is not None:
        scorer.start()
    kept = prefix.batches if prefix is not None else ()
    looked_at = blobs if scorer is None else (*blobs, *scorer.blobs)
    values = tuple(dict.fromkeys(runner.net.finals[blob] for blob in looked_at))
    wanted = Wanted(values, verdicts, prefix.values if prefix is not None and not kept else (), scorer is not None)
    begun = source if source is not None else kept or None
    with closing(_ran(runner, feed, batches, wanted, begun)) as passing:
        for ran in passing:
            size = ran.images
            if prefix is not None and wanted.kept and ran.values.keys() >= set(wanted.kept):
                prefix.add(ran.fed, ran.values)
            if verdicts is not None and ran.right is not None:
                verdicts.take(ran.right)
            for layer, totals in ran.integer.items():
                runner.integer.setdefault(layer, TapTotals.of(totals.tap)).merge(totals)
            means: dict[str, NDArray[np.float64]] = {
                blob: ran.values[runner.net.finals[blob]].astype(np.float64).ravel() for blob in blobs
            }
            for blob, mean in means.items():
                sums[blob] = sums[blob] + mean * size if blob in sums else mean * size
            seen.append(ran.ranges)
            shown = _outputs(means, weights)
            if scorer is not None:
                own = scorer.add({blob: ran.values[runner.net.finals[blob]] for blob in scorer.blobs}, ran.labels)
                shown += () if own is None else (Output(scorer.name, (own,)),)
            listener(BatchDone(count, shown))
            if broken is None and not all(np.isfinite(ran.values[value]).all() for value in values):
                broken = count
            uncounted, missing = uncounted + ran.notes.uncounted, missing + ran.notes.missing
            images, count = images + size, count + 1
            if stop is not None and stop():
                break
    if prefix is not None and not kept:
        prefix.finish()
    if not images:
        raise DataError("the data source gave no batch", file=runner.net.file)
    outputs = _outputs({blob: total / images for blob, total in sums.items()}, weights)
    if scorer is not None:
        outputs += (Output(scorer.name, (scorer.result(),)),)
    loss = sum(output.loss_weight * sum(output.values) for output in outputs)
    seconds = max(time.perf_counter() - start, 1e-9)
    _log.debug("pass %s: %d images in %.2f s, %.0f a second", purpose, images, seconds, images / seconds)
    listener(PassDone(purpose, loss, outputs))
    return PassResult(outputs, loss, images, count, merge_stats(seen), broken, uncounted, missing)


def _ran(
    runner: Runner,
    feed: Feed,
    batches: int | None,
    wanted: Wanted,
    source: Iterable[Batch | Halfway] | None,
) -> Generator[Ran, None, None]:
    """Run the batches of a pass, one after the other: by the job's workers where there are any, else here."""
    pool = current_pool()
    order = source if isinstance(source, Picked) else None
    if pool is not None and (source is None or order is not None):
        if wanted.kept and bytes_kept(runner.net, feed, wanted.kept, batches) > PREFIX_BYTES:
            wanted = replace(wanted, kept=())
        elsewhere = dispatched(pool, runner, feed, batches, wanted, order)
        if elsewhere is not None:
            yield from elsewhere
            return
    pieces = Pieces(runner)
    if source is None:
        source = feed.single_pass() if batches is None else islice(feed.batches(), batches)
    yield from run_batches(pieces, source, wanted, 0)


def _batches_of(feed: Feed) -> int:
    return -(-feed.images // feed.batch_size) if feed.images is not None else 0


def _outputs(means: dict[str, NDArray[np.float64]], weights: dict[str, float]) -> tuple[Output, ...]:
    return tuple(Output(blob, tuple(map(float, mean)), weights.get(blob, 0.0)) for blob, mean in means.items())

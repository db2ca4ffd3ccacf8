"""Exporting a quantized net: the net and the means to run it are made here, a target's own module writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from ristretto.atomic import one_job
from ristretto.caffe.netspec import NetSpec
from ristretto.errors import DataError, UsageError
from ristretto.export.job import Array, Batch, Exported, ExportJob, ExportOptions
from ristretto.export.targets import SPECIAL, target_of
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.pipeline.convert import input_shapes
from ristretto.pipeline.evaluate import NetOptions, load
from ristretto.pipeline.feed import open_feed
from ristretto.pipeline.given import coerce
from ristretto.pipeline.runnable import runnable
from ristretto.pipeline.sound import check_weights
from ristretto.pipeline.watched import WatchedNet

__all__ = ["ExportOptions", "Exported", "export"]


@one_job()
def export(options: ExportOptions) -> Exported:
    """Write a quantized net for others.

    Raises:
        RistrettoError: a user's mistake, or a net that the target cannot hold.
    """
    coerce(options)
    target = target_of(options.target)
    _check_options(options, target.options)
    write = target.load()
    asked, options = options.images, replace(options, images=options.images or target.images)
    net, weights, simulation = load(
        NetOptions(
            options.model,
            options.weights,
            level=options.level,
            stages=options.stages,
            rounding=options.rounding,
            seed=options.seed,
            plugins=options.plugins,
            data_root=options.data_root,
            untrusted=options.untrusted,
            arithmetic=Arithmetic.INTEGER,
            accumulator=options.accumulator,
            dialect=options.dialect,
            nearest=options.nearest,
        )
    )
    if weights is None:
        raise UsageError("no weights are given", file=net.file, cure="name the weights file with --weights")
    if not simulation.formats:
        raise UsageError("no layer of this net has number formats", file=net.file, cure="quantize it first")
    check_weights(net, weights)
    wanted = [] if options.blobs is None else [net.finals[blob] for blob in options.blobs if blob in net.finals]
    net, left_out = runnable(net, wanted)
    done = write(
        ExportJob(
            options,
            net,
            weights,
            simulation,
            shapes=lambda: input_shapes(net, weights, options.inputs, options.data_root, options.seed),
            images=lambda count: _images(net, options, count, exactly=asked > 0),
            run=lambda way, values, batch: WatchedNet(net, weights, way, tuple(values)).run(batch),
        )
    )
    return Exported(done.lines, (*left_out, *done.warnings))


def _check_options(options: ExportOptions, taken: frozenset[str]) -> None:
    """Refuse what the target does not know, so that nobody relies on it."""
    usual = ExportOptions(options.model, options.weights, options.output)
    for name in sorted(SPECIAL - taken):
        if getattr(options, name) != getattr(usual, name):
            what = f"target '{options.target}' has no option '{name}'"
            raise UsageError(what, cure=f"leave it out; it takes {', '.join(sorted(taken))}")


def _images(net: NetSpec, options: ExportOptions, count: int, *, exactly: bool) -> Batch:
    """The first images of a net's data as one batch; fewer, if there are no more and it need not be exactly so many."""
    if count < 1:
        raise UsageError("at least one image is needed", cure="give --images 1 or more")
    feed = open_feed(net, inputs=options.inputs, data_root=options.data_root, seed=options.seed, batched=True)
    if feed.images is not None and not exactly:
        count = max(1, min(count, feed.images))
    if feed.images is not None and feed.images < count:
        what = f"{count} images are asked for, the source holds {feed.images}"
        raise UsageError(what, file=net.file, cure=f"give --images {feed.images} or less")
    parts: list[Batch] = []
    for batch in islice(feed.single_pass(), count):
        parts.append(batch)
        if sum(_length(part) for part in parts) >= count:
            break
    if not parts or sum(_length(part) for part in parts) < count:
        raise DataError(f"the data source gave fewer than {count} images", file=net.file)
    return {blob: _first([part[blob] for part in parts], count) for blob in parts[0]}


def _length(batch: Batch) -> int:
    return max((array.shape[0] for array in batch.values() if array.ndim), default=1)


def _first(arrays: Sequence[Array], count: int) -> Array:
    if not arrays[0].ndim:
        return arrays[0]
    joined: Array = np.concatenate(arrays)[:count]
    return joined

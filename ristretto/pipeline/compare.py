"""Two nets side by side, usually a quantized one and its float twin: which layer is to blame for the error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.parameters import Blobs
from ristretto.caffe.shapes import declared_shapes
from ristretto.decide.plan import QuantPlan
from ristretto.errors import DataError, UsageError
from ristretto.numerics.formats import Format
from ristretto.numerics.layer_formats import FLOAT_LAYER, LayerFormats
from ristretto.numerics.measures import decibels
from ristretto.pipeline.device import on_device
from ristretto.pipeline.evaluate import NetOptions, load
from ristretto.pipeline.feed import Batch, Feed, fed_layers, open_feed
from ristretto.pipeline.pairs import Pair, find_pairs, is_compared
from ristretto.pipeline.runnable import runnable
from ristretto.pipeline.sound import weight_warnings
from ristretto.pipeline.watched import WatchedNet
from ristretto.report.comparison import Comparison, LayerComparison

BYTES_AT_ONCE = 1 << 28
"""About how many bytes of values of the two nets are held at once: so many images are run together."""

Array = NDArray[np.float32]


def compare(options: NetOptions, against: Path, against_weights: tuple[Path, ...] = (), images: int = 64) -> Comparison:
    """Compare two nets layer by layer on the same images.

    Args:
        options: the first net, usually the float one; the second is simulated in the same way, with its own formats.
        against: the second net's prototxt, usually a quantized one. Its own data is not read.
        against_weights: its weights files; none for those of the first net.
        images: how many images to look at, from the first on; at most those that the first net's data has.

    Raises:
        UsageError: the nets have no layer in common, or values of different shapes.
        RistrettoError: another mistake of the user's.
    """
    if images < 1:
        raise UsageError("at least one image is needed to compare nets")
    net, weights, simulation = load(replace(options, dialect="auto"))
    other, other_weights, other_simulation = load(
        replace(options, model=against, weights=against_weights or options.weights)
    )
    net, left_out = runnable(net, ())
    other, left_out_there = runnable(other, ())
    pairs = find_pairs(net, other, other_simulation.formats)
    if not pairs:
        cure = "layers are matched by name: was the one net made from the other?"
        raise UsageError(f"the net has no layer in common with {net.file}", file=other.file, cure=cure)
    broken = [*weight_warnings(net, weights), *weight_warnings(other, other_weights)]
    values = tuple(dict.fromkeys(value for pair in pairs for value in pair.first_values))
    other_values = tuple(dict.fromkeys(value for pair in pairs for value in pair.second_values))
    with on_device(options.gpu):
        first = WatchedNet(net, weights, simulation, values, options.threads)
        second = WatchedNet(other, other_weights, other_simulation, other_values, options.threads)
    feed = open_feed(net, inputs=options.inputs, data_root=options.data_root, seed=options.seed, batched=True)
    _check_fed(net, other, feed.shapes)
    size = _check_shapes(first, second, pairs, feed)
    sums = _Sums(first, second, pairs)
    done = 0
    for batch in _batches(feed, images, size):
        sums.add(batch)
        done += _images_in(batch)
    if not done:
        raise DataError("the data source gave no batch", file=net.file)
    layers = _with_falls(sums.layers(), pairs, other)
    named = {layer.name for layer in layers} | {name for layer in layers for name in layer.folded}
    return Comparison(
        first=net.file,
        second=other.file,
        images=done,
        plan=QuantPlan(other_simulation.formats),
        layers=layers,
        worst_own=min((layer for layer in layers if layer.own_db < math.inf), key=lambda own: own.own_db, default=None),
        steepest_fall=max((layer for layer in layers if (layer.fall_db or 0.0) > 0.0), key=_fall, default=None),
        only_first=_unnamed(net, named),
        only_second=_unnamed(other, named),
        warnings=tuple(dict.fromkeys([*left_out, *left_out_there, *broken])),
    )


def _check_fed(net: NetSpec, other: NetSpec, fed: Mapping[str, Shape]) -> None:
    """Refuse a second net that reads other blobs than the first, or states other shapes for them."""
    for layer in fed_layers(other):
        declared = declared_shapes(layer) or (None,) * len(layer.tops)
        for blob, shape in zip(layer.tops, declared, strict=True):
            if blob not in fed:
                what = f"this net reads a blob '{blob}', {net.file} reads {', '.join(fed) or 'nothing'}"
                raise UsageError(what, file=other.file, layer=layer.name, cure="compare nets with the same inputs")
            if shape is not None and shape[1:] != fed[blob][1:]:
                what = f"this net reads '{blob}' of shape {list(shape)}, {net.file} is fed {list(fed[blob])}"
                raise UsageError(what, file=other.file, layer=layer.name, cure="compare nets with the same inputs")


def _check_shapes(first: WatchedNet, second: WatchedNet, pairs: Sequence[Pair], feed: Feed) -> int:
    """Refuse values of different shapes; return how many images may be run at once."""
    here, there = first.fit(feed.shapes).shapes.values, second.fit(feed.shapes).shapes.values
    for pair in pairs:
        values = [(end.against, end.value) for end in pair.ends]
        for mine, other in [*zip(pair.first.inputs, pair.second.inputs, strict=True), *values]:
            if here[mine] != there[other]:
                what = f"its blob '{other}' has shape {list(there[other])}, in {first.net.file} {list(here[mine])}"
                cure = "compare a net with one that was made from it"
                raise UsageError(what, layer=pair.second.name, file=second.net.file, cure=cure)
    elements = sum(math.prod(here[value]) for value in first.values)
    elements += sum(math.prod(there[value]) for value in second.values)
    held = max(feed.batch_size, 1)
    return max(1, min(held, BYTES_AT_ONCE * held // (4 * max(elements, 1))))


def _batches(feed: Feed, images: int, size: int) -> Iterator[Batch]:
    """Batches of so many images at most, until there were enough of them."""
    left = images
    for batch in feed.single_pass():
        lengths = {array.shape[0] if array.ndim else 0 for array in batch.values()}
        if len(lengths) != 1 or 0 in lengths:
            yield batch  # it has no axis of images, or not in every blob
            left -= _images_in(batch)
        else:
            end = min(left, *lengths)
            for start in range(0, end, size):
                yield {blob: array[start : min(start + size, end)] for blob, array in batch.items()}
            left -= end
        if left <= 0:
            return


def _images_in(batch: Batch) -> int:
    first = next(iter(batch.values()), None)
    return 1 if first is None or first.ndim == 0 else first.shape[0]


@dataclass
class _Sum:
    """What is added up for one top."""

    power: float = 0.0
    noise: float = 0.0
    own: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    elements: int = 0
    saturated: int = 0
    read: int = 0
    saturated_read: int = 0


class _Sums:
    """Adds up, batch by batch, what the comparison says in the end."""

    def __init__(self, first: WatchedNet, second: WatchedNet, pairs: Sequence[Pair]) -> None:
        self.first = first
        self.second = second
        self.pairs = pairs
        self.sums = [[_Sum() for _ in pair.ends] for pair in pairs]

    def add(self, batch: Batch) -> None:
        """Run both nets on a batch, and each layer that may make an error on the first net's values."""
        here, there = self.first.run(batch), self.second.run(batch)
        fed = {blob: array.shape for blob, array in batch.items()}
        blobs, other_blobs = self.first.fit(fed).blobs, self.second.fit(fed).blobs
        for pair, sums in zip(self.pairs, self.sums, strict=True):
            alone: Sequence[Array | None] = [None] * len(pair.first.outputs)
            errs = self._may_err(pair, blobs[pair.number], other_blobs[pair.other_number])
            if errs:
                alone = self.second.run_layer(pair.other_number, [here[value] for value in pair.first.inputs]) or alone
            formats = self._formats(pair)
            read = [there[value] for value in dict.fromkeys(pair.second.inputs)]
            for end, item in zip(pair.ends, sums, strict=True):
                exact, made = here[end.against], there[end.value]
                seen = np.maximum(exact, 0.0) if end.rectified else exact
                item.power += _energy(seen)
                item.noise += _distance(seen, made)
                item.own += _distance(seen, alone[end.position]) if errs else 0.0
                item.low = float(np.minimum(item.low, exact.min(initial=math.inf)))
                item.high = float(np.maximum(item.high, exact.max(initial=-math.inf)))
                item.elements += made.size
                item.saturated += _at_the_ends(made, formats.output)
                item.read += sum(array.size for array in read)
                item.saturated_read += sum(_at_the_ends(array, formats.input) for array in read)

    def layers(self) -> list[LayerComparison]:
        """The facts, in the order of the pairs; falls are not known yet."""
        return [
            LayerComparison(
                name=pair.second.name,
                type=pair.second.type,
                top=pair.second.tops[end.position],
                position=end.position,
                folded=end.folded,
                low=item.low,
                high=item.high,
                input_saturated=_share(item.saturated_read, item.read, self._formats(pair).input),
                output_saturated=_share(item.saturated, item.elements, self._formats(pair).output),
                own_db=decibels(item.power, item.own),
                so_far_db=decibels(item.power, item.noise),
                fall_db=None,
            )
            for pair, sums in zip(self.pairs, self.sums, strict=True)
            for end, item in zip(pair.ends, sums, strict=True)
        ]

    def _formats(self, pair: Pair) -> LayerFormats:
        return self.second.simulation.formats.get(pair.second.name, FLOAT_LAYER)

    def _may_err(self, pair: Pair, blobs: Blobs, other_blobs: Blobs) -> bool:
        """Whether the layer alone may compute something else in the second net: other formats, or other weights."""
        if self._formats(pair) != self.first.simulation.formats.get(pair.first.name, FLOAT_LAYER):
            return True
        return len(blobs) != len(other_blobs) or not all(map(np.array_equal, blobs, other_blobs))


def _energy(values: Array) -> float:
    exact = values.astype(np.float64).ravel()
    return float(exact @ exact)


def _distance(values: Array, others: Array | None) -> float:
    """The sum of squares of the differences; NaN without others, or where data decided on another shape."""
    if others is None or values.shape != others.shape:
        return math.nan
    with np.errstate(invalid="ignore", over="ignore"):
        return _energy(np.subtract(values, others, dtype=np.float64))


def _at_the_ends(values: Array, fmt: Format | None) -> int:
    """How many values lie at an end of a format or beyond; a zero at the end of an unsigned one lost nothing."""
    if fmt is None:
        return 0
    with np.errstate(over="ignore"):  # a limit beyond float32 is infinite there
        low = values <= fmt.min if fmt.min < 0.0 else values < fmt.min
        return int(np.count_nonzero(low | (values >= fmt.max)))


def _share(part: int, whole: int, fmt: Format | None) -> float | None:
    return None if fmt is None else part / whole if whole else 0.0


def _with_falls(
    layers: Sequence[LayerComparison], pairs: Sequence[Pair], other: NetSpec
) -> tuple[LayerComparison, ...]:
    """The facts with the fall of the SQNR at each layer.

    Where the first errors of a net arise the SQNR falls from infinity, which says nothing. These layers are taken to
    fall from where a middling layer would have brought them, the median of the layers' own SQNRs.
    """
    ends = (end.value for pair in pairs for end in pair.ends)
    seen = {value: layer.so_far_db for value, layer in zip(ends, layers, strict=True)}
    own = [layer.own_db for layer in layers if math.isfinite(layer.own_db)]
    usual = median(own) if own else math.inf
    reads: dict[str, float] = {}
    reached: dict[str, float] = {}
    for layer in other.layers:
        before = min((reached[value] for value in layer.inputs), default=math.inf)
        for value in layer.outputs:
            reads[value], reached[value] = before, seen.get(value, before)
    found = []
    for value, facts in zip(seen, layers, strict=True):
        start = usual if reads[value] == math.inf else reads[value]
        fall = start - facts.so_far_db
        known = facts.so_far_db != math.inf and not math.isnan(fall)
        found.append(replace(facts, fall_db=fall if known else None))
    return tuple(found)


def _fall(layer: LayerComparison) -> float:
    return layer.fall_db or 0.0


def _unnamed(net: NetSpec, named: set[str]) -> tuple[str, ...]:
    return tuple(layer.name for layer in net.layers if is_compared(layer) and layer.name not in named)

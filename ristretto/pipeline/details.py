"""What a report says of each quantized layer: the spread of its values, what its formats lose, its size."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.parameters import Blobs, with_shared
from ristretto.caffe.rules import NetState
from ristretto.caffe.upgrade import upgrade_net
from ristretto.caffe.weights import Weights, read_weights
from ristretto.decide.plan import LayerSites, QuantPlan
from ristretto.decide.stats import TensorStats
from ristretto.graph.build import Simulation
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format
from ristretto.numerics.histogram import bin_counts
from ristretto.numerics.layer_formats import FLOAT_LAYER, LayerFormats
from ristretto.numerics.measures import decibels
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.calibrate import parameter_blobs, values_read
from ristretto.pipeline.feed import Batch
from ristretto.pipeline.job import Job
from ristretto.pipeline.pairs import rectified_values
from ristretto.pipeline.search import Outcome, Sites
from ristretto.pipeline.watched import WatchedNet
from ristretto.report.details import Histogram, LayerDetails, NetDetails, SiteDetails, WeightSize

DETAIL_IMAGES = 16
"""How many calibration images the values are looked at on."""

BINS = 64
"""Bins of a histogram."""

BYTES_AT_ONCE = 1 << 27
"""About how many bytes of values are held at once: so many images are run together."""

FLOAT_BITS = 32

Array = NDArray[np.float32]


def find_details(job: Job, sites: Sites, outcome: Outcome) -> NetDetails:
    """Look at the float values of all quantized sites, in one pass over a few calibration images.

    Args:
        job: the job.
        sites: what it knew of the layers; the histograms span the ranges measured.
        outcome: what it found.
    """
    plan = outcome.plan
    layers = [layer for layer in job.net.layers if layer.name in plan.layers and layer.name in sites]
    rectified = rectified_values(job.net, plan.layers)
    tallies = {
        layer.name: _tallies(job, layer, sites[layer.name], plan.layers[layer.name], rectified) for layer in layers
    }
    images = _look_at_values(job, [tally for of_layer in tallies.values() for tally in of_layer.values()])
    net = WatchedNet(job.net, job.weights, Simulation())
    fitted = net.fit(job.feed.shapes)
    macs = {layer.name: rule.macs for layer, rule in zip(job.net.layers, fitted.shapes.layers, strict=True)}
    found = {}
    for layer in layers:
        formats = plan.layers[layer.name]
        of_layer = {role: tally.details() for role, tally in tallies[layer.name].items()}
        weights, _ = parameter_blobs(layer, job.weights)
        rounded, _ = parameter_blobs(layer, outcome.weights or job.weights)
        if weights is not None and rounded is not None and weights.size:
            tally = _Tally((), formats.params, sites[layer.name].ranges.params, _rounding(job, formats))
            tally.add(weights, rounded)
            of_layer["params"] = tally.details()
        per_image = macs[layer.name] // max(job.feed.batch_size, 1)
        found[layer.name] = LayerDetails(of_layer, _size(layer, job.weights, formats), per_image)
    return NetDetails(images, found, _given_bytes(job), _bytes(job, plan))


@dataclass
class _Tally:
    """What is added up for one site.

    Attributes:
        values: the names of its values; none for weights.
        fmt: its format, None for float.
        stats: the range that its histogram spans.
        rounding: how it is rounded.
        rectified: whether only ReLUs read it, so that nothing is lost with its negative part.
    """

    values: tuple[str, ...]
    fmt: Format | None
    stats: TensorStats
    rounding: Rounding
    rectified: bool = False
    elements: int = 0
    saturated: int = 0
    power: float = 0.0
    noise: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def span(self) -> tuple[float, float] | None:
        """The range of the histogram; a constant gets one around it."""
        low, high = self.stats.min, self.stats.max
        if not (math.isfinite(low) and math.isfinite(high)):
            return None
        if low < high:
            return low, high
        around = max(abs(low), 1.0) / 2
        return low - around, high + around

    def add(self, exact: Array, given: Array | None = None) -> None:
        """Add values.

        Args:
            exact: the float values.
            given: what is rounded in their place.
        """
        self.elements += exact.size
        if self.span is not None:
            self.counts += bin_counts(exact, *self.span, BINS)
        if self.fmt is None:
            return
        wanted = np.maximum(exact, 0.0) if self.rectified else exact
        rounded = _rounded(wanted if given is None else given, self.fmt, self.rounding)
        self.saturated += _beyond(wanted, self.fmt)
        with np.errstate(invalid="ignore", over="ignore"):
            self.power += _energy(wanted)
            self.noise += _energy(wanted - rounded)

    def details(self) -> SiteDetails:
        """What was found out."""
        span, fmt = self.span, self.fmt
        histogram = None if span is None else Histogram(*span, tuple(map(int, self.counts)))
        if fmt is None:
            return SiteDetails(self.elements, histogram)
        step = fmt.step if isinstance(fmt, DynamicFixedPoint) else None
        lost = decibels(self.power, self.noise)
        return SiteDetails(self.elements, histogram, (fmt.min, fmt.max), step, self.saturated, lost, self.rectified)


def _tallies(
    job: Job, layer: LayerSpec, site: LayerSites, formats: LayerFormats, rectified: Collection[str]
) -> dict[str, _Tally]:
    """Those of a layer's input and output."""
    rounding, (output, *_) = _rounding(job, formats), layer.outputs
    return {
        "in": _Tally(values_read(layer), formats.input, site.ranges.input, rounding),
        "out": _Tally((output,), formats.output, site.ranges.output, rounding, output in rectified),
    }


def _rounding(job: Job, formats: LayerFormats) -> Rounding:
    rounding = formats.rounding or job.options.rounding
    # One draw of many tells nothing of a site; the nearest value does.
    return Rounding.HALF_EVEN if rounding is Rounding.STOCHASTIC else rounding


def _look_at_values(job: Job, tallies: Sequence[_Tally]) -> int:
    """Run the float net on some images and add up its values; return how many images those were."""
    values = tuple(dict.fromkeys(value for tally in tallies for value in tally.values))
    if not values:
        return 0
    net = WatchedNet(job.net, job.weights, Simulation(seed=job.options.seed), values, job.options.threads)
    shapes = net.fit(job.feed.shapes).shapes.values
    held = max(job.feed.batch_size, 1)
    needed = 4 * sum(math.prod(shapes[value]) for value in values)
    size = max(1, min(held, BYTES_AT_ONCE * held // max(needed, 1)))
    images = 0
    for piece in _pieces(job.images_to_look_at(DETAIL_IMAGES), size):
        made = net.run(piece)
        images += len(next(iter(piece.values()))) if piece else held  # a net that makes its own data is fed nothing
        for tally in tallies:
            for value in tally.values:
                tally.add(made[value])
    return images


def _pieces(batches: Sequence[Batch], size: int) -> Iterator[Batch]:
    """The images in pieces, no more than are wanted; a batch without an axis of images stays whole."""
    left = DETAIL_IMAGES
    for batch in batches:
        lengths = {array.shape[0] if array.ndim else 0 for array in batch.values()}
        if len(lengths) != 1 or 0 in lengths:
            yield batch
            left -= 1
        else:
            end = min(left, *lengths)
            for start in range(0, end, size):
                yield {blob: array[start : min(start + size, end)] for blob, array in batch.items()}
            left -= end
        if left <= 0:
            return


def _rounded(values: Array, fmt: Format, rounding: Rounding) -> Array:
    if isinstance(fmt, ChannelFixedPoint):
        return fmt.quantize(values.reshape(len(fmt.fls), -1), rounding).reshape(values.shape)
    return fmt.quantize(values, rounding)


def _beyond(values: Array, fmt: Format) -> int:
    """How many values lie beyond the limits of a format."""
    if isinstance(fmt, ChannelFixedPoint):
        channels = values.reshape(len(fmt.fls), -1)
        return sum(_beyond(channel, each) for channel, each in zip(channels, fmt.channels, strict=True))
    with np.errstate(over="ignore"):  # a limit beyond float32 is infinite there
        return int(np.count_nonzero((values < fmt.min) | (values > fmt.max)))


def _energy(values: Array) -> float:
    exact = values.astype(np.float64).ravel()
    return float(exact @ exact)


def _size(layer: LayerSpec, weights: Weights, formats: LayerFormats) -> WeightSize:
    blobs = weights.get(layer.name) or ()
    params, bias = parameter_blobs(layer, weights)
    count, biases = (0 if blob is None else blob.size for blob in (params, bias))
    # What the layer has beside the two, a BatchNorm's factor aside, which is divided out, is not quantized.
    rest = 0 if layer.type == "BatchNorm" and params is not None else sum(blob.size for blob in blobs) - count - biases
    bits = count * _bits(formats.params) + biases * _bits(formats.bias) + rest * FLOAT_BITS
    return WeightSize(count, biases, 4 * sum(blob.size for blob in blobs), -(-bits // 8))


def _bits(fmt: Format | None) -> int:
    return FLOAT_BITS if fmt is None else fmt.bw


def _bytes(job: Job, plan: QuantPlan) -> int:
    """Bytes of all parameters in the formats of a plan; what layers share is there once."""
    return sum(
        _size(layer, job.weights, plan.layers.get(layer.name, FLOAT_LAYER)).bytes
        for layer, blobs in _first_holders(job.net, job.weights)
        if blobs
    )


def _first_holders(net: NetSpec, weights: Weights) -> Iterator[tuple[LayerSpec, Blobs]]:
    """The layers with the blobs that no layer before them has."""
    seen: set[int] = set()
    for layer in net.layers:
        blobs = tuple(blob for blob in weights.get(layer.name) or () if id(blob) not in seen)
        seen.update(map(id, blobs))
        yield layer, blobs


def _given_bytes(job: Job) -> int:
    """Bytes of all parameters of the net as it was given, before anything was folded."""
    options, net, weights = job.options, job.net, job.weights
    if options.treatment.fold:
        state = NetState("TEST", options.level, options.stages)
        net = build_net(upgrade_net(read_prototxt(options.model)), state)
        weights = with_shared(net, read_weights(options.weights))
    return sum(4 * blob.size for _, blobs in _first_holders(net, weights) for blob in blobs)

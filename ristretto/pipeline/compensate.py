"""Weights rounded layer by layer so that outputs stay close, on the calibration images, without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.catalogue.convolution import ConvParams, conv_params
from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.weights import Weights
from ristretto.decide.compensate import bias_change, compensated_rounding, moments
from ristretto.decide.plan import QuantPlan, group_of
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.feed import Batch, Feed
from ristretto.pipeline.walk import Walk

PLACES = 20_000
"""About how many places of the images a layer's moments are taken from."""

MOST_INPUTS = 4_608
"""Layers with more inputs per output are rounded plainly: their matrix of moments would not fit."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Compensation:
    """Images to look at, and the net in the phase in which it is scored.

    Attributes:
        net: the net of phase TEST.
        weights: its float weights.
        batches: what to feed it.
        threads: threads per run.
        rounding: whether weights are rounded with error feedback, or plainly.
        biases: whether biases are corrected.
    """

    net: NetSpec
    weights: Weights
    batches: tuple[Batch, ...]
    threads: int = 0
    rounding: bool = True
    biases: bool = True

    def apply(self, plan: QuantPlan) -> Weights:
        """The weights for a plan: rounded to its formats with error feedback, biases corrected.

        Each layer sees the inputs that it has once all layers before it are rounded, so it makes good what they lost. A
        layer that cannot be treated so (see ``_treated``) keeps its weights, which are then rounded plainly.
        """
        done = {layer.name: layer.blobs for layer in self.weights.layers if layer.blobs}
        exact, rounded = (Walk(self.net, self.batches, self.threads) for _ in range(2))
        for number, layer in enumerate(self.net.layers):
            fmt = plan.layers[layer.name].params if layer.name in plan.layers else None
            blobs = done.get(layer.name)
            if blobs is None or not isinstance(fmt, (DynamicFixedPoint, ChannelFixedPoint)):
                continue
            if _treated(layer, blobs):
                exact.advance(number, self.weights, {})
                rounded.advance(number, _with_blobs(self.weights, done), plan.layers)
                value = layer.inputs[0]
                done[layer.name] = self._layer(
                    layer, blobs, plan.layers[layer.name], exact.values(value), rounded.values(value)
                )
        return _with_blobs(self.weights, done)

    def _layer(
        self,
        layer: LayerSpec,
        blobs: tuple[Array, ...],
        formats: LayerFormats,
        float_values: list[Array],
        quantized_values: list[Array],
    ) -> tuple[Array, ...]:
        if formats.input is not None:
            quantized_values = [formats.input.quantize(array) for array in quantized_values]
        assert formats.params is not None
        float_inputs = _inputs_of(layer, float_values)
        quantized_inputs = _inputs_of(layer, quantized_values)
        groups = len(float_inputs)
        weights = blobs[0].astype(np.float64).reshape(groups, -1, float_inputs[0].shape[1])
        outputs = weights.shape[1]
        rounded, changes = np.empty_like(weights), np.empty((groups, outputs))
        for number in range(groups):
            seen = moments(float_inputs[number].astype(np.float64), quantized_inputs[number].astype(np.float64))
            part = _of_rows(formats.params, slice(number * outputs, (number + 1) * outputs))
            if self.rounding:
                rounded[number] = compensated_rounding(weights[number], seen, part.quantize)
            else:
                rounded[number] = part.quantize(weights[number])
            changes[number] = bias_change(weights[number], rounded[number], seen)
        new = rounded.astype(np.float32).reshape(blobs[0].shape) if self.rounding else blobs[0]
        if len(blobs) == 1 or not self.biases:
            return (new, *blobs[1:])
        return (new, (blobs[1] + changes.reshape(blobs[1].shape)).astype(np.float32), *blobs[2:])


def batches_to_look_at(calibration: Feed, test: Feed, images: int) -> tuple[Batch, ...]:
    """Images for a net: of the calibration data, or of the TEST data where the two do not fit the same net."""
    fits = all(calibration.shapes.get(blob, ())[1:] == shape[1:] for blob, shape in test.shapes.items())
    feed = calibration if fits else test
    count = -(-images // feed.batch_size)
    return tuple({blob: batch[blob] for blob in test.shapes} for batch in islice(feed.batches(), count))


def _treated(layer: LayerSpec, blobs: tuple[Array, ...]) -> bool:
    """Whether a layer's outputs are sums of products with inputs that can be listed place by place."""
    if layer.type == "InnerProduct":
        params = layer.view.child("inner_product_param")
        return not params.flag("transpose") and params.integer("axis") == 1 and blobs[0].shape[-1] <= MOST_INPUTS
    if group_of(layer.type) != "conv" or layer.type == "Deconvolution" or len(layer.inputs) > 1:
        return False
    return blobs[0].ndim == 4 and int(np.prod(blobs[0].shape[1:])) <= MOST_INPUTS


def _inputs_of(layer: LayerSpec, values: list[Array]) -> list[Array]:
    """What one output is summed up from, group by group: (places, inputs) at a sample of places."""
    if layer.type == "InnerProduct":
        return [np.concatenate([value.reshape(len(value), -1) for value in values])]
    params = conv_params(layer, values[0].shape)
    places = max(1, PLACES // sum(map(len, values)))
    columns = np.concatenate([_columns(value, params, places) for value in values])
    return np.split(columns, params.group, axis=1)


def _columns(images: Array, params: ConvParams, places: int) -> Array:
    """The windows of a convolution at some places of each image: (images * places, channels * kernel)."""
    window = params.window
    pads = [(0, 0), (0, 0), *((pad, pad) for pad in window.pad)]
    reach = [step * (size - 1) + 1 for size, step in zip(window.kernel, window.dilation, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(np.pad(images, pads), reach, axis=(2, 3))
    views = views[:, :, :: window.stride[0], :: window.stride[1], :: window.dilation[0], :: window.dilation[1]]
    rows, columns = views.shape[2:4]
    found = []
    for number, image in enumerate(views):
        # The same places for both nets: they follow from the image's number alone.
        chosen = np.random.default_rng(number).permutation(rows * columns)[:places]
        picked = image[:, chosen // columns, chosen % columns]
        found.append(picked.transpose(1, 0, 2, 3).reshape(len(chosen), -1))
    return np.concatenate(found)


def _of_rows(fmt: Format, rows: slice) -> Format:
    """The format of some outputs' weights."""
    return replace(fmt, fls=fmt.fls[rows]) if isinstance(fmt, ChannelFixedPoint) else fmt


def _with_blobs(weights: Weights, blobs: Mapping[str, tuple[Array, ...]]) -> Weights:
    layers = tuple(
        replace(layer, blobs=blobs.get(layer.name, layer.blobs)) if layer.blobs else layer for layer in weights.layers
    )
    return Weights(layers, weights.files)

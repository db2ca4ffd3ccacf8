"""Measuring ranges: the float net over some batches, each value where it is made."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.weights import Weights
from ristretto.decide.choose import LayerRanges, params_il
from ristretto.decide.plan import JOINING_TYPES, OTHER_TYPES, group_of
from ristretto.decide.stats import TensorStats
from ristretto.errors import NetError
from ristretto.graph.build import Simulation
from ristretto.pipeline.feed import Feed
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.score import run_pass
from ristretto.pipeline.sound import Pass
from ristretto.report.events import Listener


@dataclass(frozen=True, slots=True)
class Calibration:
    """The net and data that ranges are measured on."""

    net: NetSpec
    feed: Feed
    batches: int


def quantizable_layers(net: NetSpec, other_types: Collection[str] = (), named: Collection[str] = ()) -> list[LayerSpec]:
    """The layers that are quantized: convolutions, fully connected layers, those of other types and those named.

    Raises:
        NetError: there is none of the first two.
    """
    layers = [
        layer
        for layer in net.layers
        if group_of(layer.type) is not None or layer.type in other_types or layer.name in named
    ]
    if all(group_of(layer.type) is None for layer in layers):
        quantized = any(layer.type.endswith("Ristretto") for layer in net.layers)
        cure = "it is quantized already: give the float net" if quantized else "is it the right net and phase?"
        raise NetError("the net has no Convolution or InnerProduct layer", file=net.file, cure=cure)
    return layers


def measure_ranges(
    calibration: Calibration,
    layers: list[LayerSpec],
    weights: Weights,
    *,
    seed: int,
    threads: int,
    listener: Listener,
) -> dict[str, LayerRanges]:
    """The ranges of each layer's first bottom, first top and weights.

    A value's range is taken where the value is made, so that a layer that works in place afterwards does not hide it.

    Args:
        calibration: what to run.
        layers: the layers of the TEST net that are to be quantized.
        weights: the trained weights.
        seed: of the net's random layers.
        threads: threads per run.
        listener: hears the pass.

    Raises:
        NetError: a layer does not run in the calibration phase, or makes NaN or infinity there.
    """
    net = calibration.net
    measured = [_same_layer(net, layer) for layer in layers]
    runner = Runner(
        net,
        weights,
        [net.finals[blob] for blob in net.outputs],
        list(dict.fromkeys(value for layer in measured for value in (*values_read(layer), layer.outputs[0]))),
        Simulation(seed=seed),
        threads,
    )
    result = run_pass(runner, calibration.feed, net.outputs, calibration.batches, "calibration", listener)
    if not all(math.isfinite(stats.abs_max) for stats in result.ranges.values()):
        Pass(net, weights, runner.simulation, calibration.feed, calibration.batches, threads).refuse()
    return {
        layer.name: with_params(
            _joined(result.ranges, values_read(layer)), result.ranges[layer.outputs[0]], layer, weights
        )
        for layer in measured
    }


def with_params(inputs: TensorStats, outputs: TensorStats, layer: LayerSpec, weights: Weights) -> LayerRanges:
    """The ranges of a layer: those of its values, and those of its weights as the weights file has them."""
    params, bias = parameter_blobs(layer, weights)
    return LayerRanges(inputs, outputs, blob_stats(params), blob_stats(bias) if bias is not None else None)


def values_read(layer: LayerSpec) -> tuple[str, ...]:
    """The values whose range counts as the input's: the first bottom, of a layer that joins several all of them."""
    return layer.inputs if layer.type in JOINING_TYPES else layer.inputs[:1]


def _joined(ranges: Mapping[str, TensorStats], values: tuple[str, ...]) -> TensorStats:
    """The range over several values of the same batches."""
    first, *rest = (ranges[value] for value in values)
    joined = first
    for stats in rest:
        joined = joined.merged(stats)
    return replace(joined, batches=first.batches)


def _same_layer(net: NetSpec, layer: LayerSpec) -> LayerSpec:
    found = net.layer(layer.name)
    if found is None or not found.inputs:
        what = f"the layer does not run in phase {net.phase}, where the ranges are measured"
        raise NetError(what, layer=layer.name, file=net.file, cure="measure them with --calibration_phase TEST")
    return found


def parameter_blobs(
    layer: LayerSpec, weights: Weights
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """The weights and the bias of a layer; of a BatchNorm the means and variances, its factor divided out."""
    blobs = weights.get(layer.name) or ()
    if layer.type == "BatchNorm" and len(blobs) == 3:
        factor = float(blobs[2].ravel()[0]) if blobs[2].size else 0.0
        stored = np.concatenate([blob.ravel() for blob in blobs[:2]]) / (factor or np.inf)
        return stored.astype(np.float32), None
    if layer.type in OTHER_TYPES and layer.type != "Scale":
        return None, None
    return (blobs[0] if blobs else None), (blobs[1] if len(blobs) > 1 else None)


def blob_stats(blob: NDArray[np.float32] | None) -> TensorStats:
    """The range of a blob of weights; no batches for one that is not there."""
    if blob is None or not blob.size:
        return TensorStats(0.0, 0.0, 0)
    return TensorStats(float(np.min(blob)), float(np.max(blob)), 1)


def channel_ils(layer: LayerSpec, weights: Weights) -> tuple[int, ...]:
    """Integer length of the weights of each output channel; none for layers whose outputs share their weights' axis 0.

    Those are Deconvolution, whose weights begin with the input channels, and a transposed InnerProduct.
    """
    blobs = weights.get(layer.name)
    transposed = layer.type == "InnerProduct" and layer.view.child("inner_product_param").flag("transpose")
    if not blobs or layer.type == "Deconvolution" or group_of(layer.type) is None or transposed:
        return ()
    # Legacy files keep the weights of an InnerProduct as (1, 1, outputs, inputs).
    outputs = blobs[0].shape[-2] if layer.type == "InnerProduct" else blobs[0].shape[0]
    return tuple(params_il(blob_stats(channel)) for channel in blobs[0].reshape(outputs, -1))


def suspicious_ranges(ranges: dict[str, LayerRanges]) -> list[str]:
    """A warning for each range that is one value alone, or not a finite number."""
    warnings = []
    for name, layer in ranges.items():
        parts = (("input", layer.input, False), ("output", layer.output, False), ("weights", layer.params, True))
        for what, stats, plural in parts:
            if not stats.batches:
                continue
            if not math.isfinite(stats.abs_max):
                warnings.append(f"layer '{name}': its {what} {'hold' if plural else 'holds'} NaN or infinity")
            elif stats.abs_max == 0:
                verb = "are" if plural else "is"
                warnings.append(f"layer '{name}': its {what} {verb} all zero, so its format means nothing")
            elif stats.min == stats.max and what == "output":
                warnings.append(f"layer '{name}': its output is {stats.min:g} everywhere, whatever the image")
    return warnings

"""Measuring ranges: the float net over some batches, each value where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.weights import Weights
from ristretto.decide.choose import LayerRanges
from ristretto.decide.plan import group_of
from ristretto.decide.stats import TensorStats
from ristretto.errors import NetError
from ristretto.graph.build import Simulation
from ristretto.pipeline.feed import Feed
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.score import run_pass
from ristretto.report.events import Listener


@dataclass(frozen=True, slots=True)
class Calibration:
    """The net and data that ranges are measured on."""

    net: NetSpec
    feed: Feed
    batches: int


def quantizable_layers(net: NetSpec) -> list[LayerSpec]:
    """The layers that the search quantizes: convolutions and fully connected layers.

    Raises:
        NetError: there are none.
    """
    layers = [layer for layer in net.layers if group_of(layer.type) is not None]
    if not layers:
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
        NetError: a layer does not run in the calibration phase.
    """
    net = calibration.net
    measured = [_same_layer(net, layer) for layer in layers]
    values = [value for layer in measured for value in (layer.inputs[0], layer.outputs[0])]
    runner = Runner(
        net,
        weights,
        [net.finals[blob] for blob in net.outputs],
        list(dict.fromkeys(values)),
        Simulation(seed=seed),
        threads,
    )
    result = run_pass(runner, calibration.feed, net.outputs, calibration.batches, "calibration", listener)
    return {
        layer.name: LayerRanges(
            result.ranges[layer.inputs[0]], result.ranges[layer.outputs[0]], weight_stats(weights, layer.name)
        )
        for layer in measured
    }


def _same_layer(net: NetSpec, layer: LayerSpec) -> LayerSpec:
    found = net.layer(layer.name)
    if found is None or not found.inputs:
        what = f"the layer does not run in phase {net.phase}, where the ranges are measured"
        raise NetError(what, layer=layer.name, file=net.file, cure="measure them with --calibration_phase TEST")
    return found


def weight_stats(weights: Weights, name: str) -> TensorStats:
    """The range of a layer's first weight blob; the bias is left out."""
    blobs = weights.get(name)
    if not blobs or not blobs[0].size:
        return TensorStats(0.0, 0.0, 0)
    return TensorStats(float(np.min(blobs[0])), float(np.max(blobs[0])), 1)


def suspicious_ranges(ranges: dict[str, LayerRanges]) -> list[str]:
    """A warning for each range that is 0 or not a finite number."""
    warnings = []
    for name, layer in ranges.items():
        parts = (("input", layer.input, False), ("output", layer.output, False), ("weights", layer.params, True))
        for what, stats, plural in parts:
            if not math.isfinite(stats.abs_max):
                warnings.append(f"layer '{name}': its {what} {'hold' if plural else 'holds'} NaN or infinity")
            elif stats.abs_max == 0:
                verb = "are" if plural else "is"
                warnings.append(f"layer '{name}': its {what} {verb} all zero, so its format means nothing")
    return warnings

"""Integer lengths by squared error: what each candidate would lose on the calibration images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice

from ristretto.caffe.netspec import LayerSpec
from ristretto.caffe.weights import Weights
from ristretto.decide.choose import IntegerLengths, activation_candidates, least_error, params_il_by_error
from ristretto.decide.plan import LayerSites
from ristretto.decide.ranges_file import ValueRanges
from ristretto.graph.build import Simulation
from ristretto.numerics.formats import DynamicFixedPoint, Format
from ristretto.pipeline.calibrate import Calibration
from ristretto.pipeline.runner import Runner

Asked = tuple[str, Format]


def fitted_to_values(
    sites: Mapping[str, LayerSites],
    calibration: Calibration,
    weights: Weights,
    widths: Collection[int],
    *,
    seed: int = 0,
    threads: int = 0,
) -> dict[str, LayerSites]:
    """The sites with integer lengths of activations that lose least in squared error, for each width.

    One pass over the calibration images serves all widths and candidates.
    """
    layers = {layer.name: layer for layer in calibration.net.layers if layer.name in sites}
    asked = {
        candidate
        for name, site in sites.items()
        for bw in widths
        for value, formats in _candidates(site, layers[name], bw).values()
        for candidate in ((value, fmt) for fmt in formats.values())
    }
    if not asked:
        return dict(sites)
    errors = _errors(calibration, weights, sorted(asked, key=str), seed, threads)
    fitted = {}
    for name, site in sites.items():
        lengths: dict[int, IntegerLengths] = {}
        for bw in widths:
            chosen = {
                side: least_error({il: errors[value, fmt] for il, fmt in formats.items()})
                for side, (value, formats) in _candidates(site, layers[name], bw).items()
            }
            lengths[bw] = replace(site.lengths, **chosen)
        fitted[name] = replace(site, fitted=lengths)
    return fitted


def _candidates(site: LayerSites, layer: LayerSpec, bw: int) -> dict[str, tuple[str, dict[int, DynamicFixedPoint]]]:
    """For the input and, where it has a format of its own, the output: the value, and formats by integer length."""
    sides = {"input": (layer.inputs[0], site.ranges.input, not site.unsigned_input)}
    if not site.readers and not site.wide:
        sides["output"] = (layer.outputs[0], site.ranges.output, not site.unsigned_output)
    return {
        side: (
            value,
            {il: DynamicFixedPoint(bw, bw - il, signed) for il in activation_candidates(stats, signed=signed)},
        )
        for side, (value, stats, signed) in sides.items()
    }


def _errors(
    calibration: Calibration, weights: Weights, asked: list[Asked], seed: int, threads: int
) -> dict[Asked, float]:
    runner = Runner(calibration.net, weights, (), (), Simulation(seed=seed), threads, asked)
    totals = dict.fromkeys(asked, 0.0)
    for batch in islice(calibration.feed.batches(), calibration.batches):
        for key, error in runner.squared_errors(batch).items():
            totals[key] += error
    return totals


def with_fitted(sites: Mapping[str, LayerSites], given: Mapping[str, ValueRanges]) -> dict[str, LayerSites]:
    """The sites with the lengths that a ranges file states."""
    return {
        name: replace(
            site,
            fitted={
                bw: replace(site.lengths, input=inputs, output=outputs)
                for bw, (inputs, outputs) in given[name].fitted.items()
            },
        )
        for name, site in sites.items()
    }


def fitted_to_weights(
    sites: Mapping[str, LayerSites], weights: Weights, widths: Collection[int]
) -> dict[str, LayerSites]:
    """The sites with integer lengths of weights that lose least in squared error, for each width."""
    fitted = {}
    for name, site in sites.items():
        blobs = weights.get(name)
        if blobs and site.has_params and site.group != "other":
            by_width = {bw: params_il_by_error(blobs[0], bw) for bw in widths}
            site = replace(site, fitted_params=by_width)
        fitted[name] = site
    return fitted

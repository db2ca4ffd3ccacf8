"""Integer lengths by what they lose: what each candidate would do to the calibration images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from ristretto.caffe.netspec import LayerSpec
from ristretto.caffe.weights import Weights
from ristretto.decide.choose import (
    activation_candidates,
    least_error,
    params_il_by_error,
    shortest_within,
)
from ristretto.decide.plan import JOINING_TYPES, LayerSites
from ristretto.decide.ranges_file import ValueRanges
from ristretto.decide.stats import TensorStats
from ristretto.graph.build import Measure, Simulation
from ristretto.numerics.formats import DynamicFixedPoint, Format
from ristretto.pipeline.calibrate import Calibration
from ristretto.pipeline.pieces import Pieces
from ristretto.pipeline.runner import Runner

Asked = tuple[str, Format]


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a layer: its values and, by integer length, the formats to compare."""

    values: tuple[str, ...]
    formats: Mapping[int, DynamicFixedPoint]


def fitted_to_values(
    sites: Mapping[str, LayerSites],
    calibration: Calibration,
    weights: Weights,
    widths: Collection[int],
    *,
    percentile: float | None = None,
    seed: int = 0,
    threads: int = 0,
) -> dict[str, LayerSites]:
    """The sites with integer lengths of activations that suit their values best, for each width.

    One pass over the calibration images serves all widths and candidates.

    Args:
        sites: what is known of the layers.
        calibration: what to run.
        weights: the float weights.
        widths: the widths of activations.
        percentile: the percentage of values that must not saturate, of which the shortest length is taken; None takes
            the length that loses least in squared error.
        seed: of the net's random layers.
        threads: threads per run.
    """
    layers = {layer.name: layer for layer in calibration.net.layers if layer.name in sites}
    sides = {(name, bw): _sides(site, layers[name], bw) for name, site in sites.items() for bw in widths}
    asked = {
        (value, fmt)
        for of_layer in sides.values()
        for side in of_layer.values()
        for value in side.values
        for fmt in side.formats.values()
    }
    if not asked:
        return dict(sites)
    measure: Measure = "squared_error" if percentile is None else "saturated"
    losses = _losses(calibration, weights, sorted(asked, key=str), measure, seed, threads)

    def chosen(side: _Side) -> int:
        lost = {il: sum(losses[value, fmt] for value in side.values) for il, fmt in side.formats.items()}
        if percentile is None:
            return least_error(lost)
        return shortest_within(lost, len(side.values) * (1 - percentile / 100))

    return {
        name: replace(
            site,
            fitted={
                bw: replace(site.lengths, **{side: chosen(asked) for side, asked in sides[name, bw].items()})
                for bw in widths
            },
        )
        for name, site in sites.items()
    }


def _sides(site: LayerSites, layer: LayerSpec, bw: int) -> dict[str, _Side]:
    """The input, if it has a format, and the output, if it has one of its own."""
    sides = {}
    if not site.reads_as_stored:
        read = layer.inputs if layer.type in JOINING_TYPES else layer.inputs[:1]
        sides["input"] = _side(read, site.ranges.input, bw, signed=not site.unsigned_input)
    if not site.readers and not site.wide:
        sides["output"] = _side(layer.outputs[:1], site.ranges.output, bw, signed=not site.unsigned_output)
    return sides


def _side(values: tuple[str, ...], stats: TensorStats, bw: int, *, signed: bool) -> _Side:
    candidates = activation_candidates(stats, signed=signed)
    return _Side(values, {il: DynamicFixedPoint(bw, bw - il, signed) for il in candidates})


def _losses(
    calibration: Calibration, weights: Weights, asked: list[Asked], measure: Measure, seed: int, threads: int
) -> dict[Asked, float]:
    """What each rounding loses: the sum of squares over all batches, or the mean share that saturates."""
    runner = Pieces(Runner(calibration.net, weights, (), (), Simulation(seed=seed), threads, asked, measure))
    totals = dict.fromkeys(asked, 0.0)
    batches = 0
    for batch in islice(calibration.feed.batches(), calibration.batches):
        batches += 1
        for key, lost in runner.losses(batch).items():
            totals[key] += lost
    return totals if measure == "squared_error" else {key: total / batches for key, total in totals.items()}


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

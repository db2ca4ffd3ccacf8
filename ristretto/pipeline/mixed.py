"""Mixed precision: what narrowing each site does to the net's output, what it costs, and the search between the two."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ristretto.caffe.shapes import infer_shapes
from ristretto.decide.mixed import (
    Cost,
    MixedSearch,
    Point,
    Side,
    Site,
    extended,
    narrowing_path,
    search_path,
    within_budget,
)
from ristretto.decide.plan import LayerSites, LayerWidths, QuantPlan, plan_of_widths
from ristretto.graph.build import Simulation
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.compensate import Array, batches_to_look_at
from ristretto.pipeline.feed import Batch
from ristretto.pipeline.job import Job
from ristretto.pipeline.runner import Runner
from ristretto.report.events import HarmsMeasured
from ristretto.report.model import Scored

HARM_IMAGES = 128
"""How many images the harm of narrowing a site is measured on."""

WIDEST_MEASURED = 5
"""Wider sites do so little harm that it is carried on from this width instead of measured."""


def mixed_search(job: Job, sites: Mapping[str, LayerSites], baseline: float) -> tuple[MixedSearch, QuantPlan, Scored]:
    """Search a width for every site, and score the net that is chosen.

    Returns:
        the search, the plan of the chosen net, or of the widest if none held, and its score.
    """
    options = job.options
    cost, total = _cost(job, sites)
    harms = _harms(job, sites)
    path = narrowing_path(harms, lambda widths: cost(widths) / total)
    scores: dict[int, tuple[QuantPlan, Scored]] = {}

    def evaluate(point: Point) -> float:
        plan = mixed_plan(job, sites, point.widths)
        scored = job.scoring.score(plan, f"mixed, {point.cost:.2f} {options.cost}", job.weights_for)
        scores[id(point)] = plan, scored
        return scored.score

    if options.budget is not None:
        found = within_budget(path, evaluate, options.budget)
    else:
        found = search_path(path, evaluate, baseline=baseline, margin=options.error_margin / 100)
    point = found.chosen.point if found.chosen is not None else found.scored[0].point
    return found, *scores[id(point)]


def mixed_plan(job: Job, sites: Mapping[str, LayerSites], widths: Mapping[Site, int]) -> QuantPlan:
    """The plan that gives every site its width."""
    return job.candidate(plan_of_widths(sites, _by_layer(job, sites, widths), job.options.scheme))


def _by_layer(job: Job, sites: Mapping[str, LayerSites], widths: Mapping[Site, int]) -> dict[str, LayerWidths]:
    """Widths by layer; a site that is not searched has the widest, or the width that was asked for."""
    widest = job.options.max_bits
    activations = job.options.bw_activations or widest
    return {
        name: LayerWidths(widths.get((name, "params"), widest), widths.get((name, "activations"), activations))
        for name in sites
    }


def _cost(job: Job, sites: Mapping[str, LayerSites]) -> tuple[Cost, float]:
    """What widths cost, and the number of units (weights, activations or operations) that the bits are of."""
    shapes = infer_shapes(job.net, job.feed.shapes)
    weights: dict[str, int] = {}
    activations: dict[str, int] = {}
    macs: dict[str, int] = {}
    for layer, facts in zip(job.net.layers, shapes.layers, strict=True):
        if layer.name in sites:
            weights[layer.name] = int(np.prod(facts.blobs[0])) if facts.blobs else 0
            activations[layer.name] = int(np.prod(shapes.values[layer.inputs[0]]))
            macs[layer.name] = facts.macs
    searched = {"weight_bits": weights, "activation_bits": activations, "mac_bits": macs}[job.options.cost]

    def cost(widths: Mapping[Site, int]) -> float:
        by_layer = _by_layer(job, sites, widths)
        if job.options.cost == "weight_bits":
            return float(sum(count * (by_layer[name].params or 0) for name, count in weights.items()))
        if job.options.cost == "activation_bits":
            return float(sum(count * (by_layer[name].activations or 0) for name, count in activations.items()))
        return float(
            sum(n * (by_layer[name].params or 0) * (by_layer[name].activations or 0) for name, n in macs.items())
        )

    return cost, float(sum(searched.values())) or 1.0


def _harms(job: Job, sites: Mapping[str, LayerSites]) -> dict[Site, dict[int, float]]:
    """For each site and width the squared error that narrowing it alone makes at the net's output."""
    options = job.options
    batches = batches_to_look_at(job.calibration.feed, job.feed, min(HARM_IMAGES, options.rounding_images))
    values = list(job.scoring.answers)
    float_outputs = _run(job, values, {}, batches)
    every = range(options.min_bits, options.max_bits + 1)
    measured = [bw for bw in every if bw <= WIDEST_MEASURED] or [options.min_bits]
    harms: dict[Site, dict[int, float]] = {}
    for name, site in sites.items():
        for side in _sides(job):
            if not _selected(job, name, site, side):
                continue
            found = {}
            for bw in measured:
                outputs = _run(job, values, {name: _alone(site, side, bw)}, batches)
                found[bw] = sum(
                    float(np.sum(np.square(mine - wanted, dtype=np.float64)))
                    for mine, wanted in zip(outputs, float_outputs, strict=True)
                )
            harms[name, side] = extended(found, every)
    job.listener(HarmsMeasured(len(harms), len(measured), sum(len(next(iter(batch.values()))) for batch in batches)))
    return harms


def _sides(job: Job) -> tuple[Side, ...]:
    if job.options.cost == "weight_bits":
        return ("params",)
    return ("activations",) if job.options.cost == "activation_bits" else ("params", "activations")


def _selected(job: Job, name: str, site: LayerSites, side: Side) -> bool:
    selection, kind = job.options.selection, job.types[name]
    if side == "params":
        return site.has_params and selection.takes(name, kind, "params")
    return not site.reads_as_stored and selection.takes(name, kind, "in")


def _alone(site: LayerSites, side: Side, bw: int) -> LayerFormats:
    if side == "params":
        plan = plan_of_widths({"": site}, {"": LayerWidths(params=bw)})
        return LayerFormats(params=plan.layers[""].params)
    return LayerFormats(input=site.activation_formats(bw)[0], in_place=False)


def _run(job: Job, values: list[str], formats: dict[str, LayerFormats], batches: tuple[Batch, ...]) -> list[Array]:
    runner = Runner(job.net, job.weights, values, (), Simulation(formats), job.options.threads)
    results = (runner.run(batch)[0] for batch in batches)
    return [result[value] for result in results for value in values]

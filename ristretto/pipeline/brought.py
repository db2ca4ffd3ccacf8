"""What each rule and each treatment of the weights brought: the net's outputs with one after the other switched on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.weights import Weights
from ristretto.decide.plan import QuantPlan
from ristretto.graph.build import Simulation
from ristretto.numerics.measures import decibels
from ristretto.pipeline.feed import Batch
from ristretto.pipeline.job import Job
from ristretto.pipeline.options import Treatment
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.search import Outcome, Sites
from ristretto.report.events import silent
from ristretto.report.model import Step

STEP_IMAGES = 128
"""On about how many images of the TEST data the steps are compared."""


def steps(job: Job, sites: Sites, outcome: Outcome) -> tuple[Step, ...]:
    """The SQNR of the net's outputs at the widths chosen, from the plainest rules to those that were used.

    The labels are not looked at, and the images are not those of the calibration where the net has others.

    Args:
        job: the job.
        sites: what it knew of the layers.
        outcome: what it found.

    Returns:
        one step for each thing that was switched on, the first without any of them; none where nothing was.
    """
    stages = list(_stages(job, sites, outcome))
    if len(stages) < 2:
        return ()
    batches = tuple(islice(job.feed.batches(), max(1, -(-STEP_IMAGES // job.feed.batch_size))))
    exact = _outputs(job, job.weights, QuantPlan(), batches)
    power = sum(float(np.sum(np.square(value))) for value in exact)
    found = []
    for name, plan, weights in stages:
        made = _outputs(job, weights, plan, batches)
        noise = sum(float(np.sum(np.square(a - b))) for a, b in zip(made, exact, strict=True))
        found.append(Step(name, decibels(power, noise)))
    return tuple(found)


def _stages(job: Job, sites: Sites, outcome: Outcome) -> Iterator[tuple[str, QuantPlan, Weights]]:
    options, treatment = job.options, job.options.treatment
    if outcome.replan is None:
        return
    plainest = replace(options, range_rule="max", unsigned=False)
    variants = [("rounded to nearest, lengths by the maximum", plainest)]
    if options.rule != "max":
        variants.append((f"lengths by {options.rule}", replace(plainest, range_rule=options.rule)))
    if options.without_sign:
        variants.append(("no sign where nothing is negative", options))
    before = replace(job, weights=job.plain_weights, listener=silent)
    ranges = {name: site.ranges for name, site in sites.items()}
    if treatment.equalize:
        ranges = before.ranges()
    for name, variant in variants:
        as_is = variant is options and not treatment.equalize
        known = sites if as_is else replace(before, options=variant).sites(ranges)
        yield name, outcome.replan(known), job.plain_weights
    if treatment.equalize:
        yield "channels equalized", outcome.plan, job.weights
    if treatment.compensate:
        partly = outcome.weights or job.weights
        if treatment.correct_biases:
            partly = job.rounded_weights(outcome.plan, Treatment(compensate=True))
        yield "weights compensated", outcome.plan, partly
    if treatment.correct_biases:
        yield "biases corrected", outcome.plan, outcome.weights or job.weights


def _outputs(job: Job, weights: Weights, plan: QuantPlan, batches: tuple[Batch, ...]) -> list[NDArray[np.float64]]:
    simulation = Simulation(plan.layers, job.options.rounding, job.options.seed)
    runner = Runner(job.net, weights, list(job.scoring.answers), (), simulation, job.options.threads)
    return [value.astype(np.float64) for batch in batches for value in runner.run(batch)[0].values()]

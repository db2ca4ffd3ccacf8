"""Signs that a net is not what its user means, or that its scores say nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.shapes import FED_TYPES
from ristretto.decide.choose import LayerRanges
from ristretto.decide.confidence import no_better_than
from ristretto.decide.plan import QuantPlan
from ristretto.decide.search import Ladder
from ristretto.numerics.formats import Format
from ristretto.pipeline.feed import Feed
from ristretto.pipeline.job import Job
from ristretto.pipeline.misspelt import unknown_fields
from ristretto.report.details import NetDetails
from ristretto.report.model import Scored

_WITHOUT_WEIGHTS = frozenset({"ReLU", "Dropout", "Pooling", "Accuracy", "SoftmaxWithLoss", *FED_TYPES})

_FEW = 4
"""Fewer images may well all be answered alike."""

_FAR_BEYOND = 16.0
"""A range so many times as wide as its format is no tail that was cut off: lengths that fit values go to 8."""


def suspicious_scores(job: Job, baseline: Scored, ladders: dict[str, Ladder], combined: Scored) -> list[str]:
    """Signs that the scores say nothing: a loss, a score that never moves, NaN, no share, answers without a clue."""
    warnings = []
    maker = job.net.producer(job.net.finals[job.blob]) if job.scorer is None else None
    if maker is not None and is_loss(maker.type):
        warnings.append(
            f"the score '{job.blob}' is a loss: a smaller one is better, the search takes a larger one for better; "
            "name an accuracy with --score"
        )
    elif not 0.0 <= baseline.score <= 1.0:
        warnings.append(
            f"the score '{job.blob}' is {baseline.score:g}, no share between 0 and 1: a margin of "
            f"{job.options.error_margin:g} points is {job.options.error_margin / 100:g} of it"
        )
    scores = [baseline.score, combined.score]
    scores += [trial.score for ladder in ladders.values() for trial in ladder.trials]
    if not all(map(math.isfinite, scores)):
        warnings.append(f"the score '{job.blob}' was not a finite number in at least one pass")
    elif len(scores) > 2 and len(set(scores)) == 1:
        warnings.append(
            f"all {len(scores)} scores are {scores[0]:g}: does '{job.blob}' depend on the net, and are labels right?"
        )
    clues = [*clueless(baseline, "the float net"), *clueless(combined, "the quantized net")]
    return [*warnings, *dict.fromkeys(clues)]


def clueless(scored: Scored, net: str) -> list[str]:
    """A warning if the answers say nothing: all the same, no better than guessing, or no label counts.

    Args:
        scored: the outcome of a pass.
        net: what the net is called in the warning.
    """
    warnings = []
    if scored.uncounted:
        warnings.append(f"no label counts in {scored.uncounted} of {scored.batches} batches: each adds 0 to the score")
    if scored.missing:
        warnings.append(
            f"a class has no image in {scored.missing} of {scored.batches} batches: each adds 0 to its own accuracy"
        )
    answers = scored.answers
    if answers is None or answers.broken or answers.images < _FEW:
        return warnings
    if answers.labels == 1:
        warnings.append(f"all {answers.images} images have the same label: the score says little")
    elif answers.times == answers.images:
        warnings.append(f"{net} answers class {answers.commonest} to all {answers.images} images")
    elif answers.classes and no_better_than(answers.top_k / answers.classes, answers.right, answers.images):
        warnings.append(
            f"{net} is right in {answers.right} of {answers.images} images: no better than guessing among "
            f"{answers.classes} classes"
        )
    return warnings


def saturated(
    plan: QuantPlan, ranges: Mapping[str, LayerRanges], types: Mapping[str, str], details: NetDetails | None
) -> list[str]:
    """A warning for each format that ends far below the values, or that cuts off more than half of them.

    Args:
        plan: the formats.
        ranges: what was measured.
        types: of the layers.
        details: how many values are cut off, if they were counted.
    """
    warnings = []
    for name, formats in plan.layers.items():
        counted = details.layers[name].sites if details is not None and name in details.layers else {}
        parts = (
            ("in", "input", formats.input),
            ("out", "output", formats.output),
            ("params", "weights", formats.params),
        )
        for role, part, fmt in parts:
            site = counted.get(role)
            if site is not None and site.elements and site.saturated and 2 * site.saturated > site.elements:
                share = 100 * site.saturated / site.elements
                warnings.append(f"layer '{name}': {share:.0f} % of its {part} lies beyond its format")
                continue
            reach = _reach(ranges[name], role) if name in ranges else 0.0
            if fmt is not None and reach > _FAR_BEYOND * _end(fmt) and name in types:
                verb = "reach" if role == "params" else "reaches"
                warnings.append(f"layer '{name}': its {part} {verb} {reach:g}, its format ends at {_end(fmt):g}")
    return warnings


def _reach(ranges: LayerRanges, role: str) -> float:
    stats = {"in": ranges.input, "out": ranges.output, "params": ranges.params}[role]
    return stats.abs_max if stats.batches else 0.0


def _end(fmt: Format) -> float:
    return max(abs(float(fmt.min)), abs(float(fmt.max)))


def wrapped_around(feed: Feed, scored: Scored) -> list[str]:
    """A warning if more images were scored than the source holds."""
    held = feed.images
    if held is None or scored.images <= held:
        return []
    return [f"{scored.images} images were asked for, the TEST source holds {held}: some were scored more than once"]


def changed_inputs(paths: Iterable[str]) -> list[str]:
    """A warning for each file that is no longer what the job read."""
    return [f"{path} was changed while the job ran: all figures are of what it was before" for path in paths]


def duplicate_names(net: NetSpec) -> list[str]:
    """A warning for each name that several layers with parameters have: they get the same weights, as in Caffe."""
    first: dict[str, int] = {}
    warnings = []
    for layer in net.layers:
        if layer.type in _WITHOUT_WEIGHTS:
            continue
        if layer.name in first:
            lines = f"lines {first[layer.name]} and {layer.view.line}"
            warnings.append(
                f"two layers are named '{layer.name}' ({lines}): weights are found by name, so both get the same"
            )
        first.setdefault(layer.name, layer.view.line)
    return warnings


def ignored_fields(net: NetSpec) -> list[str]:
    """A warning for each field that no schema knows: it has no effect here, and may be a misspelling."""
    return list(unknown_fields(layer.view for layer in net.layers))

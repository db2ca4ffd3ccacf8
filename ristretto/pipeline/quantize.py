"""The main job: a float net in, its fixed-point twin out."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

from ristretto.atomic import atomic_together, atomic_write_bytes, atomic_write_text, content_of, one_job
from ristretto.caffe.fold import fold
from ristretto.caffe.net import read_prototxt
from ristretto.caffe.upgrade import upgrade_net
from ristretto.caffe.weights import Weights, read_weights, write_caffemodel
from ristretto.data import noting_files
from ristretto.decide.confidence import Paired, drop_interval, margin_verdict
from ristretto.decide.plan import LayerSites, QuantPlan
from ristretto.decide.ranges_file import sites_to_json
from ristretto.decide.search import holds
from ristretto.dialects.prototxt import planned_layers, write_plan
from ristretto.errors import FormatError
from ristretto.graph.build import Simulation
from ristretto.pipeline.brought import steps
from ristretto.pipeline.calibrate import suspicious_ranges
from ristretto.pipeline.compare import compare
from ristretto.pipeline.details import find_details
from ristretto.pipeline.device import Device, on_device
from ristretto.pipeline.evaluate import NetOptions
from ristretto.pipeline.finished import FinishedScores, keeps_scores, read_finished, scores_file
from ristretto.pipeline.job import Job, open_job
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.provenance import changed_since, provenance_of, stamps
from ristretto.pipeline.search import Outcome, search
from ristretto.pipeline.signs import (
    changed_inputs,
    duplicate_names,
    ignored_fields,
    saturated,
    suspicious_scores,
    wrapped_around,
)
from ristretto.pipeline.sound import Pass, spelled_score
from ristretto.pipeline.wishes import check_options
from ristretto.pipeline.workers import on_workers
from ristretto.report.comparison import Comparison
from ristretto.report.details import NetDetails
from ristretto.report.events import DeviceChosen, Listener, Resumed, Warned, silent
from ristretto.report.html.page import report_page
from ristretto.report.jsonfile import dump as json_text
from ristretto.report.jsonfile import report_to_json
from ristretto.report.model import Asked, LayerReport, Report, Scored, Settings, Step
from ristretto.report.provenance import Provenance, provenance_to_json
from ristretto.report.record import Recorder
from ristretto.version import VERSION

_log = logging.getLogger(__name__)

COMPARED_IMAGES = 32
"""How many images the report compares the two nets on."""

__all__ = ["QuantizeOptions", "quantize"]


@one_job()
def quantize(options: QuantizeOptions, listener: Listener = silent) -> Report:
    """Quantize a net: score it, measure ranges, search the bit-widths, score the result, write it.

    Args:
        options: what to do.
        listener: hears what happens; nothing is printed here.

    Returns:
        all that was found out; the prototxt is written before it returns.

    Raises:
        RistrettoError: a user's mistake, with its place and cure.
    """
    check_options(options)
    with on_device(options.gpu) as device, on_workers(options.workers, options.scheduler, options.gpu):
        return _quantize(options, Recorder(listener), device)


def _quantize(options: QuantizeOptions, listener: Recorder, device: Device) -> Report:
    with noting_files() as noted:
        job = open_job(options, listener)
    images = {"score": job.feed.images, "calibration": job.calibration.feed.images}
    provenance = provenance_of("quantize", options, {}, noted, images)
    written = stamps(provenance)
    job.scoring.finished = _finished(options, provenance, listener.then)
    listener(DeviceChosen(options.gpu, device.number, device.reason))
    baseline = job.scoring.score(QuantPlan(), "baseline")
    _pass(job, QuantPlan(), job.weights).check(job.blob, baseline)
    ranges = job.ranges()
    sites = job.sites(ranges)
    outcome = search(job, sites, baseline)
    brought = steps(job, sites, outcome) if options.details else ()
    details = find_details(job, sites, outcome) if options.details else None
    report = _report(job, baseline, sites, outcome, brought, details)
    changed = changed_since(provenance, written)
    report = replace(report, warnings=(*report.warnings, *changed_inputs(changed)))
    told = listener.warnings
    for warning in report.warnings:
        listener(Warned(warning))
    _log.debug("cache: %s", job.cache)
    report = replace(report, warnings=(*told, *report.warnings), events=tuple(listener.events))
    with atomic_together():
        _write(job, outcome, sites)
        if options.details:
            compared = None if changed else _compared(options)  # it reads the files again
            report = replace(report, provenance=provenance, comparison=compared)
        _write_report(options, report)
    job.scoring.finished.remove()
    return report


def _finished(options: QuantizeOptions, provenance: Provenance, listener: Listener) -> FinishedScores:
    """The scores that a stopped run of the same job has left, where it is to go on."""
    if options.model_quantized is None or not keeps_scores(options.model_quantized):
        return FinishedScores()
    file, job = scores_file(options.model_quantized), provenance_to_json(provenance)
    if not options.resume:
        return FinishedScores(file, job, tell=listener)
    found = read_finished(file, job, listener)
    listener(Resumed(len(found.scores), str(file)))
    return found


def _compared(options: QuantizeOptions) -> Comparison | None:
    """The quantized net, as it is about to appear, against the float net, on a few images."""
    if options.model_quantized is None:
        return None
    net = NetOptions(
        options.model,
        options.weights,
        level=options.level,
        stages=options.stages,
        rounding=options.rounding,
        inputs=options.inputs,
        data_root=options.data_root,
        untrusted=options.untrusted,
        seed=options.seed,
        threads=options.threads,
        gpu=options.gpu,
        plugins=options.plugins,
    )
    weights = () if options.weights_quantized is None else (content_of(options.weights_quantized),)
    compared = compare(net, content_of(options.model_quantized), weights, COMPARED_IMAGES)
    return replace(compared, second=str(options.model_quantized))


def _report(
    job: Job,
    baseline: Scored,
    sites: dict[str, LayerSites],
    outcome: Outcome,
    brought: tuple[Step, ...],
    details: NetDetails | None,
) -> Report:
    combined, ladders = outcome.combined, outcome.ladders
    ranges = {name: site.ranges for name, site in sites.items()}
    options = job.options
    settings = Settings(
        str(options.model),
        tuple(map(str, options.weights)),
        options.trimming_mode,
        options.preset,
        options.dialect,
        options.rounding.value,
        options.iterations,
        options.error_margin,
        job.calibration.net.phase,
        job.calibration.batches,
        options.seed,
        _asked(options),
    )
    layers = {
        layer.name: LayerReport(layer.type, site.group, site.ranges, site.lengths, site.fitted)
        for layer in job.layers
        for site in (sites[layer.name],)
    }
    met = holds(combined.score, baseline.score, options.error_margin / 100)
    warnings = [
        *job.warnings,
        *ignored_fields(job.net),
        *duplicate_names(job.net),
        *suspicious_ranges(ranges),
        *suspicious_scores(job, baseline, ladders, combined),
        *_pass(job, QuantPlan(), job.weights).hidden(baseline),
        *_pass(job, outcome.plan, outcome.weights or job.weights).warnings(combined),
        *saturated(outcome.plan, ranges, job.types, details),
        *wrapped_around(job.feed, baseline),
    ]
    paired = _paired(baseline, combined, job.feed.images)
    if paired is not None and margin_verdict(paired, options.error_margin / 100) == "undecided":
        interval = drop_interval(paired)
        warnings.append(
            f"{paired.images} images cannot tell whether the margin of {options.error_margin:g} points holds: the "
            f"drop is between {100 * interval.low:.2f} and {100 * interval.high:.2f} points with 95 % confidence"
        )
    if not math.isfinite(combined.score):
        warnings.append(f"the combined net misses the margin: its score is {spelled_score(combined.score)}")
    elif not met:
        drop = 100 * (baseline.score - combined.score)
        warnings.append(
            f"the combined net misses the margin: it drops {drop:.2f} points, {options.error_margin:g} are allowed"
        )
    return Report(
        settings,
        job.net.name,
        job.blob,
        job.feed.images,
        baseline,
        ladders,
        combined,
        outcome.plan,
        layers,
        met,
        tuple(warnings),
        paired,
        outcome.mixed,
        brought,
        details=details,
    )


def _pass(job: Job, plan: QuantPlan, weights: Weights) -> Pass:
    """A score's pass, to look for where NaN or infinity arises."""
    options = job.options
    simulation = Simulation(plan.layers, options.rounding, options.seed)
    return Pass(job.net, weights, simulation, job.feed, options.iterations, options.threads)


def _paired(baseline: Scored, combined: Scored, held: int | None) -> Paired | None:
    """What became of each image; of one that was scored more than once only the first time counts."""
    if baseline.right is None or combined.right is None or len(baseline.right) != len(combined.right):
        return None
    first, second = baseline.right[:held], combined.right[:held]
    return Paired(len(first), int((first & ~second).sum()), int((second & ~first).sum()))


def _asked(options: QuantizeOptions) -> tuple[tuple[str, Asked], ...]:
    """What was asked of the formats, where it is not the default."""
    names = (
        "bw_conv_params", "bw_fc_params", "bw_activations", "ladder", "search", "min_bits", "max_bits", "cost",
        "budget", "static", "bw_bias", "unsigned", "per_channel", "other_layers", "only", "skip", "overrides",
        "exp_bits", "mant_bits", "float_format", "exp_min", "exp_max", "keep_zero", "range_rule", "percentile",
        "fast", "fast_error", "fold", "equalize", "weight_rounding", "bias_correction", "rounding_images", "ranges",
    )  # fmt: skip
    defaults = QuantizeOptions(options.model, options.weights)
    given = ((name, getattr(options, name)) for name in names if getattr(options, name) != getattr(defaults, name))
    return tuple((name, str(value) if isinstance(value, Path) else value) for name, value in given)


def _write_report(options: QuantizeOptions, report: Report) -> None:
    """Write the report, as JSON and as a page."""
    if options.report is None and options.html is None:
        return
    data = report_to_json(report, VERSION)
    if options.report is not None:
        atomic_write_text(options.report, json_text(data))
    if options.html is not None:
        atomic_write_text(options.html, report_page(data))


def _write(job: Job, outcome: Outcome, sites: dict[str, LayerSites]) -> None:
    """Write the ranges, the weights, the quantized prototxt, and the same formats into every file of --also."""
    options, document, plan = job.options, job.document, outcome.plan
    if options.save_ranges is not None:
        atomic_write_text(options.save_ranges, json_text(sites_to_json(sites)))
    if options.weights_quantized is not None:
        write_caffemodel(options.weights_quantized, job.net.name, (outcome.weights or job.weights).layers)
    if options.model_quantized is not None:
        quantized = write_plan(document, plan, options.dialect)
        atomic_write_bytes(options.model_quantized, quantized.to_bytes())
    for source, target in options.also:
        other = upgrade_net(read_prototxt(source))
        if options.treatment.fold:
            other = fold(other, read_weights(options.weights)).document
        if not planned_layers(other, plan):
            cure = "is it another description of the same net?"
            raise FormatError("none of the quantized layers is in this prototxt", file=str(source), cure=cure)
        atomic_write_bytes(target, write_plan(other, plan, options.dialect).to_bytes())

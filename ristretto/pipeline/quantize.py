"""The main job: a float net in, its fixed-point twin out."""

from __future__ import annotations

from collections.abc import Callable

from ristretto.atomic import atomic_write_bytes
from ristretto.caffe.net import read_prototxt
from ristretto.caffe.textproto import Document
from ristretto.caffe.upgrade import upgrade_net
from ristretto.decide.choose import IntegerLengths, LayerRanges, integer_lengths
from ristretto.decide.plan import QuantPlan, Widths, dynamic_fixed_point_plan
from ristretto.decide.search import FALLBACK_BW, Ladder, descend, holds
from ristretto.dialects.prototxt import planned_layers, write_plan
from ristretto.errors import FormatError
from ristretto.pipeline.calibrate import suspicious_ranges
from ristretto.pipeline.job import Job, QuantizeOptions, check_options, open_job
from ristretto.pipeline.signs import duplicate_names, ignored_fields, suspicious_scores, wrapped_around
from ristretto.report.events import DeviceChosen, LengthsChosen, Listener, Warned, silent
from ristretto.report.model import LayerReport, Report, Scored, Settings

__all__ = ["QuantizeOptions", "quantize"]


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
    job = open_job(options, listener)
    listener(DeviceChosen(options.gpu))
    baseline = job.score(QuantPlan(), "baseline")
    ranges = job.ranges()
    fed = job.fed_layers() if options.preset == "recommended" else set()
    lengths = {name: integer_lengths(layer, keep_input=name in fed) for name, layer in ranges.items()}
    for name, il in lengths.items():
        listener(LengthsChosen(name, il.input, il.output, il.params))
    ladders = _search(job, lengths, baseline.score)
    chosen = _chosen_widths(ladders, keep_float=options.preset == "recommended")
    plan = dynamic_fixed_point_plan(lengths, job.groups, chosen)
    combined = job.score(plan, "combined")
    report = _report(job, baseline, ranges, lengths, ladders, plan, combined)
    for warning in report.warnings:
        listener(Warned(warning))
    _write(options, job.document, plan)
    return report


def _search(job: Job, lengths: dict[str, IntegerLengths], baseline: float) -> dict[str, Ladder]:
    """The three searches: weights of CONV, weights of FC, activations; a group that the net lacks is left out."""
    options, present = job.options, set(job.groups.values())
    asked: list[tuple[str, int | None, Callable[[int], Widths]]] = []
    if "conv" in present:
        asked.append(("conv", options.bw_conv_params, lambda bw: Widths(conv_params=bw)))
    if "fc" in present:
        asked.append(("fc", options.bw_fc_params, lambda bw: Widths(fc_params=bw)))
    asked.append(("activations", options.bw_activations, lambda bw: Widths(activations=bw)))
    ladders = {}
    for group, fixed, widths in asked:
        if fixed is not None:
            ladders[group] = Ladder((), fixed)
            continue

        def evaluate(bw: int, group: str = group, widths: Callable[[int], Widths] = widths) -> float:
            plan = dynamic_fixed_point_plan(lengths, job.groups, widths(bw))
            return job.score(plan, f"{group} {bw} bit").score

        ladders[group] = descend(evaluate, baseline=baseline, margin=options.error_margin / 100)
    return ladders


def _chosen_widths(ladders: dict[str, Ladder], *, keep_float: bool) -> Widths:
    """The widths of the combined net.

    A group for which no width held falls back to 32 bits. The original gives it the integer lengths all the same, which
    saturate; with ``keep_float`` it stays as the partial searches leave it, nearly float.
    """
    chosen = {
        group: None if keep_float and ladder.trials and ladder.chosen == FALLBACK_BW else ladder.chosen
        for group, ladder in ladders.items()
    }
    return Widths(chosen.get("conv"), chosen.get("fc"), chosen["activations"])


def _report(
    job: Job,
    baseline: Scored,
    ranges: dict[str, LayerRanges],
    lengths: dict[str, IntegerLengths],
    ladders: dict[str, Ladder],
    plan: QuantPlan,
    combined: Scored,
) -> Report:
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
    )
    layers = {
        layer.name: LayerReport(layer.type, job.groups[layer.name], ranges[layer.name], lengths[layer.name])
        for layer in job.layers
    }
    met = holds(combined.score, baseline.score, options.error_margin / 100)
    warnings = [
        *ignored_fields(job.net),
        *duplicate_names(job.net),
        *suspicious_ranges(ranges),
        *suspicious_scores(job, baseline, ladders, combined),
        *wrapped_around(job, baseline),
    ]
    if not met:
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
        plan,
        layers,
        met,
        tuple(warnings),
    )


def _write(options: QuantizeOptions, document: Document, plan: QuantPlan) -> None:
    """Write the quantized prototxt, and the same formats into every file of --also."""
    if options.model_quantized is not None:
        quantized = write_plan(document, plan, options.dialect)
        atomic_write_bytes(options.model_quantized, quantized.to_bytes())
    for source, target in options.also:
        other = upgrade_net(read_prototxt(source))
        if not planned_layers(other, plan):
            cure = "is it another description of the same net?"
            raise FormatError("none of the quantized layers is in this prototxt", file=str(source), cure=cure)
        atomic_write_bytes(target, write_plan(other, plan, options.dialect).to_bytes())

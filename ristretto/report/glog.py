"""The original's log: the same messages, in glog's form (quantization.cpp of the original)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ristretto.decide.confidence import drop_interval
from ristretto.decide.mixed import MixedSearch
from ristretto.decide.search import Trial
from ristretto.report.events import (
    BatchDone,
    DeviceChosen,
    Dropped,
    Equalized,
    Event,
    Folded,
    HarmsMeasured,
    LengthsChosen,
    Output,
    PassDone,
    PassStarted,
    Resumed,
    Warned,
    Widened,
)
from ristretto.report.model import Report

ORIGINAL = "quantization.cpp"
OURS = "quantize.py"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message and where it stands.

    Attributes:
        text: the message.
        line: the line of the original's source that prints it, for scripts that look for it; 0 for a message that the
            original does not have.
        severity: I or W.
        file: that source.
    """

    text: str
    line: int = 0
    severity: str = "I"
    file: str = ORIGINAL


def glog_line(line: LogLine, now: datetime | None = None) -> str:
    """A line as glog prints it: severity, month and day, time, process, place, message."""
    now = now or datetime.now()
    place = f"{line.file}:{line.line}" if line.line else f"{OURS}:1"
    return f"{line.severity}{now:%m%d %H:%M:%S.%f} {os.getpid():5d} {place}] {line.text}"


def number(value: float) -> str:
    """A number as C++ streams print it: six significant digits."""
    return f"{value:g}"


def event_lines(event: Event) -> Iterator[LogLine]:
    """The log lines of one event."""
    match event:
        case DeviceChosen(asked, device, reason):
            yield LogLine("Use CPU.", 98) if device is None else LogLine(f"Use GPU with device ID {device}", 94)
            if reason:
                yield LogLine(on_cpu(asked, reason), severity="W")
        case PassStarted(_, batches):
            yield LogLine(f"Running for {batches} iterations.", 106)
        case BatchDone(index, outputs):
            for output in outputs:
                for value in output.values:
                    yield LogLine(f"Batch {index}, {output.blob} = {number(value)}", 136)
        case PassDone(_, loss, outputs):
            yield LogLine(f"Loss: {number(loss)}", 141)
            for output in outputs:
                yield from (LogLine(message, 153) for message in output_texts(output))
        case LengthsChosen(layer, inputs, outputs, params):
            text = f"Layer {layer}, integer length input={inputs}, integer length output={outputs}, "
            yield LogLine(text + f"integer length parameters={params}", 170)
        case Folded(chains, declined):
            for into, layers in chains:
                yield LogLine(f"Folded {', '.join(layers)} into {into}.")
            for layer, reason in declined:
                yield LogLine(f"Kept {layer}: {reason}.")
        case Equalized(pairs):
            scaled = [channels for _, _, channels in pairs if channels]
            yield LogLine(f"Equalized {sum(scaled)} channels of {len(scaled)} layers.")
        case HarmsMeasured(sites, widths, images):
            yield LogLine(
                f"Measured what narrowing does to the output: {sites} sites, {widths} widths, {images} images."
            )
        case Widened(group, bw):
            nouns = {"conv": "CONV weights get", "fc": "FC weights get", "activations": "layer activations get"}
            yield LogLine(f"All together miss the margin: {nouns[group]} {bw}bit.")
        case Dropped(purpose, images, of, score):
            text = f"Dropped {purpose} after {images} of {of} images: it misses the margin"
            yield LogLine(f"{text}, its score is about {number(score)}.")
        case Resumed(scores, file):
            if scores:
                yield LogLine(f"Going on from {scores} finished scores in {file}.")
            else:
                yield LogLine(f"No finished scores in {file}.")
        case Warned(text):
            yield LogLine(text, severity="W")


def on_cpu(asked: str, reason: str) -> str:
    """The one line that says why a job does not run where --gpu asked for."""
    return f"--gpu={asked} was asked for: {reason}, everything runs on the CPU"


def output_texts(output: Output) -> Iterator[str]:
    """The means of an output blob, each with its share of the loss."""
    for value in output.values:
        text = f"{output.blob} = {number(value)}"
        if output.loss_weight:
            weighted = number(output.loss_weight * value)
            text += f" (* {number(output.loss_weight)} = {weighted} loss)"
        yield text


def outcome(report: Report) -> str:
    """The result in one line: both scores, how sure the drop is, and whether the margin is missed."""
    text = f"score {report.combined.score:g}, float {report.baseline.score:g}"
    if report.paired is not None:
        interval = drop_interval(report.paired)
        ends = f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
        text += f" (drop {100 * report.paired.drop:.2f} points, 95 % confidence {ends})"
    if not report.margin_met:
        text += f"; the margin of {report.settings.error_margin:g} points is missed"
    return text


def summary_lines(report: Report) -> Iterator[LogLine]:
    """The summary of a job, by its trimming mode.

    A group that is not quantized is left out, and a line says so; one whose width was given shows that instead.
    """
    if report.mixed is not None:
        yield from _mixed_summary(report, report.mixed)
    elif report.settings.trimming_mode == "minifloat":
        yield from _minifloat_summary(report)
    elif report.settings.trimming_mode == "integer_power_of_2_weights":
        yield from _power_of_two_summary(report)
    else:
        yield from _fixed_point_summary(report)
    if report.steps:
        yield LogLine("SQNR of the outputs, step by step:")
        for step in report.steps:
            yield LogLine(f"{step.sqnr_db:.1f} dB: \t{step.name}")


def _fixed_point_summary(report: Report) -> Iterator[LogLine]:
    yield LogLine("------------------------------", 276)
    yield LogLine("Network accuracy analysis for", 277)
    yield LogLine("Convolutional (CONV) and fully", 278)
    yield LogLine("connected (FC) layers.", 279)
    yield LogLine(f"Baseline 32bit float: {number(report.baseline.score)}", 280)
    yield from _ladder(report, "conv", ("Dynamic fixed point CONV", "weights: "), 281, "CONV weights")
    yield from _ladder(report, "fc", ("Dynamic fixed point FC", "weights: "), 287, "FC weights")
    yield from _ladder(report, "activations", ("Dynamic fixed point layer", "activations:"), 292, "layer activations")
    yield LogLine("Dynamic fixed point net:", 298)
    nouns = (("conv", "CONV weights,", 299), ("fc", "FC weights,", 300), ("activations", "layer activations:", 301))
    for group, noun, line in nouns:
        if group in report.ladders:
            yield LogLine(f"{report.ladders[group].chosen}bit {noun}", line)
    yield LogLine(f"Accuracy: {number(report.combined.score)}", 302)
    yield LogLine("Please fine-tune.", 303)


def _mixed_summary(report: Report, mixed: MixedSearch) -> Iterator[LogLine]:
    """The trade-off curve: what each net that was scored costs, and its score."""
    unit = dict(report.settings.options).get("cost", "weight_bits")
    yield LogLine("------------------------------")
    yield LogLine("Mixed precision, mean " + str(unit).replace("_", " ") + ":")
    yield LogLine(f"Baseline 32bit float: {number(report.baseline.score)}")
    for item in mixed.scored:
        chosen = " (chosen)" if mixed.chosen is not None and item.index == mixed.chosen.index else ""
        yield LogLine(f"{item.point.cost:.2f}: \t{number(item.score)}{chosen}")
    yield LogLine(f"Accuracy: {number(report.combined.score)}")
    yield LogLine("Please fine-tune.")


def _minifloat_summary(report: Report) -> Iterator[LogLine]:
    yield LogLine("------------------------------", 353)
    yield LogLine("Network accuracy analysis for", 354)
    yield LogLine("Convolutional (CONV) and fully", 355)
    yield LogLine("connected (FC) layers.", 356)
    yield LogLine(f"Baseline 32bit float: {number(report.baseline.score)}", 357)
    yield LogLine("Minifloat net:", 358)
    ladder = report.ladders["minifloat"]
    for trial in ladder.trials or (Trial(ladder.chosen, report.combined.score),):
        yield LogLine(_trial(report, trial), 360)
    yield LogLine("Please fine-tune.", 362)


def _power_of_two_summary(report: Report) -> Iterator[LogLine]:
    yield LogLine("------------------------------", 395)
    yield LogLine("Network accuracy analysis for", 396)
    yield LogLine("Integer-power-of-two weights", 397)
    yield LogLine("in Convolutional (CONV) and", 398)
    yield LogLine("fully connected (FC) layers.", 399)
    yield LogLine(f"Baseline 32bit float: {number(report.baseline.score)}", 400)
    yield LogLine("Quantized net:", 401)
    yield LogLine(f"{report.ladders['weights'].chosen}bit: \t{number(report.combined.score)}", 402)
    yield LogLine("Please fine-tune.", 403)


def _ladder(report: Report, group: str, heading: tuple[str, str], line: int, noun: str) -> Iterator[LogLine]:
    ladder = report.ladders.get(group)
    if ladder is None:
        yield LogLine(_left_out(report, group))
        return
    if not ladder.trials:
        yield LogLine(f"{ladder.chosen}bit {noun} as asked: not searched.")
        return
    yield LogLine(heading[0], line)
    yield LogLine(heading[1], line + 1)
    for trial in ladder.trials:
        yield LogLine(_trial(report, trial), line + 3)


def _trial(report: Report, trial: Trial) -> str:
    """A width and its score, and on how many images that was estimated if not on all."""
    text = f"{trial.bw}bit: \t{number(trial.score)}"
    return text if trial.images is None else f"{text} (on {trial.images} of {report.baseline.images} images)"


def _left_out(report: Report, group: str) -> str:
    """Why a group was not searched."""
    if group == "activations":
        return "Activations are not quantized, as asked: not searched."
    layers = "CONV" if group == "conv" else "FC"
    if any(layer.group == group for layer in report.layers.values()):
        return f"{layers} weights are not quantized, as asked: not searched."
    return f"The net has no {layers} layers: {layers} weights are not searched."

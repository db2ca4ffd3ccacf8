"""The original's log: the same messages, in glog's form (quantization.cpp of the original)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ristretto.report.events import (
    BatchDone,
    DeviceChosen,
    Event,
    LengthsChosen,
    Output,
    PassDone,
    PassStarted,
    Warned,
)
from ristretto.report.model import Report

ORIGINAL = "quantization.cpp"
OURS = "quantize.py"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message and where it stands.

    Attributes:
        text: the message.
        line: the line of the original's quantization.cpp that prints it, for scripts that look for it; 0 for a message
            that the original does not have.
        severity: I or W.
    """

    text: str
    line: int = 0
    severity: str = "I"


def glog_line(line: LogLine, now: datetime | None = None) -> str:
    """A line as glog prints it: severity, month and day, time, process, place, message."""
    now = now or datetime.now()
    place = f"{ORIGINAL}:{line.line}" if line.line else f"{OURS}:1"
    return f"{line.severity}{now:%m%d %H:%M:%S.%f} {os.getpid():5d} {place}] {line.text}"


def number(value: float) -> str:
    """A number as C++ streams print it: six significant digits."""
    return f"{value:g}"


def event_lines(event: Event) -> Iterator[LogLine]:
    """The log lines of one event."""
    match event:
        case DeviceChosen(asked):
            yield LogLine("Use CPU.", 98)
            if asked:
                text = f"--gpu={asked} was asked for: this version has no GPU code, everything runs on the CPU"
                yield LogLine(text, severity="W")
        case PassStarted(_, batches):
            yield LogLine(f"Running for {batches} iterations.", 106)
        case BatchDone(index, outputs):
            for output in outputs:
                for value in output.values:
                    yield LogLine(f"Batch {index}, {output.blob} = {number(value)}", 136)
        case PassDone(_, loss, outputs):
            yield LogLine(f"Loss: {number(loss)}", 141)
            for output in outputs:
                yield from (LogLine(message, 153) for message in _means(output))
        case LengthsChosen(layer, inputs, outputs, params):
            text = f"Layer {layer}, integer length input={inputs}, integer length output={outputs}, "
            yield LogLine(text + f"integer length parameters={params}", 170)
        case Warned(text):
            yield LogLine(text, severity="W")


def _means(output: Output) -> Iterator[str]:
    for value in output.values:
        text = f"{output.blob} = {number(value)}"
        if output.loss_weight:
            weighted = number(output.loss_weight * value)
            text += f" (* {number(output.loss_weight)} = {weighted} loss)"
        yield text


def summary_lines(report: Report) -> Iterator[LogLine]:
    """The summary of a dynamic fixed point job.

    A group that the net lacks is left out, and a line says so; one whose width was given shows that instead.
    """
    yield LogLine("------------------------------", 276)
    yield LogLine("Network accuracy analysis for", 277)
    yield LogLine("Convolutional (CONV) and fully", 278)
    yield LogLine("connected (FC) layers.", 279)
    yield LogLine(f"Baseline 32bit float: {number(report.baseline.score)}", 280)
    yield from _ladder(report, "conv", ("Dynamic fixed point CONV", "weights: "), 281, "CONV weights")
    yield from _ladder(report, "fc", ("Dynamic fixed point FC", "weights: "), 287, "FC weights")
    yield from _ladder(report, "activations", ("Dynamic fixed point layer", "activations:"), 292, "layer activations")
    yield LogLine("Dynamic fixed point net:", 298)
    ladders = report.ladders
    if "conv" in ladders:
        yield LogLine(f"{ladders['conv'].chosen}bit CONV weights,", 299)
    if "fc" in ladders:
        yield LogLine(f"{ladders['fc'].chosen}bit FC weights,", 300)
    yield LogLine(f"{ladders['activations'].chosen}bit layer activations:", 301)
    yield LogLine(f"Accuracy: {number(report.combined.score)}", 302)
    yield LogLine("Please fine-tune.", 303)


def _ladder(report: Report, group: str, heading: tuple[str, str], line: int, noun: str) -> Iterator[LogLine]:
    ladder = report.ladders.get(group)
    if ladder is None:
        layers = "CONV" if group == "conv" else "FC"
        yield LogLine(f"The net has no {layers} layers: {layers} weights are not searched.")
        return
    if not ladder.trials:
        yield LogLine(f"{ladder.chosen}bit {noun} as asked: not searched.")
        return
    yield LogLine(heading[0], line)
    yield LogLine(heading[1], line + 1)
    for trial in ladder.trials:
        yield LogLine(f"{trial.bw}bit: \t{number(trial.score)}", line + 3)

"""The original's log: the same messages, in glog's form (quantization.cpp of the original)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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

_FILE = "quantization.py"


def glog_line(severity: str, message: str, now: datetime | None = None) -> str:
    """One line as glog prints it: severity, month and day, time, process, file, message."""
    now = now or datetime.now()
    return f"{severity}{now:%m%d %H:%M:%S.%f} {os.getpid():5d} {_FILE}] {message}"


def number(value: float) -> str:
    """A number as C++ streams print it: six significant digits."""
    return f"{value:g}"


def event_messages(event: Event) -> Iterator[tuple[str, str]]:
    """The (severity, message) pairs of one event."""
    match event:
        case DeviceChosen(asked):
            yield "I", "Use CPU."
            if asked:
                yield (
                    "W",
                    f"--gpu={asked} was asked for: this version has no GPU code, everything runs on the CPU",
                )
        case PassStarted(_, batches):
            yield "I", f"Running for {batches} iterations."
        case BatchDone(index, outputs):
            for output in outputs:
                for value in output.values:
                    yield "I", f"Batch {index}, {output.blob} = {number(value)}"
        case PassDone(_, loss, outputs):
            yield "I", f"Loss: {number(loss)}"
            for output in outputs:
                yield from (("I", message) for message in _means(output))
        case LengthsChosen(layer, inputs, outputs, params):
            yield (
                "I",
                f"Layer {layer}, integer length input={inputs}, integer length output={outputs}, "
                f"integer length parameters={params}",
            )
        case Warned(text):
            yield "W", text


def _means(output: Output) -> Iterator[str]:
    for value in output.values:
        text = f"{output.blob} = {number(value)}"
        if output.loss_weight:
            weighted = number(output.loss_weight * value)
            text += f" (* {number(output.loss_weight)} = {weighted} loss)"
        yield text


def summary_messages(report: Report) -> Iterator[str]:
    """The summary of a dynamic fixed point job, line by line.

    A group that the net lacks is left out, and a line says so; one whose width was given shows that instead.
    """
    yield "------------------------------"
    yield "Network accuracy analysis for"
    yield "Convolutional (CONV) and fully"
    yield "connected (FC) layers."
    yield f"Baseline 32bit float: {number(report.baseline.score)}"
    yield from _ladder(report, "conv", ("Dynamic fixed point CONV", "weights: "), "CONV weights")
    yield from _ladder(report, "fc", ("Dynamic fixed point FC", "weights: "), "FC weights")
    yield from _ladder(report, "activations", ("Dynamic fixed point layer", "activations:"), "layer activations")
    yield "Dynamic fixed point net:"
    ladders = report.ladders
    if "conv" in ladders:
        yield f"{ladders['conv'].chosen}bit CONV weights,"
    if "fc" in ladders:
        yield f"{ladders['fc'].chosen}bit FC weights,"
    yield f"{ladders['activations'].chosen}bit layer activations:"
    yield f"Accuracy: {number(report.combined.score)}"
    yield "Please fine-tune."


def _ladder(report: Report, group: str, heading: tuple[str, str], noun: str) -> Iterator[str]:
    ladder = report.ladders.get(group)
    if ladder is None:
        layers = "CONV" if group == "conv" else "FC"
        yield f"The net has no {layers} layers: {layers} weights are not searched."
        return
    if not ladder.trials:
        yield f"{ladder.chosen}bit {noun} as asked: not searched."
        return
    yield from heading
    for trial in ladder.trials:
        yield f"{trial.bw}bit: \t{number(trial.score)}"


def glog_listener(write: Callable[[str], None]) -> Callable[[Event], None]:
    """A listener that writes every event as glog lines."""

    def listen(event: Event) -> None:
        for severity, message in event_messages(event):
            write(glog_line(severity, message))

    return listen

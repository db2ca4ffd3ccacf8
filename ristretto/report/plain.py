"""The log in short lines, for those who read it and have no scripts that parse it."""

from __future__ import annotations

from collections.abc import Iterator

from ristretto.report.events import BatchDone, DeviceChosen, Event, LengthsChosen, PassDone, PassStarted
from ristretto.report.glog import LogLine, event_lines, number, on_cpu
from ristretto.report.model import Report
from ristretto.report.table import table_lines


def plain_line(line: LogLine) -> str:
    """A line as it is, with a word before it where it is a warning."""
    return f"warning: {line.text}" if line.severity == "W" else line.text


def plain_lines(event: Event) -> Iterator[LogLine]:
    """The lines of one event; single batches, which are the bulk of the original's log, have none."""
    match event:
        case DeviceChosen(asked, device, reason):
            yield LogLine("on the CPU" if device is None else f"on GPU {device}")
            if reason:
                yield LogLine(on_cpu(asked, reason), severity="W")
        case PassStarted() | BatchDone():
            return
        case PassDone(purpose, _, outputs):
            means = [f"{output.blob} {' '.join(map(number, output.values))}" for output in outputs]
            yield LogLine(f"{purpose}: {', '.join(means)}")
        case LengthsChosen(layer, inputs, outputs, params):
            yield LogLine(f"{layer}: integer lengths {inputs} in, {outputs} out, {params} weights")
        case _:
            yield from event_lines(event)


def plain_summary(report: Report) -> Iterator[LogLine]:
    """The result as a table, and what each rule and treatment brought."""
    for step in report.steps:
        yield LogLine(f"SQNR of the outputs with {step.name}: {step.sqnr_db:.1f} dB")
    for line in table_lines(report):
        yield LogLine(line)

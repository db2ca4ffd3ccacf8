"""What a person sees while a job runs: log lines on stderr, and a bar and colours where stderr is a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ristretto.cli.output import Output, current_output, is_coloured, is_terminal
from ristretto.errors import visible
from ristretto.report.events import BatchDone, Event, PassDone, PassStarted
from ristretto.report.glog import LogLine, event_lines, glog_line, summary_lines
from ristretto.report.plain import plain_line, plain_lines, plain_summary

if TYPE_CHECKING:
    from rich.console import Console

    from ristretto.report.model import Report

Write = Callable[[str, str], None]
"""Writes a line in a style of rich's, or in none."""

_STYLES = {"W": "yellow", "E": "red"}


def plain_write(line: str, style: str = "") -> None:
    """Write a line to stderr as it is."""
    if sys.stderr is not None:  # closed, as cron jobs do
        with suppress(OSError):  # a log on a full disk ends no job
            sys.stderr.write(line + "\n")


def warn(text: str) -> None:
    """Write a warning to stderr, from a command that keeps no log."""
    if not current_output().shows("W"):
        return
    line = visible(f"ristretto: warning: {text}")
    if is_coloured(sys.stderr):
        terminal_console().print(line, markup=False, style=_STYLES["W"])
    else:
        plain_write(line)


def say_device(asked: str) -> None:
    """Say on stderr, in one line, if nothing runs on the device that --gpu asks for."""
    from ristretto.pipeline.device import find_device
    from ristretto.report.glog import on_cpu

    reason = find_device(asked).reason
    if reason:
        warn(on_cpu(asked, reason))


def terminal_console() -> Console:
    """Rich's console on stderr, without any codes for colours where those are not wanted."""
    from rich.console import Console

    if is_coloured(sys.stderr):
        return Console(stderr=True, highlight=False, soft_wrap=True)
    return Console(stderr=True, highlight=False, soft_wrap=True, color_system=None)


@dataclass(frozen=True, slots=True)
class JobConsole:
    """Where a job's log goes.

    Attributes:
        output: how much is said, and how.
        write: writes a line.
        advance: moves the bar.
        console: the terminal, where there is one.
    """

    output: Output
    write: Write
    advance: Callable[[Event], None]
    console: Console | None = None

    def hear(self, event: Event) -> None:
        """Log an event: a listener for jobs."""
        lines = event_lines(event) if self.output.log_format == "glog" else plain_lines(event)
        for line in lines:
            self.log(line)
        self.advance(event)

    def log(self, line: LogLine) -> None:
        """Log a line."""
        if self.output.shows(line.severity):
            text = visible(glog_line(line) if self.output.log_format == "glog" else plain_line(line))
            self.write(text, _STYLES.get(line.severity, ""))

    def text(self, text: str) -> None:
        """Write a line of a table, which has no place and time in either form."""
        if self.output.shows("I"):
            self.write(text, "")

    def summary(self, report: Report) -> None:
        """Log a quantization's summary, and in a terminal show it as a table."""
        table = self.console is not None and self.output.shows("I")
        if self.output.log_format == "glog":
            lines = summary_lines(report)
        else:
            lines = iter(()) if table else plain_summary(report)
        for line in lines:
            self.log(line)
        if table:
            _show_table(report, self.console)


def _show_table(report: Report, console: Console | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from ristretto.report.table import COLUMNS, result_rows, verdict

    assert console is not None
    table = Table(title=Text(f"{report.net or 'net'}, {report.settings.trimming_mode.replace('_', ' ')}"))
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number > 1 else "left", no_wrap=True)
    *rows, last = result_rows(report)
    colour = "green" if report.margin_met else "red"
    for row in rows:
        table.add_row(*map(Text, row.cells))
    table.add_section()
    table.add_row(*(Text(cell, f"bold {colour}") for cell in last.cells))
    console.print(table)
    console.print(Text(verdict(report), colour))
    count = len(report.warnings)
    if count:
        console.print(Text(f"{count} warning{'s' if count > 1 else ''} above", _STYLES["W"]))


@contextmanager
def job_console() -> Iterator[JobConsole]:
    """Where the log of a job goes.

    Where stderr is a terminal a bar below the log shows how far the present pass is.
    """
    output = current_output()
    if not is_terminal(sys.stderr):
        with _told_to(plain_write):
            yield JobConsole(output, plain_write, lambda event: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=terminal_console(), transient=True, disable=output.least > 0)
    with progress:
        task = progress.add_task("opening", total=None)

        def advance(event: Event) -> None:
            match event:
                case PassStarted(purpose, batches):
                    progress.reset(task, total=batches or None, description=purpose)
                case BatchDone():
                    progress.advance(task)
                case PassDone():
                    progress.reset(task, total=None, description="preparing")

        def write(line: str, style: str = "") -> None:
            progress.console.print(Text(line, style))

        with _told_to(write):
            yield JobConsole(output, write, advance, progress.console)


class _Details(logging.Handler):
    """Writes what the library says for debugging as lines of the log."""

    write: Write = staticmethod(plain_write)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if not current_output().shows("I"):
            return
        line = LogLine(record.getMessage())
        self.write(glog_line(line) if current_output().log_format == "glog" else line.text, "dim")


_details = _Details()


@contextmanager
def _told_to(write: Write) -> Iterator[None]:
    """Let details pass by the bar."""
    before, _details.write = _details.write, write
    try:
        yield
    finally:
        _details.write = before


@contextmanager
def details_told() -> Iterator[None]:
    """Log what the library says for debugging, from here on."""
    logger = logging.getLogger("ristretto")
    level = logger.level
    logger.addHandler(_details)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(_details)
        logger.setLevel(level)

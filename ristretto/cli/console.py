"""What a person sees while a job runs: log lines on stderr, and a progress bar where stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ristretto.report.events import BatchDone, Event, PassDone, PassStarted
from ristretto.report.glog import event_lines, glog_line

Write = Callable[[str], None]


def plain_write(line: str) -> None:
    """Write a line to stderr."""
    if sys.stderr is not None:  # closed, as cron jobs do
        sys.stderr.write(line + "\n")


def say_device(asked: str) -> None:
    """Say on stderr, in one line, if nothing runs on the device that --gpu asks for."""
    from ristretto.pipeline.device import find_device
    from ristretto.report.glog import on_cpu

    reason = find_device(asked).reason
    if reason:
        plain_write(f"ristretto: warning: {on_cpu(asked, reason)}")


@contextmanager
def job_console() -> Iterator[tuple[Callable[[Event], None], Write]]:
    """A listener that logs every event, and the function it writes lines with.

    Where stderr is a terminal a bar below the log shows how far the present pass is.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _logger(plain_write, lambda event: None), plain_write
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("opening", total=None)

        def advance(event: Event) -> None:
            match event:
                case PassStarted(purpose, batches):
                    progress.reset(task, total=batches or None, description=purpose)
                case BatchDone():
                    progress.advance(task)
                case PassDone():
                    progress.reset(task, total=None, description="preparing")

        def write(line: str) -> None:
            progress.console.print(line, markup=False)

        yield _logger(write, advance), write


def _logger(write: Write, advance: Callable[[Event], None]) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        for line in event_lines(event):
            write(glog_line(line))
        advance(event)

    return listen

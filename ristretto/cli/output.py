"""How much is said and in which form, as the command line asks for it (``output_flags``), and what streams can show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import IO, Literal

LogFormat = Literal["glog", "plain"]

SEVERITIES = "IWE"
"""The letters of the severities, from the least up."""


@dataclass(frozen=True, slots=True)
class Output:
    """How much is said, and how.

    Attributes:
        least: the least severity that is logged: 0 all, 1 warnings and errors, 2 errors alone.
        verbose: whether what helps to find a fault is told too.
        log_format: "glog", as the original's log, or "plain".
    """

    least: int = 0
    verbose: bool = False
    log_format: LogFormat = "glog"

    def shows(self, severity: str) -> bool:
        """Whether a line of this severity is shown."""
        return SEVERITIES.index(severity) >= self.least


_current: ContextVar[Output | None] = ContextVar("output", default=None)


def current_output() -> Output:
    """What the command line asks for."""
    return _current.get() or Output()


@contextmanager
def output_is(asked: Output) -> Iterator[None]:
    """Inside this is what the command line asks for, until it is changed."""
    token = _current.set(asked)
    try:
        yield
    finally:
        _current.reset(token)


def change_output(asked: Output) -> None:
    """From here on something else is asked for."""
    _current.set(asked)


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a stream is a terminal that can do more than print lines."""
    if stream is None or not stream.isatty():  # closed, as cron jobs do
        return False
    return os.environ.get("TERM", "") not in ("dumb", "unknown")


def is_coloured(stream: IO[str] | None) -> bool:
    """Whether a stream is a terminal whose user wants colours (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")

"""How many threads a run takes."""

from __future__ import annotations

import os

from ristretto.errors import UsageError
from ristretto.runtime.local_pool import cores

_VARIABLE = "RISTRETTO_THREADS"
"""Threads where none are asked for: of many jobs on one machine each is best off with few."""


def usual_threads() -> int:
    """What the environment asks for; 0 if nothing.

    Raises:
        UsageError: it is no number of threads.
    """
    asked = os.environ.get(_VARIABLE, "0")
    if not (asked.isascii() and asked.isdigit() and len(asked) < 5):
        what = f"{_VARIABLE}={asked}: expected a number of threads"
        raise UsageError(what, cure="set it to 1 or more, or not at all")
    return int(asked)


def thread_count(asked: int) -> int:
    """The threads for a run: so many, or as the environment asks where that is 0, or one per core."""
    return asked or usual_threads() or cores()

"""Calls that the workers of the tests make."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ristretto.errors import DataError

WORN = "RISTRETTO_TEST_WORN"
"""Names a folder: the first process that comes to a task marked there kills itself."""


def total(number: int, values: np.ndarray[Any, Any]) -> float:
    return float(values.sum()) * number


def process(number: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def fail(number: int) -> None:
    raise DataError(f"item {number} is damaged", cure="replace it", file="list.txt", line=number, layer="data")


def unspeakable(number: int) -> object:
    return lambda: number


def chatter(number: int) -> int:
    sys.stdout.write("a library prints\n")
    sys.stdout.flush()
    os.write(1, b"and one that is no Python")
    return number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark: Path) -> str:
    """End the process of the first who calls it."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def leave(mark: Path) -> None:
    mark.touch()
    time.sleep(0.01)


def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def shard_of_a_dying_worker(shard: Any, *parts: Any) -> Any:
    """``run_shard``, whose process is killed at the second shard of the first pass that has one."""
    from ristretto.pipeline.shards import run_shard

    if shard.first > 0:
        die_once(Path(os.environ[WORN]) / "mark")
    return run_shard(shard, *parts)

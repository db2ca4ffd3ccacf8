"""Shards whose worker dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.runtime.tasks import WORN, die_once


def in_calibration(shard: Any, work: Any, weights: Any) -> Any:
    """``run_shard``; the first process that measures ranges kills itself."""
    return _unless(work.recipe.net.phase == "TRAIN", shard, work, weights)


def in_baseline(shard: Any, work: Any, weights: Any) -> Any:
    """``run_shard``; the first process that is given anything to score kills itself."""
    return _unless(work.recipe.net.phase == "TEST", shard, work, weights)


def always(shard: Any, work: Any, weights: Any) -> Any:
    """No worker comes through."""
    os.kill(os.getpid(), signal.SIGKILL)


def _unless(dies: bool, shard: Any, work: Any, weights: Any) -> Any:
    from ristretto.pipeline.shards import run_shard

    if dies:
        die_once(Path(os.environ[WORN]) / "mark")
    return run_shard(shard, work, weights)

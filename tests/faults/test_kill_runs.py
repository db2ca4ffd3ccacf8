"""Real runs that are ended at random moments; ``tools/kill_runs.py`` does it as often as one likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "kill_runs.py"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
def test_runs_that_are_killed() -> None:
    jobs = ("quantize", "quantize, workers", "export hardware", "fold")
    words = [word for job in jobs for word in ("--only", job)]
    done = subprocess.run(
        [sys.executable, str(TOOL), "--runs", "10", "--seed", "4", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 runs, 0 wrong" in done.stdout

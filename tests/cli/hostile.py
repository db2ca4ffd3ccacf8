"""Runs command lines of the program one after the other in a process with little memory and little time for each.

``python -m tests.cli.hostile`` reads a list of ``{"folder": ..., "arguments": [...]}`` from stdin as JSON and writes a
line ``{"status", "out", "err"}`` for each to stdout. A run that takes too long ends the process, so that its line and
those after it are missing.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

CPU_SECONDS, SECONDS = 30, 300
"""For each run, of its own and by the clock: a machine may be busy with other things."""

MEMORY = 1 << 30
"""Bytes of address space for all runs, beside what the program needs as it is."""


class Run(NamedTuple):
    """What became of a command line; a status of None stands for a run that did not come to its end."""

    status: int | None
    out: str = ""
    err: str = ""

    @property
    def message(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


def runs(jobs: Sequence[tuple[Path, Sequence[object]]]) -> list[Run]:
    """Run command lines, each in a folder."""
    asked = json.dumps([{"folder": str(folder), "arguments": list(map(str, words))} for folder, words in jobs])
    here = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.hostile"], input=asked, capture_output=True, text=True, cwd=here, check=False
    )
    found = [Run(**json.loads(line)) for line in done.stdout.splitlines()]
    return found + [Run(None, "", done.stderr)] * (len(jobs) - len(found))


def _run(folder: str, arguments: list[str], results: int) -> None:
    from ristretto.cli.main import main

    with TemporaryFile() as out, TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.chdir(folder)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # whose signal ends the process
        signal.alarm(SECONDS)
        status = main(arguments)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.flush()
        sys.stderr.flush()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    line = json.dumps({"status": status, "out": texts[0], "err": texts[1]}) + "\n"
    data = line.encode()
    while data:
        data = data[os.write(results, data) :]


def _main() -> None:
    jobs: list[dict[str, Any]] = json.load(sys.stdin)
    results = os.dup(1)
    import ristretto.api
    import ristretto.cli.main
    import ristretto.runtime.session  # noqa: F401

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for job in jobs:
        _run(job["folder"], job["arguments"], results)


if __name__ == "__main__":
    _main()

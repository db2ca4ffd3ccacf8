"""Fuzz all readers in turn and keep count: ``python tools/fuzz/campaign.py --seconds 60 --rounds 10``.

Every round gives each target so many seconds. What was run is added to ``campaign.json``; ``--table`` prints it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from run import HERE, target_names

_INPUTS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_LAST = re.compile(r"^#(\d+)\s", re.MULTILINE)
_COVERED = re.compile(r"cov: (\d+)")
_LAST_BYTES = 1 << 16


def fuzz(target: str, seconds: int, folder: Path, seed: int) -> dict[str, int]:
    """One run of one target: inputs, seconds, code reached, findings so far."""
    command = [sys.executable, str(HERE / "run.py"), target, "--seconds", str(seconds), "--folder", str(folder)]
    start = time.monotonic()
    with (folder / f"{target}.log").open("w+b") as log:
        # Libraries in C say something of every input: were that kept here, libFuzzer would count it as the target's.
        subprocess.run([*command, "--seed", str(seed)], stdout=log, stderr=log, check=False)
        log.seek(max(0, log.tell() - _LAST_BYTES))
        said = log.read().decode("utf-8", "replace")
    spent = round(time.monotonic() - start)
    inputs = _INPUTS.findall(said) or _LAST.findall(said)
    if not inputs:
        sys.stderr.write(said[-2000:])
    found = [path for path in (folder / target / "findings").iterdir() if path.suffix != ".txt"]
    covered = _COVERED.findall(said)
    return {
        "inputs": int(inputs[-1]) if inputs else 0,
        "seconds": spent,
        "covered": int(covered[-1]) if covered else 0,
        "findings": len(found),
    }


def add(results: dict[str, Any], target: str, run: dict[str, int]) -> None:
    """Add a run to what is known of a target."""
    known = results.setdefault(target, {"inputs": 0, "seconds": 0, "covered": 0, "findings": 0})
    known["inputs"] += run["inputs"]
    known["seconds"] += run["seconds"]
    known["covered"] = max(known["covered"], run["covered"])
    known["findings"] = run["findings"]


def table(results: dict[str, Any]) -> str:
    """What was run as a table."""
    rows = ["| reader | inputs | seconds | places in the code reached |", "| --- | --- | --- | --- |"]
    for name, known in sorted(results.items()):
        rows.append(f"| `{name}` | {known['inputs']:,} | {known['seconds']} | {known['covered']} |")
    total = sum(known["inputs"] for known in results.values())
    seconds = sum(known["seconds"] for known in results.values())
    return "\n".join([*rows, f"| all | {total:,} | {seconds} | |"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="which; all if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="of each run")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--table", action="store_true", help="print what was run, and run nothing")
    asked = parser.parse_args(arguments)
    file = asked.folder / "campaign.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if not asked.table:
        asked.folder.mkdir(parents=True, exist_ok=True)
        for number in range(asked.rounds):
            for target in asked.targets or target_names():
                run = fuzz(target, asked.seconds, asked.folder, 1 + number + len(results))
                add(results, target, run)
                file.write_text(json.dumps(results, indent=1) + "\n")
                sys.stderr.write(f"{target}: {run}\n")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()

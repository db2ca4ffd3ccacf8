"""The golden material beside the project; tests that need it skip where it is absent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the golden material is not beside the project")


def cases(pattern: str) -> list[Path]:
    """The paths under the golden material that match a pattern; none where it is absent."""
    return sorted(SHARED.glob(pattern))


def messages(log: str) -> list[str]:
    """The messages of a glog file, without time, process and place."""
    return [re.sub(r"^[IWEF]\d{4} [^\]]*\] ", "", line) for line in log.splitlines()]


def integer_lengths(lines: list[str]) -> dict[str, tuple[int, int, int]]:
    """The integer lengths (input, output, parameters) that a log states, by layer."""
    pattern = re.compile(r"Layer (\S+), integer length input=(-?\d+), .*output=(-?\d+), .*parameters=(-?\d+)")
    found = (pattern.fullmatch(line) for line in lines)
    return {match[1]: (int(match[2]), int(match[3]), int(match[4])) for match in found if match}


def summary(lines: list[str]) -> dict[str, dict[int, float]]:
    """The rungs of the summary by group, the combined score as {0: score}, and the chosen widths."""
    start = len(lines) - lines[::-1].index("------------------------------")
    rungs: dict[str, dict[int, float]] = {"CONV": {}, "FC": {}, "activations": {}, "combined": {}, "chosen": {}}
    group = ""
    for line in lines[start:]:
        heading = re.match(r"Dynamic fixed point (CONV|FC|layer)$", line)
        if heading:
            group = {"layer": "activations"}.get(heading[1], heading[1])
        elif match := re.match(r"(\d+)bit: \t(.*)$", line):
            rungs[group][int(match[1])] = float(match[2])
        elif match := re.match(r"(\d+)bit (CONV|FC|layer)", line):
            rungs["chosen"][{"CONV": 0, "FC": 1, "layer": 2}[match[2]]] = float(match[1])
        elif line.startswith("Accuracy: "):
            rungs["combined"][0] = float(line.split()[1])
        elif line.startswith("Baseline"):
            rungs["combined"][1] = float(line.split()[-1])
    return rungs

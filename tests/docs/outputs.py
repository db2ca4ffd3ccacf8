"""Compares what a page shows with what was printed: the words exactly, figures nearly, times and places not at all."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"^[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ (?=[\w.]+:\d+\] )")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def missing_line(shown: str, printed: str) -> str | None:
    """The first line shown that was not printed, in order; None where all were.

    A line "..." stands for any number of lines; "..." within a line for anything. Without such a line the first and the
    last lines may have others around them, but none may lie between two lines shown.
    """
    lines = [_PREFIX.sub("", _ANSI.sub("", line)).split() for line in printed.splitlines()]
    at, gap = 0, True
    for line in shown.splitlines():
        words = _PREFIX.sub("", line).split()
        if not words:
            continue
        if words == ["..."]:
            gap = True
            continue
        while at < len(lines) and not lines[at]:
            at += 1
        last = len(lines) if gap else at + 1
        place = next((index for index in range(at, last) if index < len(lines) and _alike(words, lines[index])), None)
        if place is None:
            return line
        at, gap = place + 1, False
    return None


def _alike(shown: list[str], printed: list[str]) -> bool:
    if "..." in shown:
        at = shown.index("...")
        rest = shown[at + 1 :]
        if len(printed) < at + len(rest):
            return False
        return _alike(shown[:at], printed[:at]) and _alike(rest, printed[len(printed) - len(rest) :])
    return len(shown) == len(printed) and all(map(_same_word, shown, printed))


def _same_word(shown: str, printed: str) -> bool:
    """Equal but for digits after the point: those may differ by two per cent, as between processors."""
    if shown == printed:
        return True
    if _NUMBER.sub("#", shown) != _NUMBER.sub("#", printed):
        return False
    return all(_near(a, b) for a, b in zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True))


def _near(shown: str, printed: str) -> bool:
    if shown == printed:
        return True
    if "." not in shown + printed and "e" not in shown + printed:
        return False
    a, b = float(shown), float(printed)
    return abs(a - b) <= max(0.02 * max(abs(a), abs(b)), 0.006)

"""What came of running a report's job again, as text and as JSON; and where two reports differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA_VERSION = 1

SHOWN = 20
"""How many differences are printed; the JSON has all."""

_BY_ITSELF = ("version", "provenance")
"""Fields of a report that are compared by themselves."""

_TIME = "seconds"


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that is not what the report says.

    Attributes:
        field: its place: names and indices with dots between.
        before: what the report says; None also where it has no such field.
        now: what came out.
    """

    field: str
    before: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of running a job again.

    Attributes:
        inputs: files that are no longer what they were; where there are any, the job was not run.
        versions: what runs now in other versions; that alone is no fault.
        differences: values that came out otherwise.
        compared: how many values were compared.
        score: of the run.
    """

    inputs: tuple[Difference, ...]
    versions: tuple[Difference, ...]
    differences: tuple[Difference, ...] = ()
    compared: int = 0
    score: float | None = None

    @property
    def holds(self) -> bool:
        """Whether all came out as the report says."""
        return not self.inputs and not self.differences


def differences(before: Any, now: Any, tolerance: float, field: str = "") -> Iterator[Difference | None]:
    """Compare JSON values: for each value a difference, or None where there is none.

    Args:
        before: what a report says.
        now: what came out.
        tolerance: how far floats may be apart, relative to the larger one; integers, words and true or false are equal
            or not.
        field: the place of both.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            first, second = before.get(name), now.get(name)
            if name == _TIME and all(map(_is_time, (first, second))):
                continue
            if field or name not in _BY_ITSELF:
                yield from differences(first, second, tolerance, f"{field}.{name}" if field else name)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (first, second) in enumerate(zip(before, now, strict=True)):
            yield from differences(first, second, tolerance, f"{field}.{number}")
    else:
        yield None if _same(before, now, tolerance) else Difference(field, before, now)


def _is_time(value: Any) -> bool:
    """Whether it may be what a clock gave: a layer may be called "seconds" too."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _same(before: Any, now: Any, tolerance: float) -> bool:
    if isinstance(before, bool) or isinstance(now, bool):
        return before is now
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=tolerance)
    return bool(before == now)


def verification_lines(found: Verification) -> Iterator[str]:
    """What is printed of it."""
    for change in found.inputs:
        what = "is gone" if change.now is None else "is another file now"
        yield f"{change.field}: {what}"
    if found.inputs:
        yield "not run again: these are other inputs"
        return
    for change in found.differences[:SHOWN]:
        yield f"{change.field}: {_text(change.before)} in the report, {_text(change.now)} now"
    rest = len(found.differences) - SHOWN
    if rest > 0:
        yield f"and {rest} more"
    for change in found.versions:
        yield f"note: {change.field} {_text(change.before)} made the report, {_text(change.now)} runs now"
    verdict = "the same again" if found.holds else f"{len(found.differences)} are not as the report says"
    score = "" if found.score is None else f", score {found.score:g}"
    yield f"{found.compared} values compared: {verdict}{score}"


def verification_to_json(found: Verification) -> Mapping[str, Any]:
    """It as JSON values."""
    return {
        "schema": SCHEMA_VERSION,
        "holds": found.holds,
        "inputs": [asdict(change) for change in found.inputs],
        "versions": [asdict(change) for change in found.versions],
        "differences": [asdict(change) for change in found.differences],
        "compared": found.compared,
        "score": found.score,
    }


def _text(value: Any) -> str:
    if value is None:
        return "none"
    text = f"{value:.9g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""JSON with some of its values replaced: random bytes alone are hardly ever JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

Place = tuple[str | int, ...]

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**63, -(2**31), 1e308, -1e-320, 0.5, "", "x", "\ud800", "<script>", "\x1b[2J", [], {},
    [None], [[]], {"a": 1}, "1e999", "9" * 25, [0] * 40, [1e308] * 3, "nan", "inf", -0.0,
)  # fmt: skip
"""What a value becomes."""

CHANGES = 8
"""How many values are replaced at most."""


def places_of(value: Any, path: Place = ()) -> list[Place]:
    """The paths of all values in a JSON value, its own first."""
    return list(_places(value, path))


def _places(value: Any, path: Place) -> Iterator[Place]:
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*path, key))


@cache
def _parsed(base: bytes) -> tuple[Any, list[Place]]:
    value = json.loads(base)
    return value, places_of(value)


def replaced(base: bytes, data: bytes) -> bytes:
    """JSON text: the data themselves or, where they begin with a zero, another text after what they say.

    Args:
        base: the text to change.
        data: after the zero three bytes for each change, the place and what becomes of it.
    """
    if data[:1] != b"\0":
        return data
    value, places = _parsed(base)
    whole = {"value": copy.deepcopy(value)}
    for at in range(1, min(len(data), 3 * CHANGES) - 2, 3):
        path = places[int.from_bytes(data[at : at + 2], "big") % len(places)]
        _change(whole, path, data[at + 2] % (len(VALUES) + 2))
    return json.dumps(whole.get("value")).encode()


def _change(whole: Any, path: Place, choice: int) -> None:
    holder: Any = whole
    key: str | int = "value"
    try:
        for step in path:
            holder, key = holder[key], step
        if choice < len(VALUES):
            holder[key] = copy.deepcopy(VALUES[choice])
        elif choice == len(VALUES):
            del holder[key]
        else:
            holder[key] = [copy.deepcopy(holder[key])] * 2
    except (KeyError, IndexError, TypeError):
        return

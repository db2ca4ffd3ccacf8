"""How the values of a site are spread, with the limits and the values of its format drawn in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ristretto.report.html.markup import Html, number, short, tag
from ristretto.report.html.svg import Box, Scale, figure, line, steps_path, text, ticks

WIDTH, HEIGHT = 340.0, 190.0
BOX = Box(12, 30, 328, 150)

MOST_LEVELS = 80
"""More values of a format than this are no longer drawn one by one."""

NEAR = 0.4
"""By how much of its width a histogram is widened to show a limit."""


def histogram(site: Mapping[str, Any], entry: Mapping[str, Any] | None, label: str) -> Html:
    """Bars on a logarithmic scale of counts; those that saturate in red, those that a ReLU takes in grey.

    Args:
        site: the site, as the report has it.
        entry: its format, as the report has it; None for a float.
        label: what it shows, in words.
    """
    spread = site["histogram"]
    low, high, counts = spread["min"], spread["max"], spread["counts"]
    limits = site.get("limits")
    scale = Scale(*_domain(low, high, limits), BOX.left, BOX.right)
    width = (high - low) / len(counts)
    edges = [low + n * width for n in range(len(counts) + 1)]
    most = math.log1p(max(counts, default=0)) or 1.0
    tops = [BOX.bottom - math.log1p(count) / most * (BOX.bottom - BOX.top) for count in counts]
    kinds = [_kind((a + b) / 2, site) for a, b in pairwise(edges)]
    parts = [line(BOX.left, BOX.bottom, BOX.right, BOX.bottom, "base")]
    for kind in ("inside", "beyond", "taken"):
        kept = [top if own == kind else BOX.bottom for top, own in zip(tops, kinds, strict=True)]
        path = steps_path([scale(edge) for edge in edges], kept, BOX.bottom)
        if path:
            parts.append(tag("path", d=path, class_=f"bars {kind}"))
    if limits is not None:
        parts += _levels(scale, site, entry)
        parts += _limits(scale, limits)
    for value in ticks(scale.low, scale.high, 5):
        parts.append(text(scale(value), BOX.bottom + 26, number(value, 3), "tick"))
    places = [scale(edges[0]), scale(edges[-1])]
    return figure(
        WIDTH,
        HEIGHT,
        label,
        *parts,
        class_="plot histogram",
        data_counts=" ".join(map(str, counts)),
        data_range=f"{low!r} {high!r}",
        data_places=" ".join(map(short, places)),
    )


def _domain(low: float, high: float, limits: list[float] | None) -> tuple[float, float]:
    """What is shown: the range, and the limits where they are near."""
    room = (high - low) * NEAR
    shown = [low, high, *(limit for limit in limits or () if low - room <= limit <= high + room)]
    margin = (max(shown) - min(shown)) * 0.02
    return min(shown) - margin, max(shown) + margin


def _kind(middle: float, site: Mapping[str, Any]) -> str:
    """What becomes of the values of a bin."""
    limits = site.get("limits")
    if limits is None or limits[0] <= middle <= limits[1]:
        return "inside"
    return "taken" if middle < limits[0] and site.get("rectified") else "beyond"


def _limits(scale: Scale, limits: list[float]) -> list[Html]:
    """A line at each limit that is in sight, an arrow for one that is beyond; with the numbers."""
    parts = []
    for end, limit in enumerate(limits):
        anchor = ("start", "end")[end]
        if scale.low <= limit <= scale.high:
            x = scale(limit)
            # The number leans into the plot.
            parts.append(line(x, BOX.top - 12, x, BOX.bottom, "limit"))
            parts.append(text(x + (4, -4)[end], BOX.top - 6, number(limit), "limit-text", anchor))
        else:
            outside = (limit < scale.low) == (end == 0)
            arrow = f"← {number(limit)}" if limit < scale.low else f"{number(limit)} →"
            x = BOX.left if limit < scale.low else BOX.right
            y = BOX.top - 6 if outside else BOX.top + 8
            parts.append(text(x, y, arrow, "limit-text", "start" if limit < scale.low else "end"))
    return parts


def _levels(scale: Scale, site: Mapping[str, Any], entry: Mapping[str, Any] | None) -> list[Html]:
    """A tick below the base line for each value that the format has, where they can be told apart."""
    low, high = (max(scale.low, site["limits"][0]), min(scale.high, site["limits"][1]))
    levels = _values(low, high, site, entry or {})
    path = "".join(f"M{short(scale(value))} {short(BOX.bottom + 3)}v7" for value in levels)
    return [tag("path", d=path, class_="levels")] if path else []


def _values(low: float, high: float, site: Mapping[str, Any], entry: Mapping[str, Any]) -> list[float]:
    """The values of a format in a range; of minifloat those with mantissa 0. None where there are too many."""
    if low > high:
        return []
    step = site.get("step")
    if step is not None:
        if (high - low) / step > MOST_LEVELS:
            return []
        return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    if "exp_min" in entry:
        powers = [math.ldexp(1.0, exponent) for exponent in range(entry["exp_min"], entry["exp_max"] + 1)]
    elif "exp_bits" in entry or "float_format" in entry:
        top = math.frexp(site["limits"][1])[1] - 1
        powers = [math.ldexp(1.0, exponent) for exponent in range(top, top - 40, -1)]
    else:
        return []
    least = (high - low) / 400
    return [value for power in powers for value in (-power, power) if low <= value <= high and power > least]

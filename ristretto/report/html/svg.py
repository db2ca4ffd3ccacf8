"""Pieces of plots: scales, ticks, axes, lines, marks. Colours and fonts are the style sheet's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ristretto.report.html.markup import Html, join, number, short, tag


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps low..high to start..end, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Box:
    """The inner rectangle of a plot, in pixels."""

    left: float
    top: float
    right: float
    bottom: float


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two others, their ends included.

    >>> ticks(0.0, 1.0, 4)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(-3.0, 11.0, 3)
    [0.0, 5.0, 10.0]
    """
    rough = (high - low) / max(about, 1)
    if not rough > 0:
        return [low]
    power = math.floor(math.log10(rough))
    mantissa = rough / 10.0**power
    unit = min((1, 2, 5, 10), key=lambda each: abs(math.log(each / mantissa)))
    first, last = (math.ceil(low / unit * 10.0**-power - 1e-9), math.floor(high / unit * 10.0**-power + 1e-9))
    # Multiplying by a negative power of ten would leave 0.30000000000000004.
    return [n * unit / 10.0**-power if power < 0 else n * unit * 10.0**power for n in range(first, last + 1)]


def padded(values: Iterable[float], share: float = 0.08, least: float = 1e-3) -> tuple[float, float]:
    """A range that holds values with some room around them."""
    kept = [value for value in values if math.isfinite(value)]
    low, high = min(kept, default=0.0), max(kept, default=1.0)
    room = max((high - low) * share, least)
    return low - room, high + room


def figure(width: float, height: float, label: str, *children: str, class_: str = "plot", **data: str) -> Html:
    """An image with a text for those who cannot see it.

    Args:
        width: in pixels, at its natural size.
        height: the same.
        label: what it shows, in words.
        children: what is drawn.
        class_: of the element.
        data: further attributes.
    """
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {short(width)} {short(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
        class_=class_,
        **data,
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "middle") -> Html:
    """Words, anchored at their start, middle or end."""
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_ or None)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Html:
    """A line through points."""
    return tag("polyline", points=" ".join(f"{short(x)},{short(y)}" for x, y in points), class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, tip: str | None = None) -> Html:
    """A rectangle with slightly rounded corners."""
    return tag("rect", x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), rx=2, class_=class_, data_tip=tip)


def dot(x: float, y: float, class_: str, tip: str, radius: float = 5) -> Html:
    """A mark with a larger invisible target around it."""
    shown = tag("circle", cx=x, cy=y, r=radius, class_=class_)
    return tag("g", tag("circle", cx=x, cy=y, r=13, class_="hit"), shown, data_tip=tip)


def y_axis(box: Box, scale: Scale, title: str, about: int = 5) -> Html:
    """Grid lines with their numbers, and what they mean."""
    parts = []
    for value in ticks(scale.low, scale.high, about):
        y = scale(value)
        parts += [
            line(box.left, y, box.right, y, "grid"),
            text(box.left - 8, y + 4, number(value), "tick", "end"),
        ]
    return join(*parts, text(box.left - 8, box.top - 12, title, "axis", "start" if box.left < 30 else "middle"))


def x_axis(box: Box, scale: Scale, title: str, about: int = 6) -> Html:
    """The base line with ticks and numbers, and what they mean."""
    parts = [line(box.left, box.bottom, box.right, box.bottom, "base")]
    for value in ticks(scale.low, scale.high, about):
        x = scale(value)
        parts += [line(x, box.bottom, x, box.bottom + 4, "base"), text(x, box.bottom + 18, number(value), "tick")]
    return join(*parts, text((box.left + box.right) / 2, box.bottom + 36, title, "axis"))


def steps_path(edges: Sequence[float], tops: Sequence[float], bottom: float) -> str:
    """The outline of bars that stand side by side; those of no height leave gaps."""
    parts = []
    for left, right, top in zip(edges, edges[1:], tops, strict=False):
        if top < bottom:
            parts.append(f"M{short(left)} {short(bottom)}V{short(top)}H{short(right)}V{short(bottom)}z")
    return "".join(parts)

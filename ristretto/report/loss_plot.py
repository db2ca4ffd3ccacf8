"""The loss of a training as a picture: an SVG that needs nothing but a browser."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from ristretto.report.glog import number
from ristretto.report.training import Training

_WIDTH, _HEIGHT = 800, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 70, 46, 50
_POINTS = 800
"""More points than pixels are not drawn: the mean of those that share one is."""

_LOSS, _SCORE, _GRID, _TEXT = "#1f6feb", "#c2410c", "#d0d7de", "#57606a"


def loss_plot(training: Training) -> str:
    """The loss of each iteration and its running mean, with the scores of the first test net's outputs but losses.

    Scores have their axis on the right. Iterations without a finite loss are left out.
    """
    points = [(training.first + place, loss) for place, loss in enumerate(training.losses) if math.isfinite(loss)]
    scores = _scores(training)
    last = max([at for at, _ in points] + [at for line in scores.values() for at, _ in line], default=1)
    across = _Axis(0, max(last, 1), _LEFT, _WIDTH - _RIGHT)
    smooth = _smoothed(points)
    left = _Axis.around([loss for _, loss in _thinned(points)], _HEIGHT - _BOTTOM, _TOP)
    right = _Axis.around([value for line in scores.values() for _, value in line], _HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(training, across, left, right if scores else None)]
    parts.append(_line(_thinned(points), across, left, _LOSS, 'stroke-opacity="0.35" stroke-width="1"'))
    parts.append(_line(_thinned(smooth), across, left, _LOSS, 'stroke-width="2"'))
    for line in scores.values():
        parts.append(_line(line, across, right, _SCORE, 'stroke-width="2" stroke-dasharray="5 3"'))
        parts += [
            f'<circle cx="{across.at(x):.1f}" cy="{right.at(y):.1f}" r="3" fill="{_SCORE}">'
            f"<title>{x}: {number(y)}</title></circle>"
            for x, y in line
        ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12" fill="{_TEXT}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


class _Axis:
    """A scale from numbers to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        wide = high - low > 1e-9 * max(abs(low), abs(high), 1e-9)  # less than that has no round numbers inside
        self.low, self.high = low, high if wide else low + max(1.0, abs(low))
        self.start, self.end = start, end

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        """One that shows all values, with some room."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        room = (high - low or abs(high) or 1.0) * 0.05
        return cls(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        """The pixel of a number."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Some five round numbers."""
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (factor * step) <= 6)
        first = math.ceil(self.low / step)
        return [place * step for place in range(first, math.floor(self.high / step) + 1)]


def _scores(training: Training) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {}
    for test in training.tests:
        for output in test.outputs if test.number == 0 else ():
            if not output.loss_weight and len(output.values) == 1 and math.isfinite(output.values[0]):
                lines.setdefault(output.blob, []).append((test.iteration, output.values[0]))
    return lines


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The mean of the loss over the last fiftieth of the training."""
    window = max(1, len(points) // 50)
    smooth, total = [], 0.0
    for place, (at, loss) in enumerate(points):
        total += loss - (points[place - window][1] if place >= window else 0.0)
        smooth.append((at, total / min(place + 1, window)))
    return smooth


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    size = max(1, math.ceil(len(points) / _POINTS))
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _line(points: Iterable[tuple[float, float]], across: _Axis, up: _Axis, colour: str, style: str) -> str:
    path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" {style}/>'


def _frame(training: Training, across: _Axis, left: _Axis, right: _Axis | None) -> Iterable[str]:
    title = escape(f"{training.net or 'net'}: loss")
    names = ", ".join(_scores(training))
    yield f'<text x="{_LEFT}" y="24" font-size="15" fill="#1f2328">{title}</text>'
    for tick in left.ticks():
        y = left.at(tick)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{_LOSS}">{number(tick)}</text>'
    if right is not None:
        yield f'<text x="{_WIDTH - _RIGHT}" y="24" text-anchor="end" fill="{_SCORE}">{escape(names)} (test)</text>'
        for tick in right.ticks():
            yield f'<text x="{_WIDTH - _RIGHT + 8}" y="{right.at(tick) + 4:.1f}" fill="{_SCORE}">{number(tick)}</text>'
    for tick in across.ticks():
        if tick == int(tick):
            x = across.at(tick)
            yield f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{number(tick)}</text>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{_HEIGHT - 10}" text-anchor="middle">iteration</text>'

"""A width for every layer: the cheapest net within the margin, along a path from wide to narrow.

Each step of the path narrows the site where a saved bit of cost does least harm. What harm a width does is measured
site by site, on the net's output; the sum stands for the harm of all together. Only the search along the path scores
whole nets, so it is the combined net that holds the margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ristretto.decide.search import holds

Side = Literal["params", "activations"]
Site = tuple[str, Side]
"""A layer's name and what of it."""

Cost = Callable[[Mapping[Site, int]], float]
"""What widths cost, in a unit that the user names."""

_QUARTER = 4.0
"""By how much the squared error of a rounding grows when a bit is taken away."""


@dataclass(frozen=True, slots=True)
class Point:
    """One net on the path.

    Attributes:
        widths: of every site.
        cost: what they cost.
        harm: the sum of the sites' harms, as predicted.
    """

    widths: Mapping[Site, int]
    cost: float
    harm: float


@dataclass(frozen=True, slots=True)
class ScoredPoint:
    """A point of the path whose net was scored."""

    index: int
    point: Point
    score: float
    held: bool


@dataclass(frozen=True, slots=True)
class MixedSearch:
    """The outcome.

    Attributes:
        path: all points, widest first.
        scored: those that were scored, by index.
        chosen: the narrowest that held the margin, or that keeps to the budget; None if the widest missed already.
    """

    path: tuple[Point, ...]
    scored: tuple[ScoredPoint, ...]
    chosen: ScoredPoint | None


def extended(harms: Mapping[int, float], widths: Sequence[int]) -> dict[int, float]:
    """Harms for all widths: those above the widest measured shrink fourfold with every bit, none grows with a bit.

    A width whose outputs are not numbers does infinite harm.
    """
    widest = max(harms)
    found: dict[int, float] = {}
    least = 0.0
    for bw in sorted(widths, reverse=True):
        harm = harms[bw] if bw in harms else harms[widest] / _QUARTER ** (bw - widest)
        harm = math.inf if math.isnan(harm) else harm
        least = max(least, harm)
        found[bw] = least
    return found


def narrowing_path(harms: Mapping[Site, Mapping[int, float]], cost: Cost) -> tuple[Point, ...]:
    """From all sites at their widest to all at their narrowest, one site a bit narrower at each step.

    Args:
        harms: for each site the harm of each width it may have.
        cost: what widths cost. A site whose width costs nothing is never narrowed.
    """
    widths = {site: max(options) for site, options in harms.items()}
    path = [_point(widths, harms, cost)]
    while True:
        best: tuple[float, Site, int] | None = None
        for site, options in harms.items():
            narrower = [bw for bw in options if bw < widths[site]]
            if not narrower:
                continue
            bw = max(narrower)
            saved = path[-1].cost - cost({**widths, site: bw})
            if saved <= 0:
                continue
            harm = options[bw] if math.isinf(options[bw]) else options[bw] - options[widths[site]]
            rate = harm / saved
            if best is None or rate < best[0]:
                best = (rate, site, bw)
        if best is None:
            return tuple(path)
        widths = {**widths, best[1]: best[2]}
        path.append(_point(widths, harms, cost))


def _point(widths: Mapping[Site, int], harms: Mapping[Site, Mapping[int, float]], cost: Cost) -> Point:
    return Point(dict(widths), cost(widths), sum(harms[site][bw] for site, bw in widths.items()))


def search_path(
    path: Sequence[Point], evaluate: Callable[[Point], float], *, baseline: float, margin: float
) -> MixedSearch:
    """The narrowest point within the margin, by halving: a narrower net is taken to score no better.

    The point that is chosen was scored itself, so it holds the margin whether or not that is so.

    Args:
        path: the points, widest first.
        evaluate: gives the score of a point's net.
        baseline: the float score.
        margin: the allowed drop, in the unit of the score.
    """
    scored: dict[int, ScoredPoint] = {}

    def score(index: int) -> bool:
        value = evaluate(path[index])
        scored[index] = ScoredPoint(index, path[index], value, holds(value, baseline, margin))
        return scored[index].held

    low, high = 0, len(path) - 1
    if not score(high):
        if not score(low):
            return MixedSearch(tuple(path), (scored[low], *([scored[high]] if high else [])), None)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if score(middle) else (low, middle)
    else:
        low = high
    return MixedSearch(tuple(path), tuple(scored[index] for index in sorted(scored)), scored[low])


def within_budget(path: Sequence[Point], evaluate: Callable[[Point], float], budget: float) -> MixedSearch:
    """The widest point of the path that costs no more than a budget; scored, whatever its score is."""
    affordable = [index for index, point in enumerate(path) if point.cost <= budget]
    index = affordable[0] if affordable else len(path) - 1
    chosen = ScoredPoint(index, path[index], evaluate(path[index]), bool(affordable))
    return MixedSearch(tuple(path), (chosen,), chosen if affordable else None)

"""How sure a score is: an interval for the share of right images, and for the drop between two nets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

CONFIDENCE = 0.95
"""The share of such intervals that hold the true value."""

Verdict = Literal["held", "missed", "undecided"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A range for a share or a difference of shares."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Paired:
    """Two nets on the same images.

    Attributes:
        images: how many.
        lost: right in the first net, wrong in the second.
        won: wrong in the first, right in the second.
    """

    images: int
    lost: int
    won: int

    @property
    def drop(self) -> float:
        """By how much the share of right images falls."""
        return (self.lost - self.won) / self.images


def share_interval(right: int, images: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for a share (E. B. Wilson 1927), which is never outside 0 to 1.

    >>> share_interval(648, 1000)
    Interval(low=0.6178838670299426, high=0.6769834124583332)
    """
    z = _z(confidence)
    share = right / images
    centre = share + z * z / (2 * images)
    spread = z * math.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    scale = 1 + z * z / images
    return Interval(max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def drop_interval(paired: Paired, confidence: float = CONFIDENCE) -> Interval:
    """An interval for the drop: Wald's with one more image lost and one more won (Bonett and Price 2012).

    It rests on the images whose verdict changes alone, so it is much narrower than the two shares' own intervals.
    """
    z = _z(confidence)
    images = paired.images + 2
    lost, won = (paired.lost + 1) / images, (paired.won + 1) / images
    spread = z * math.sqrt((lost + won - (lost - won) ** 2) / images)
    return Interval(max(-1.0, lost - won - spread), min(1.0, lost - won + spread))


def mcnemar(paired: Paired) -> float:
    """The exact two-sided p-value of McNemar's test: how likely so uneven a change is if neither net is better.

    >>> mcnemar(Paired(1000, lost=8, won=1))
    0.0390625
    """
    changed = paired.lost + paired.won
    if not changed:
        return 1.0
    fewer = min(paired.lost, paired.won)
    tail: float = sum(math.comb(changed, count) for count in range(fewer + 1)) / 2**changed
    return min(1.0, 2 * tail)


def margin_verdict(paired: Paired, margin: float, confidence: float = CONFIDENCE) -> Verdict:
    """Whether the true drop is within a margin, as far as these images can tell."""
    interval = drop_interval(paired, confidence)
    if interval.high <= margin:
        return "held"
    return "missed" if interval.low > margin else "undecided"


def binomial_tail(count: int, total: int, probability: float) -> float:
    """The probability of so many successes or more among so many tries, each with a probability.

    >>> binomial_tail(2, 2, 0.5)
    0.25
    """
    if not 0 < probability < 1:
        return 1.0 if count == 0 or probability >= 1 else 0.0
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        + k * math.log(probability) + (total - k) * math.log1p(-probability)
        for k in range(count, total + 1)
    ]  # fmt: skip
    return min(1.0, sum(map(math.exp, logs)))


CHANCE = 0.01
"""How rarely guessing may do as well, for a net to count as better."""


def no_better_than(chance: float, right: int, images: int) -> bool:
    """Whether guessing, right with a probability of ``chance``, has so many right answers once in a hundred times."""
    return binomial_tail(right, images, chance) > CHANCE


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        message = f"a confidence is between 0 and 1, not {confidence}"
        raise ValueError(message)
    return NormalDist().inv_cdf(0.5 + confidence / 2)

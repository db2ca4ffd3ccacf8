"""Whether a candidate misses the margin, told before all images were scored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Look = Literal["below", "holds", "go on"]

BETS = tuple(0.5**power for power in range(1, 7))
"""The shares of what may be lost that are bet. Small ones win most on small differences, large ones on large."""

_SLACK = 1e-3
"""In images: the rounding of a margin times a number of images, and of float scores, is far less."""


@dataclass
class Sequential:
    """A sequential test of a candidate against a baseline, image by image, sampled without replacement.

    Every image has a difference: 1 where the baseline is right and the candidate wrong (lost), -1 the other way round
    (won), else 0. The candidate holds if the differences of all N images add up to no more than M = margin * N.

    The test bets on the differences (Waudby-Smith and Ramdas 2020, "Confidence sequences for sampling without
    replacement"; 2024, "Estimating means of bounded random variables by betting", section 5). Given the first i - 1
    images, a candidate that holds has a mean of the rest of at most C_i = (M - sum of x_j, j < i) / (N - i + 1). Images
    are in random order, so this bounds the expectation of the next difference x_i, and the capital

        W_n = mean over b of  product over i <= n of  1 + b * (x_i - C_i) / (1 + C_i),      b in BETS

    never falls below 0 and does not grow in expectation: it is a supermartingale that starts at 1. By Ville's
    inequality it ever reaches 1 / error with a probability of at most ``error``, however often one looks. A candidate
    that misses the margin makes it grow exponentially.

    What the images that are left cannot change is told in any order and without error.

    Attributes:
        images: N.
        margin: the allowed drop of the share of right images.
        error: the greatest probability of dropping a candidate that holds, over all looks.
        shuffled: whether the images come in random order. If not, only certainty counts.
        seen: images so far.
        lost: the sum of their differences.
    """

    images: int
    margin: float
    error: float = 0.01
    shuffled: bool = True
    seen: int = 0
    lost: int = 0
    _capital: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(BETS)))

    def __post_init__(self) -> None:
        if not 0 < self.error < 1:
            message = f"an error probability is between 0 and 1, not {self.error}"
            raise ValueError(message)

    @property
    def allowed(self) -> int:
        """The greatest sum of differences of a candidate that holds."""
        return math.floor(self.margin * self.images + _SLACK)

    @property
    def drop(self) -> float:
        """By how much the share of right images falls, as far as is known."""
        return self.lost / self.seen if self.seen else 0.0

    def look(self, differences: NDArray[np.signedinteger]) -> Look:
        """Take the differences of some more images.

        Args:
            differences: of shape (n,), each -1, 0 or 1.

        Returns:
            "below": the candidate misses the margin; "holds": it holds it, for certain; or "go on".
        """
        if self.seen + len(differences) > self.images:
            message = f"there are {self.images} images, not {self.seen + len(differences)}"
            raise ValueError(message)
        if self.shuffled:
            self._bet(differences.astype(np.float64))
        self.seen += len(differences)
        self.lost += int(differences.sum(dtype=np.int64))
        left = self.images - self.seen
        if self.lost - left > self.allowed:
            return "below"
        if self.lost + left <= self.allowed:
            return "holds"
        # What is said of the images so far must not contradict the answer.
        if self.lost * self.images > (self.allowed + 1) * self.seen and self._log_capital() >= -math.log(self.error):
            return "below"
        return "go on"

    def _bet(self, differences: NDArray[np.float64]) -> None:
        """Multiply the capital of each bet by what these images bring, in logarithms."""
        before = self.lost + np.concatenate([[0.0], np.cumsum(differences)[:-1]]) if len(differences) else differences
        left = self.images - self.seen - np.arange(len(differences))
        expected = (self.allowed - before) / left
        # Beyond these ends the answer is certain: no more bets are needed.
        open_yet = (expected > -1.0) & (expected < 1.0)
        gain = (differences - expected)[open_yet] / (1.0 + expected[open_yet])
        self._capital += np.log1p(np.outer(BETS, gain)).sum(axis=1)

    def _log_capital(self) -> float:
        """The logarithm of the mean of all bets' capitals."""
        most = float(self._capital.max())
        return most + math.log(float(np.exp(self._capital - most).mean()))

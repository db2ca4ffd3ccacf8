"""What calibration measures of a value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorStats:
    """The range of a value over the calibration batches.

    Attributes:
        min, max: least and greatest element seen.
        batches: how many batches were seen.
    """

    min: float
    max: float
    batches: int = 1

    @property
    def abs_max(self) -> float:
        """The greatest magnitude; NaN if either end is."""
        if math.isnan(self.min) or math.isnan(self.max):
            return math.nan
        return max(abs(self.min), abs(self.max))

    def merged(self, other: TensorStats) -> TensorStats:
        """The range over the batches of both; NaN stays visible."""
        pairs = ((self.min, other.min, min), (self.max, other.max, max))
        low, high = (math.nan if math.isnan(a) or math.isnan(b) else pick(a, b) for a, b, pick in pairs)
        return TensorStats(low, high, self.batches + other.batches)


def merge_stats(batches: Iterable[Mapping[str, TensorStats]]) -> dict[str, TensorStats]:
    """Join the statistics of several batches, value by value."""
    merged: dict[str, TensorStats] = {}
    for batch in batches:
        for value, stats in batch.items():
            merged[value] = merged[value].merged(stats) if value in merged else stats
    return merged

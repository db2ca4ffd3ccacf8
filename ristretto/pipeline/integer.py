"""Adding up what the taps of a net on integers say, batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.graph.integer_taps import TAP_FIELDS, LayerTap
from ristretto.numerics.integer import bits_between
from ristretto.report.integer import IntegerLayer


@dataclass
class TapTotals:
    """What happened in one layer so far.

    Attributes:
        tap: what was known before.
        low, high: the ends of the sums.
        counts: by the names of ``TAP_FIELDS``, all but the first two.
    """

    tap: LayerTap
    low: float
    high: float
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, tap: LayerTap) -> TapTotals:
        """Nothing so far."""
        return cls(tap, math.inf, -math.inf, np.zeros(len(TAP_FIELDS) - 2))

    def add(self, vector: NDArray[Any]) -> None:
        """Add one tap of one batch; a NaN stays."""
        self.low = float(np.minimum(self.low, vector[0]))
        self.high = float(np.maximum(self.high, vector[1]))
        self.counts = self.counts + vector[2:]

    def merge(self, other: TapTotals) -> None:
        """Add what was added up elsewhere."""
        self.add(np.array([other.low, other.high, *other.counts]))

    def report(self, name: str) -> IntegerLayer:
        """The layer's numbers."""
        seen = dict(zip(TAP_FIELDS[2:], self.counts.tolist(), strict=True))
        ends = math.isfinite(self.low) and math.isfinite(self.high)
        return IntegerLayer(
            name=name,
            bits_needed=self.tap.bits_needed,
            bits_observed=bits_between(int(self.low), int(self.high)) if ends else None,
            bits_asked=self.tap.bits_asked,
            overflows=int(seen["overflows"]),
            inputs=int(seen["inputs"]),
            inputs_saturated=int(seen["inputs_saturated"]),
            outputs=int(seen["outputs"]),
            outputs_saturated=int(seen["outputs_saturated"]),
            sqnr_db=_decibels(seen["signal"], seen["noise"]),
            differing=int(seen["differing"]) if self.tap.compared else None,
            proved=self.tap.proved and self.tap.compared,
            products=self.tap.products,
        )


def overflow_warnings(layers: tuple[IntegerLayer, ...]) -> list[str]:
    """A warning where an accumulator could not hold its sums."""
    over = [layer for layer in layers if layer.overflows]
    if not over:
        return []
    worst = max(over, key=lambda layer: layer.bits_observed or 0)
    count = sum(layer.overflows for layer in over)
    return [
        f"{count} sums in {len(over)} layers overflow the accumulator of {worst.bits_asked} bits; "
        f"layer '{worst.name}' has sums of {worst.bits_observed} bits"
    ]


def _decibels(signal: float, noise: float) -> float:
    if noise > 0.0:
        return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf
    return math.inf if signal > 0.0 and noise == 0.0 else math.nan

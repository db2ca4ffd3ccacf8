"""How values are spread over a range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 20


def bin_counts(values: NDArray[np.floating[Any]], low: float, high: float, bins: int) -> NDArray[np.int64]:
    """How many values lie in each of some bins of equal width.

    A bin holds its lower edge; what lies beyond the range is in the bins at its ends, NaN in none.

    >>> bin_counts(np.array([-1.0, 0.0, 0.5, 1.0, 9.0, np.nan]), 0.0, 1.0, 4)
    array([2, 0, 1, 2])

    Args:
        values: of any shape.
        low: where the range begins.
        high: where it ends, above low.
        bins: how many bins.
    """
    counts = np.zeros(bins, np.int64)
    flat = values.reshape(-1)
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE].astype(np.float64)
        part = part[~np.isnan(part)]
        places = np.clip(np.floor((part - low) * (bins / (high - low))), 0, bins - 1)
        counts += np.bincount(places.astype(np.int64), minlength=bins)
    return counts

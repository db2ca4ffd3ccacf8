"""Exponents by frexp: exact where logarithms are not."""

from __future__ import annotations

import math


def ceil_log2(v: float) -> int:
    """The smallest n with v <= 2**n.

    >>> [ceil_log2(v) for v in (0.5, 0.75, 1.0, 1.0000001, 4.0)]
    [-1, 0, 0, 1, 2]

    Args:
        v: positive and finite.

    Raises:
        ValueError: v is not; what a dead layer gets is for the caller to decide.
    """
    if not 0.0 < v < math.inf:
        message = f"no power of two bounds {v} from above and below"
        raise ValueError(message)
    mantissa, n = math.frexp(v)
    return n - 1 if mantissa == 0.5 else n

"""Hypothesis strategies for formats and values."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ristretto.numerics.formats import DynamicFixedPoint, Minifloat, PowerOfTwo


def fixed_points(max_bw: int = 24) -> SearchStrategy[DynamicFixedPoint]:
    """Fixed point formats, signed and not, with negative fractional lengths and ones above the width."""
    return st.builds(DynamicFixedPoint, st.integers(1, max_bw), st.integers(-20, 40), st.booleans())


def minifloats() -> SearchStrategy[Minifloat]:
    """All minifloat formats."""
    return st.builds(Minifloat, st.integers(1, 8), st.integers(0, 23))


def powers() -> SearchStrategy[PowerOfTwo]:
    """Power-of-two formats."""
    pairs = st.tuples(st.integers(-30, 20), st.integers(0, 12), st.booleans())
    return pairs.map(lambda three: PowerOfTwo(three[0], three[0] + three[1], three[2]))


def finite_floats() -> SearchStrategy[np.float32]:
    """Finite float32 values of all magnitudes."""
    return st.floats(allow_nan=False, allow_infinity=False, width=32).map(np.float32)

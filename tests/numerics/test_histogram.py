"""Histograms against bins in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ristretto.numerics.histogram import bin_counts

numbers = st.integers(-1000, 1000).map(lambda n: n / 16)


@given(st.lists(numbers, max_size=50), numbers, st.sampled_from([1, 4, 64, 1024]), st.sampled_from([1, 4, 16, 64]))
def test_every_value_is_in_the_bin_that_holds_it(values: list[float], low: float, width: int, bins: int) -> None:
    expected = [0] * bins
    for value in values:
        place = (Fraction(value) - Fraction(low)) * bins // Fraction(width)
        expected[min(max(place, 0), bins - 1)] += 1
    assert bin_counts(np.array(values, np.float32), low, low + width, bins).tolist() == expected


def test_what_is_beyond_is_at_the_ends_and_nan_nowhere() -> None:
    values = np.array([[-np.inf, -9.0], [np.nan, np.inf]], np.float32)
    assert bin_counts(values, 0.0, 1.0, 3).tolist() == [2, 0, 1]


def test_many_values_are_counted_in_parts() -> None:
    values = np.arange(3 << 20, dtype=np.float32)
    assert bin_counts(values, 0.0, float(3 << 20), 3).tolist() == [1 << 20] * 3

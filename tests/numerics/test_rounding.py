from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.numerics.rounding import Rounding, round_to

BELOW_HALF = float.fromhex("0x1.fffffep-2")  # the float32 just below 0.5: adding 0.5 to it gives 1 in float32

TIES = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, BELOW_HALF, -BELOW_HALF, 0.0, 3.0, -7.0]
EXPECTED = {
    Rounding.HALF_EVEN: [-2, -2, 0, 0, 2, 2, 0, 0, 0, 3, -7],
    Rounding.HALF_AWAY: [-3, -2, -1, 1, 2, 3, 0, 0, 0, 3, -7],
    Rounding.HALF_UP: [-2, -1, 0, 1, 2, 3, 0, 0, 0, 3, -7],
    Rounding.TRUNCATE: [-3, -2, -1, 0, 1, 2, 0, -1, 0, 3, -7],
}


@pytest.mark.parametrize("rounding", EXPECTED, ids=lambda rounding: rounding.value)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties(rounding: Rounding, dtype: type[np.floating]) -> None:
    result = round_to(np.array(TIES, dtype), rounding)
    np.testing.assert_array_equal(result, EXPECTED[rounding])
    assert result.dtype == dtype


def exact(x: Fraction, rounding: Rounding) -> int:
    """The rules over again in rational arithmetic."""
    low = x.numerator // x.denominator
    rest = x - low
    if rounding is Rounding.TRUNCATE or rest < Fraction(1, 2):
        return low
    if rest > Fraction(1, 2):
        return low + 1
    if rounding is Rounding.HALF_UP:
        return low + 1
    if rounding is Rounding.HALF_AWAY:
        return low + 1 if x > 0 else low
    return low if low % 2 == 0 else low + 1


@given(st.integers(-(2**26), 2**26), st.integers(0, 8), st.sampled_from(sorted(EXPECTED)))
def test_matches_rationals(numerator: int, shift: int, rounding: Rounding) -> None:
    x = Fraction(numerator, 2**shift)
    assert round_to(np.array([float(x)]), rounding)[0] == exact(x, rounding)


def test_stochastic_keeps_the_mean_and_follows_its_seed() -> None:
    x = np.full(200_000, -1.3, np.float32)
    first = round_to(x, Rounding.STOCHASTIC, np.random.default_rng(7))
    assert set(np.unique(first)) == {-2.0, -1.0}
    assert abs(first.mean() + 1.3) < 0.005  # five standard errors of a coin with p = 0.3
    np.testing.assert_array_equal(first, round_to(x, Rounding.STOCHASTIC, np.random.default_rng(7)))
    assert (first != round_to(x, Rounding.STOCHASTIC, np.random.default_rng(8))).any()


def test_stochastic_leaves_whole_numbers_alone() -> None:
    x = np.array([-3.0, 0.0, 5.0])
    np.testing.assert_array_equal(round_to(x, Rounding.STOCHASTIC, np.random.default_rng(0)), x)


def test_stochastic_needs_a_generator() -> None:
    with pytest.raises(ValueError, match="needs a random generator"):
        round_to(np.zeros(1), Rounding.STOCHASTIC)


@given(st.floats(-(2.0**40), 2.0**40), st.integers(0, 2**32))
def test_stochastic_goes_to_a_neighbour(x: float, seed: int) -> None:
    result = round_to(np.array([x]), Rounding.STOCHASTIC, np.random.default_rng(seed))[0]
    assert result in {np.floor(x), np.ceil(x)}


def test_a_rule_by_its_name() -> None:
    """A plain string must not fall through to the stochastic rule."""
    rng = np.random.default_rng(0)
    assert round_to(np.array([2.5]), "half_even", rng)[0] == 2  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'nearest' is not a valid Rounding"):
        round_to(np.zeros(1), "nearest", rng)  # type: ignore[arg-type]


@pytest.mark.parametrize("rounding", EXPECTED, ids=lambda rounding: rounding.value)
def test_large_values_are_whole_already(rounding: Rounding) -> None:
    """From 2**23 on float32 has no fraction, and adding a half to its neighbour below would round."""
    x = np.array([2.0**23 - 0.5, 2.0**23 + 1, -(2.0**24), 3.0e38], np.float32)
    np.testing.assert_array_equal(round_to(x[1:], rounding), x[1:])
    assert round_to(x, rounding)[0] == exact(Fraction(2**24 - 1, 2), rounding)

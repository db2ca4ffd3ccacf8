"""The integer reference against Python's own integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.errors import FormatError
from ristretto.numerics.arithmetic import Accumulator, Overflow
from ristretto.numerics.formats import NAMED, ChannelFixedPoint, DynamicFixedPoint, PowerOfTwo
from ristretto.numerics.integer import (
    accumulate,
    accumulator_range,
    aligned,
    bias_codes,
    bits_between,
    bits_for,
    overflows,
    requantize,
    round_shift,
    saturate,
    weight_codes,
    wrap,
)
from ristretto.numerics.rounding import Rounding
from tests.numerics.strategies import channel_fixed_points, powers, signed

ROUNDINGS = [Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.TRUNCATE]

integers = st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20)
widths = st.integers(2, 48)


def rounded(value: Fraction, rounding: Rounding) -> int:
    if rounding is Rounding.HALF_EVEN:
        return round(value)
    if rounding is Rounding.HALF_UP:
        return math.floor(value + Fraction(1, 2))
    if rounding is Rounding.TRUNCATE:
        return math.floor(value)
    return int(math.copysign(1, value)) * math.floor(abs(value) + Fraction(1, 2))


@given(integers, st.integers(-10, 60), st.sampled_from(ROUNDINGS), st.booleans())
def test_round_shift(codes: list[int], shift: int, rounding: Rounding, big: bool) -> None:
    array = np.array(codes, object) if big or shift < 0 else np.array(codes) // 2
    expected = [rounded(Fraction(int(code)) / Fraction(2) ** shift, rounding) for code in array]
    assert round_shift(array, shift, rounding).tolist() == expected


@given(st.integers(-64, 64), st.integers(1, 5), st.sampled_from(ROUNDINGS))
def test_round_shift_at_all_ties(code: int, shift: int, rounding: Rounding) -> None:
    assert round_shift(np.array([code]), shift, rounding)[0] == rounded(Fraction(code, 1 << shift), rounding)


def test_stochastic_rounding_has_no_reference() -> None:
    with pytest.raises(ValueError, match="it draws"):
        round_shift(np.array([1]), 1, Rounding.STOCHASTIC)


@given(integers, widths)
def test_wrap_keeps_the_low_bits(sums: list[int], bw: int) -> None:
    low, high = accumulator_range(bw)
    result = wrap(np.array(sums), bw).tolist()
    assert all((one - other) % (1 << bw) == 0 for one, other in zip(result, sums, strict=True))
    assert all(low <= one <= high for one in result)
    assert wrap(np.array(sums, object), bw).tolist() == result


@given(integers, widths)
def test_saturate_and_overflows(sums: list[int], bw: int) -> None:
    low, high = accumulator_range(bw)
    array = np.array(sums)
    assert saturate(array, bw).tolist() == [min(max(one, low), high) for one in sums]
    assert overflows(array, bw) == sum(one < low or one > high for one in sums)


@pytest.mark.parametrize(("overflow", "expected"), [("saturate", 127), ("wrap", -128), ("report", 128)])
def test_accumulate(overflow: str, expected: int) -> None:
    assert accumulate(np.array([128]), Accumulator(8, Overflow(overflow)))[0] == expected


@given(integers, widths)
def test_wrapping_once_is_wrapping_after_each_addition(terms: list[int], bw: int) -> None:
    stepwise = np.array([0], object)
    for term in terms:
        stepwise = wrap(stepwise + term, bw)
    assert stepwise[0] == wrap(np.array([sum(terms)], object), bw)[0]


@given(st.integers(0, 2**60))
def test_bits_hold_a_magnitude_and_no_less_do(magnitude: int) -> None:
    bits = bits_for(magnitude)
    assert accumulator_range(bits)[1] >= magnitude
    assert bits == 1 or accumulator_range(bits - 1)[1] < magnitude


@given(st.integers(-(2**50), 2**50), st.integers(-(2**50), 2**50))
def test_bits_between_two_ends(one: int, other: int) -> None:
    low, high = min(one, other), max(one, other)
    bits = bits_between(low, high)
    assert overflows(np.array([low, high]), bits) == 0
    assert bits == 1 or overflows(np.array([low, high]), bits - 1) > 0


@given(integers, st.integers(-8, 40), signed().filter(lambda fmt: fmt.bw <= 24), st.sampled_from(ROUNDINGS))
def test_requantize_is_quantize_on_exact_values(
    sums: list[int], shift: int, fmt: DynamicFixedPoint, rounding: Rounding
) -> None:
    exact = np.array([one >> 12 for one in sums], object)
    codes = requantize(exact, shift, fmt, rounding)
    assert all(fmt.min_code <= code <= fmt.max_code for code in codes)
    values = np.array([float(Fraction(int(one)) / Fraction(2) ** (shift + fmt.fl)) for one in exact])
    np.testing.assert_array_equal(codes.astype(np.int64), fmt.encode(values, rounding))


@given(st.one_of(signed(), channel_fixed_points(), powers()), st.integers(0, 2**32))
def test_weight_codes_are_the_weights(fmt: DynamicFixedPoint | ChannelFixedPoint | PowerOfTwo, seed: int) -> None:
    channels = len(fmt.fls) if isinstance(fmt, ChannelFixedPoint) else 3
    drawn = np.random.default_rng(seed).uniform(1.2 * fmt.min, 1.2 * fmt.max, (channels, 5)).astype(np.float32)
    weights = fmt.quantize(drawn)
    codes, fls = weight_codes(weights, fmt)
    assert codes.dtype == np.int64
    values = np.ldexp(codes.astype(np.float64), -np.array(fls)[:, None])
    if isinstance(fmt, PowerOfTwo) or fmt.bw <= 24:
        np.testing.assert_array_equal(values.astype(np.float32), weights)
    else:  # float32 rounds the greatest code up, which the codes do not
        assert values.max() <= fmt.max
        np.testing.assert_allclose(values, weights, rtol=2.0**-24)


def test_weights_that_are_no_integers() -> None:
    with pytest.raises(FormatError, match="no integers"):
        weight_codes(np.ones(3), NAMED["half"])
    with pytest.raises(FormatError, match="more than 52 bits"):
        weight_codes(np.ones(3), PowerOfTwo(-53, 0))
    with pytest.raises(FormatError, match="NaN"):
        weight_codes(np.array([np.nan]), DynamicFixedPoint(8, 4))


@given(st.lists(st.tuples(st.integers(-127, 127), st.integers(-10, 20)), min_size=1, max_size=8))
def test_alignment_keeps_values(pairs: list[tuple[int, int]]) -> None:
    codes, fls = np.array([[code] for code, _ in pairs]), [fl for _, fl in pairs]
    shifted, finest = aligned(codes, fls)
    assert finest == max(fls)
    expected = [Fraction(code) / Fraction(2) ** fl for code, fl in pairs]
    assert [Fraction(int(code)) / Fraction(2) ** finest for code in shifted[:, 0]] == expected


def test_scales_too_far_apart() -> None:
    with pytest.raises(FormatError, match="too far apart"):
        aligned(np.array([[1], [1]]), (0, 60))
    assert aligned(np.array([[0], [1]]), (0, 60))[0].tolist() == [[0], [1]]


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda rounding: rounding.value)
def test_a_bias_finer_than_the_accumulator_is_rounded(rounding: Rounding) -> None:
    bias = np.array([0.5, 0.375, -0.375, 1.0, -0.125], np.float32)
    expected = [rounded(Fraction(float(value)) * 4, rounding) for value in bias]
    assert bias_codes(bias, (2,), rounding).tolist() == expected
    assert bias_codes(bias[:2], (3, 1), Rounding.TRUNCATE).tolist() == [4, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**60])
def test_a_bias_that_is_no_integer(value: float) -> None:
    with pytest.raises(FormatError, match="52 bits"):
        bias_codes(np.array([value]), (0,), Rounding.HALF_EVEN)

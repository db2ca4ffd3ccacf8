"""Formats of weights: powers of two, and fixed point with a point for each channel."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.errors import FormatError
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, PowerOfTwo
from ristretto.numerics.rounding import Rounding
from tests.numerics.strategies import channel_fixed_points, powers
from tests.numerics.test_minifloat import every_16_bits


def originals_power(x: float, exp_min: int, exp_max: int) -> float:
    """sign(x) * 2**clip(round(log2|x|), exp_min, exp_max), zero to +2**exp_min; round(log2) in rationals."""
    if x == 0:
        return 2.0**exp_min
    v = abs(Fraction(x))
    k = v.numerator.bit_length() - v.denominator.bit_length()  # log2(v) - 1 < k < log2(v) + 1
    while v * v > 2 * Fraction(4) ** k:
        k += 1
    while v * v <= 2 * Fraction(4) ** (k - 1):
        k -= 1
    return (1 if x > 0 else -1) * 2.0 ** min(max(k, exp_min), exp_max)


@pytest.mark.parametrize(("exp_min", "exp_max"), [(-8, -1), (-3, 4), (0, 0)])
def test_the_originals_powers_of_two(exp_min: int, exp_max: int) -> None:
    x = every_16_bits()
    x = x[np.isfinite(x)]
    wanted = np.array([originals_power(float(v), exp_min, exp_max) for v in x], np.float32)
    np.testing.assert_array_equal(PowerOfTwo(exp_min, exp_max).quantize(x), wanted)
    kept = PowerOfTwo(exp_min, exp_max, keep_zero=True).quantize(x)
    np.testing.assert_array_equal(kept, np.where(x == 0, np.float32(0), wanted))


@pytest.mark.parametrize("keep_zero", [False, True])
@pytest.mark.parametrize("count", range(1, 128))
def test_all_codes_of_powers_of_two_of_up_to_8_bits(count: int, keep_zero: bool) -> None:
    fmt = PowerOfTwo(-100, -101 + count, keep_zero)
    indices = np.arange(count + keep_zero)
    assert fmt.bw == 1 + (len(indices) - 1).bit_length() <= 9
    codes = np.concatenate([indices, indices[int(keep_zero) :] + 2 ** (fmt.bw - 1)])
    values = fmt.decode(codes)
    assert len(np.unique(values)) == len(codes) == 2 * count + keep_zero
    np.testing.assert_array_equal(fmt.quantize(values), values)
    np.testing.assert_array_equal(fmt.encode(values), codes)
    assert (values.min(), values.max()) == (fmt.min, fmt.max)
    assert (values == 0).sum() == keep_zero


@given(powers(), st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_stored_powers_are_the_rounded_values(fmt: PowerOfTwo, x: list[float]) -> None:
    np.testing.assert_array_equal(fmt.decode(fmt.encode(np.array(x))), fmt.quantize(np.array(x)))


def test_the_layout_of_powers_of_two() -> None:
    """The original's eight exponents and a sign are four bits; zero takes the place below them."""
    assert (PowerOfTwo(-8, -1).bw, PowerOfTwo(-8, -1, True).bw, PowerOfTwo(3, 3).bw) == (4, 5, 1)
    assert PowerOfTwo(-8, -1).encode(np.array([2.0**-8, -0.5, 0.0])).tolist() == [0b0000, 0b1111, 0b0000]
    assert PowerOfTwo(-8, -1, True).encode(np.array([2.0**-8, -0.5, 0.0])).tolist() == [0b00001, 0b11000, 0]
    for code in (9, 15, 32, -1):  # nine exponents need four bits of index, and a sign
        with pytest.raises(FormatError, match=r"a code is beyond those of 2\^-8\.\.0"):
            PowerOfTwo(-8, 0).decode(np.array([code]))
    with pytest.raises(FormatError, match="NaN has no code"):
        PowerOfTwo(-8, -1).encode(np.array([np.nan]))


@given(channel_fixed_points(), st.integers(0, 2**32))
def test_each_channel_is_rounded_in_its_own_format(fmt: ChannelFixedPoint, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(fmt.fls), 2, 3)) * np.exp2(rng.uniform(-20, 20, (len(fmt.fls), 2, 3)))
    rounded, codes = fmt.quantize(x), fmt.encode(x)
    for number, own in enumerate(fmt.channels):
        assert own == DynamicFixedPoint(fmt.bw, fmt.fls[number])
        np.testing.assert_array_equal(rounded[number], own.quantize(x[number]))
        np.testing.assert_array_equal(codes[number], own.encode(x[number]))
    np.testing.assert_array_equal(fmt.decode(codes), rounded)
    assert (fmt.min, fmt.max) == (min(own.min for own in fmt.channels), max(own.max for own in fmt.channels))
    assert rounded.min() >= fmt.min
    assert rounded.max() <= fmt.max


@pytest.mark.parametrize("bw", range(1, 9))
def test_all_codes_by_channel_of_up_to_8_bits(bw: int) -> None:
    fmt = ChannelFixedPoint(bw, (-3, 0, 5, 11))
    codes = np.tile(np.arange(-(2 ** (bw - 1)), 2 ** (bw - 1)), (4, 1))
    np.testing.assert_array_equal(fmt.encode(fmt.decode(codes)), codes)
    np.testing.assert_array_equal(fmt.quantize(fmt.decode(codes)), fmt.decode(codes))


def test_stochastic_by_channel_keeps_the_dtype_and_the_mean() -> None:
    x = np.full((2, 50_000), 0.3, np.float32)
    result = ChannelFixedPoint(8, (0, 2)).quantize(x, Rounding.STOCHASTIC, np.random.default_rng(0))
    assert result.dtype == np.float32
    assert [set(np.unique(row).tolist()) for row in result] == [{0.0, 1.0}, {0.25, 0.5}]
    assert result[0].mean() == pytest.approx(0.3, abs=0.0103)  # five standard errors


def test_channels_that_do_not_fit() -> None:
    with pytest.raises(FormatError, match="3 fractional lengths for 2 channels; give one a channel"):
        ChannelFixedPoint(8, (1, 2, 3)).quantize(np.zeros((2, 5)))
    with pytest.raises(FormatError, match="3 fractional lengths for 0 channels"):
        ChannelFixedPoint(8, (1, 2, 3)).encode(np.zeros(()))
    with pytest.raises(FormatError, match="a format by channel needs a fractional length for each"):
        ChannelFixedPoint(8, ())
    with pytest.raises(FormatError, match=r"fl must be in -128\.\.256, got 999"):
        ChannelFixedPoint(8, (1, 999))
    assert str(ChannelFixedPoint(8, (7, 5, 9))) == "<8, 5..9>"

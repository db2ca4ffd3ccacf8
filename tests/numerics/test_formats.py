from __future__ import annotations

import math
import warnings
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.errors import FormatError
from ristretto.numerics.exponents import ceil_log2
from ristretto.numerics.formats import DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.rounding import Rounding
from tests.numerics.strategies import any_minifloats, finite_floats, fixed_points, minifloats, powers

SMALL = [DynamicFixedPoint(bw, fl, signed) for bw in range(1, 9) for fl in (-3, 0, 5, 11) for signed in (True, False)]


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_every_code_is_a_fixed_point_and_every_value_goes_to_the_nearest(fmt: DynamicFixedPoint) -> None:
    codes = np.arange(fmt.min_code, fmt.max_code + 1)
    assert len(codes) == 2**fmt.bw
    values = fmt.decode(codes)
    np.testing.assert_array_equal(fmt.quantize(values), values)
    np.testing.assert_array_equal(fmt.encode(values), codes)
    x = np.random.default_rng(fmt.bw).uniform(fmt.min - 3 * fmt.step, fmt.max + 3 * fmt.step, 500)
    nearest = values[np.abs(values[:, None] - x).argmin(axis=0)]
    np.testing.assert_array_equal(fmt.quantize(x), nearest)


@given(fixed_points(32), st.floats(-1e6, 1e6), st.sampled_from([Rounding.HALF_EVEN, Rounding.HALF_AWAY]))
def test_fixed_point_matches_exact_rationals(fmt: DynamicFixedPoint, x: float, rounding: Rounding) -> None:
    scaled = min(max(Fraction(x) * Fraction(2) ** fmt.fl, fmt.min_code), fmt.max_code)
    low = math.floor(scaled)
    rest = scaled - low
    tie_up = low % 2 == 1 if rounding is Rounding.HALF_EVEN else scaled > 0
    code = low + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and tie_up))
    assert fmt.encode(np.array([x]), rounding)[0] == code
    assert Fraction(float(fmt.quantize(np.array([x]), rounding)[0])) == Fraction(code) / Fraction(2) ** fmt.fl


formats = st.one_of(fixed_points(), minifloats(), any_minifloats(), powers())


@given(formats, finite_floats(), finite_floats())
def test_idempotent_monotone_and_bounded(fmt: Format, a: np.float32, b: np.float32) -> None:
    low, high = fmt.quantize(np.sort(np.array([a, b], np.float32)))
    assert low <= high
    again = fmt.quantize(np.array([low, high]))
    assert again[0] == low
    assert again[1] == high
    infinite = isinstance(fmt, Minifloat) and fmt.overflow == "infinity"
    assert np.float32(fmt.min) <= low or (infinite and low == -np.inf)
    assert high <= np.float32(fmt.max) or (infinite and high == np.inf)


@given(fixed_points(), finite_floats())
def test_error_is_at_most_half_a_step_unless_saturated(fmt: DynamicFixedPoint, x: np.float32) -> None:
    if fmt.min <= x <= fmt.max:
        assert abs(float(fmt.quantize(np.array([x]))[0]) - float(x)) <= fmt.step / 2


@given(formats, finite_floats(), st.sampled_from([Rounding.HALF_EVEN, Rounding.HALF_AWAY]))
def test_symmetric_but_for_the_least_value(fmt: Format, x: np.float32, rounding: Rounding) -> None:
    positive, negative = fmt.quantize(np.array([abs(x), -abs(x)], np.float32), rounding)
    if isinstance(fmt, DynamicFixedPoint) and not fmt.signed:
        assert negative == 0
    elif isinstance(fmt, DynamicFixedPoint) and abs(x) > fmt.max:
        assert (positive, -negative) == (fmt.max, np.clip(np.rint(abs(x) / fmt.step), None, -fmt.min_code) * fmt.step)
    elif x == 0:
        assert positive == negative
    else:
        assert positive == -negative


def test_bw_32_is_simulated_as_the_original_does() -> None:
    """The greatest value of 32.16 is no float32: C++ rounds it up to 32768."""
    fmt = DynamicFixedPoint(32, 16)
    result = fmt.quantize(np.array([1e9, -1e9, 2.0**-17, 3 * 2.0**-17], np.float32), Rounding.HALF_AWAY)
    np.testing.assert_array_equal(result, np.array([32768.0, -32768.0, 2.0**-16, 2.0**-15], np.float32))
    assert fmt.encode(np.array([1e9]))[0] == 2**31 - 1


def test_nan_stays_visible() -> None:
    for fmt in (DynamicFixedPoint(8, 4), Minifloat(5, 10), PowerOfTwo(-8, -1)):
        assert np.isnan(fmt.quantize(np.array([np.nan, 1.0]))[0])
    with pytest.raises(FormatError, match="NaN has no code"):
        DynamicFixedPoint(8, 4).encode(np.array([np.nan]))


def test_derived_numbers() -> None:
    fmt = DynamicFixedPoint(8, 11)
    assert (fmt.il, fmt.step, fmt.min, fmt.max, str(fmt)) == (-3, 2.0**-11, -(2.0**-4), 127 * 2.0**-11, "<8, 11>")
    assert (DynamicFixedPoint(8, 4, False).min, DynamicFixedPoint(8, 4, False).max) == (0.0, 255 / 16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DynamicFixedPoint(0, 3), "bw must be in 1..32, got 0"),
        (lambda: DynamicFixedPoint(33, 3), "bw must be in 1..32, got 33"),
        (lambda: DynamicFixedPoint(8, 3.5), "fl must be a whole number, got 3.5"),
        (lambda: DynamicFixedPoint(8, True), "fl must be a whole number, got True; give fl as an int"),
        (lambda: DynamicFixedPoint(8, 1000), "fl must be in -128..256, got 1000; choose fl in that range"),
        (lambda: Minifloat(9, 3), "exp_bits must be in 1..8, got 9"),
        (lambda: PowerOfTwo(3, 2), "exp_min 3 is above exp_max 2"),
    ],
)
def test_impossible_formats(make: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        make()  # type: ignore[operator]


def normals(exp_bits: int, mant_bits: int) -> np.ndarray:
    """All positive numbers that IEEE calls normal in a format, below its reserved top exponent."""
    bias = 2 ** (exp_bits - 1) - 1
    exponents = np.arange(1 - bias, 2**exp_bits - 1 - bias)
    return np.ldexp(1 + np.arange(2**mant_bits) / 2**mant_bits, exponents[:, None]).ravel()


NAMED = [(5, 10, np.float16), (8, 7, ml_dtypes.bfloat16), (4, 3, ml_dtypes.float8_e4m3), (5, 2, ml_dtypes.float8_e5m2)]


@pytest.mark.parametrize(("exp_bits", "mant_bits", "dtype"), NAMED, ids=lambda value: getattr(value, "__name__", None))
def test_minifloat_agrees_with_named_formats_on_normal_numbers(exp_bits: int, mant_bits: int, dtype: type) -> None:
    fmt, grid = Minifloat(exp_bits, mant_bits), normals(exp_bits, mant_bits).astype(np.float32)
    np.testing.assert_array_equal(fmt.quantize(grid), grid)
    rng = np.random.default_rng(0)
    between = (grid[:-1] + (grid[1:] - grid[:-1]) * rng.random(grid.size - 1)).astype(np.float32)
    np.testing.assert_array_equal(fmt.quantize(-between), -between.astype(dtype).astype(np.float32))
    ties = (grid[:-1] + (grid[1:] - grid[:-1]) / 2).astype(np.float32)
    np.testing.assert_array_equal(fmt.quantize(ties), ties.astype(dtype).astype(np.float32))


def test_minifloat_ends() -> None:
    """Exponent 0 is an ordinary one, below it is zero; a carry at the top does not step over the greatest value."""
    fmt = Minifloat(4, 3)
    assert (fmt.tiny, fmt.max, fmt.bw) == (2.0**-7, 2.0**8 * 1.875, 8)
    x = np.array(
        [2.0**-7, np.nextafter(np.float32(2.0**-7), np.float32(0)), 0.0, 479.9, 1e30, -1e30, 1e-42], np.float32
    )
    np.testing.assert_array_equal(fmt.quantize(x), np.array([2.0**-7, 0, 0, 480, 480, -480, 0], np.float32))


def test_power_of_two_brute_force() -> None:
    fmt = PowerOfTwo(-6, 0)
    x = np.random.default_rng(1).normal(0, 0.5, 2000).astype(np.float32)
    exponents = np.arange(-6, 1)
    nearest = exponents[np.abs(exponents[:, None] - np.log2(np.abs(x.astype(np.float64)))).argmin(axis=0)]
    np.testing.assert_array_equal(fmt.quantize(x), (np.sign(x) * 2.0**nearest).astype(np.float32))
    np.testing.assert_array_equal(fmt.quantize(np.array([0.0, -0.0, 9.0])), [2.0**-6, 2.0**-6, 1.0])
    assert PowerOfTwo(-6, 0, keep_zero=True).quantize(np.zeros(1))[0] == 0


@pytest.mark.parametrize("k", [-30, -6, -1, 0, 1, 7, 30])
def test_power_of_two_boundary(k: int) -> None:
    """Between 2**k and 2**(k+1) the boundary is sqrt(2) * 2**k: v is above it where v * v > 2 * 4**k, exactly."""
    fmt = PowerOfTwo(-40, 40)
    near = np.float32(math.sqrt(2.0) * 2.0**k)
    for v in (np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(np.inf))):
        above = Fraction(float(v)) ** 2 > 2 * Fraction(4) ** k
        assert fmt.quantize(np.array([v]))[0] == 2.0 ** (k + above)


def test_infinite_values_saturate_without_a_warning() -> None:
    x = np.array([np.inf, -np.inf], np.float32)
    for fmt in (DynamicFixedPoint(8, 4), DynamicFixedPoint(8, 0, False), Minifloat(5, 10), PowerOfTwo(-8, 5)):
        for rounding in (Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.TRUNCATE):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                np.testing.assert_array_equal(fmt.quantize(x, rounding), np.array([fmt.max, fmt.min], np.float32))


@pytest.mark.parametrize("fl", [-128, -121, 120, 149, 256])
def test_fractional_lengths_at_the_ends_of_float32(fl: int) -> None:
    """Scaling does not overflow on the way; a value that float32 cannot hold becomes infinite, as in C++."""
    fmt = DynamicFixedPoint(8, fl)
    x = np.array([1e38, -3e38, 1.0, 3e-45, -1e-40, 0.0], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fmt.quantize(x)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(result, fmt.quantize(x.astype(np.float64)).astype(np.float32))


@pytest.mark.parametrize(("exp_bits", "mant_bits"), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 2), (2, 5), (8, 0), (7, 0)])
def test_minifloat_codes_are_fixed_points_and_values_go_to_the_nearest(exp_bits: int, mant_bits: int) -> None:
    """All numbers of the format that float32 has too; ties to the even mantissa."""
    fmt = Minifloat(exp_bits, mant_bits)
    exponents = np.arange(2**exp_bits) - fmt.bias
    grid = np.ldexp(1 + np.arange(2**mant_bits) / 2**mant_bits, exponents[:, None]).ravel()
    grid = grid[(grid >= 2.0**-126) & (grid < 2.0**128)].astype(np.float32)
    assert grid[-1] == fmt.max
    np.testing.assert_array_equal(fmt.quantize(grid), grid)
    np.testing.assert_array_equal(fmt.quantize(-grid), -grid)
    below = grid[:-1].astype(np.float64)
    gap = np.diff(grid.astype(np.float64))
    np.testing.assert_array_equal(fmt.quantize(below + 0.49 * gap), below)
    np.testing.assert_array_equal(fmt.quantize(below + 0.51 * gap), below + gap)
    np.testing.assert_array_equal(fmt.quantize(below + 0.99 * gap, Rounding.TRUNCATE), below)
    np.testing.assert_array_equal(fmt.quantize(-below - 0.5 * gap, Rounding.HALF_AWAY), -below - gap)


def test_stochastic_rounding_of_formats() -> None:
    """Each goes to a neighbour on its grid, with the mean kept (for powers of two that of the logarithm)."""
    rng = np.random.default_rng(2)
    x = np.full(100_000, -1.3, np.float32)
    for fmt, neighbours in (
        (DynamicFixedPoint(8, 2), {-1.25, -1.5}),
        (Minifloat(4, 2), {-1.25, -1.5}),
        (PowerOfTwo(-3, 3), {-1.0, -2.0}),
    ):
        result = fmt.quantize(x, Rounding.STOCHASTIC, rng)
        assert set(np.unique(result).tolist()) == neighbours
        kept = -np.exp2(np.log2(-result).mean()) if isinstance(fmt, PowerOfTwo) else result.mean(dtype=np.float64)
        assert kept == pytest.approx(-1.3, abs=0.01)  # more than five standard errors
    with pytest.raises(ValueError, match="needs a random generator"):
        PowerOfTwo(-3, 3).quantize(x, Rounding.STOCHASTIC)


def test_names() -> None:
    formats = (DynamicFixedPoint(8, -2, False), Minifloat(5, 10), PowerOfTwo(-8, -1))
    assert [str(fmt) for fmt in formats] == ["u<8, -2>", "e5m10", "2^-8..-1"]


@pytest.mark.parametrize("v", [0.0, -1.0, math.inf, math.nan])
def test_ceil_log2_of_what_has_none(v: float) -> None:
    with pytest.raises(ValueError, match="no power of two bounds"):
        ceil_log2(v)


@given(st.floats(1e-300, 1e300))
def test_ceil_log2_is_the_smallest_exponent(v: float) -> None:
    n = ceil_log2(v)
    assert Fraction(v) <= Fraction(2) ** n
    assert Fraction(v) > Fraction(2) ** (n - 1)

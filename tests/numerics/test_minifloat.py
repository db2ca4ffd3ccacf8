"""Floating point formats against other people's: numpy's half, ml_dtypes, and the original's rules in scalar code."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.errors import FormatError
from ristretto.numerics.formats import NAMED, Minifloat, parse_minifloat
from ristretto.numerics.rounding import Rounding
from tests.numerics.strategies import any_minifloats, finite_floats, variants

DTYPES = {
    "half": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "fp8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "fp8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
named = pytest.mark.parametrize("name", DTYPES)


def all_codes(dtype: np.dtype) -> np.ndarray:
    bits = 8 * dtype.itemsize
    return np.arange(2**bits, dtype=f"u{dtype.itemsize}")


def every_16_bits() -> np.ndarray:
    """All patterns of 16 bits as float32: as upper halves of float32, and as IEEE half; quiet NaNs only."""
    bits = np.arange(2**16, dtype=np.uint32)
    high = (bits << 16).view(np.float32)
    values = np.concatenate([high, bits.astype(np.uint16).view(np.float16).astype(np.float32)])
    return np.where(np.isnan(values), np.float32(np.nan), values)


def around(grid: np.ndarray) -> np.ndarray:
    """Grid points, the middles between neighbours, and the float32 next to all of them, of both signs."""
    exact = np.unique(grid[np.isfinite(grid)]).astype(np.float64)
    middles = (exact[:-1] + exact[1:]) / 2
    points = np.concatenate([exact, middles]).astype(np.float32)
    assert (points == np.concatenate([exact, middles])).all()  # float32 holds them all
    up, down = (np.nextafter(points, np.float32(end)) for end in (np.inf, -np.inf))
    return np.concatenate([points, up, down])


def same_bits(actual: np.ndarray, wanted: np.ndarray) -> None:
    """Equal with the sign of zero; any NaN is like another."""
    assert actual.dtype == wanted.dtype == np.float32
    nan = np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(actual), nan)
    np.testing.assert_array_equal(actual[~nan].view(np.uint32), wanted[~nan].view(np.uint32))


@named
def test_every_stored_value(name: str) -> None:
    """decode, quantize and encode at all codes, with subnormals, both zeros, infinities and NaNs."""
    fmt, dtype = NAMED[name], DTYPES[name]
    codes = all_codes(dtype)
    values = codes.view(dtype).astype(np.float32)
    decoded = fmt.decode(codes).astype(np.float32)
    same_bits(decoded, values)
    infinite = np.isinf(values)
    if fmt.overflow == "saturate":
        same_bits(fmt.quantize(values[infinite]), np.copysign(np.float32(fmt.max), values[infinite]))
    kept = values if fmt.overflow == "infinity" else values[~infinite]
    with np.errstate(invalid="ignore"):  # some of the NaNs are signalling ones
        same_bits(fmt.quantize(kept), kept)
    numbers = ~np.isnan(values) & (~infinite | (fmt.overflow == "infinity"))
    np.testing.assert_array_equal(fmt.encode(values[numbers]), codes[numbers])
    nan = fmt.encode(np.array([np.nan]))
    assert np.isnan(nan.astype(codes.dtype).view(dtype).astype(np.float32)).all()


@named
def test_every_value_between_is_cast_alike(name: str) -> None:
    """Around the grid, at all patterns of 16 bits and at random ones of 32; here overflow saturates in 8 bits."""
    fmt, dtype = NAMED[name], DTYPES[name]
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, np.uint32).view(np.float32)
    x = np.concatenate(
        [around(all_codes(dtype).view(dtype).astype(np.float32)), every_16_bits(), bits[~np.isnan(bits)]]
    )
    with np.errstate(over="ignore"):
        wanted = x.astype(dtype).astype(np.float32)
    if fmt.overflow == "saturate":
        beyond = ~np.isfinite(wanted) & ~np.isnan(x)
        assert (np.abs(x[beyond]) > fmt.max).all()
        wanted = np.where(beyond, np.copysign(np.float32(fmt.max), x), wanted)
    same_bits(fmt.quantize(x), wanted)


def test_facts_that_the_documentation_states() -> None:
    facts = {name: (fmt.bias, fmt.max, fmt.tiny_normal, fmt.tiny) for name, fmt in NAMED.items()}
    assert facts == {
        "half": (15, 65504.0, 2.0**-14, 2.0**-24),
        "bfloat16": (127, (2 - 2**-7) * 2.0**127, 2.0**-126, 2.0**-133),
        "fp8_e4m3": (7, 448.0, 2.0**-6, 2.0**-9),
        "fp8_e5m2": (15, 57344.0, 2.0**-14, 2.0**-16),
    }
    for name, dtype in DTYPES.items():
        info = ml_dtypes.finfo(dtype)
        assert facts[name][1:] == (info.max, info.smallest_normal, info.smallest_subnormal)
    original = Minifloat(5, 10)
    assert (original.bias, original.max, original.tiny) == (15, 131008.0, 2.0**-15)


def test_the_originals_5_10_equals_half_on_all_normal_numbers() -> None:
    grid = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    x = np.concatenate([around(grid), every_16_bits()])
    magnitude = np.abs(x)
    # Below 2**-14 half has subnormals, from 65520 on it rounds to infinity.
    x = x[(magnitude >= 2.0**-14) & (magnitude < 65520)]
    assert x.size > 200_000
    same_bits(Minifloat(5, 10).quantize(x), x.astype(np.float16).astype(np.float32))


def originals_minifloat(x: float, exp_bits: int, mant_bits: int, rounding: Rounding) -> float:
    """One float32 by the original's rules, on its bits: a carry at the top exponent oversteps."""
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    sign, field, mantissa = bits >> 31, bits >> 23 & 0xFF, bits & 0x7FFFFF
    bias = 2 ** (exp_bits - 1) - 1
    exponent = field - 127 + bias
    if field == 0 or exponent < 0:
        return 0.0
    units = Fraction(mantissa, 2 ** (23 - mant_bits))
    if exponent > 2**exp_bits - 1:
        exponent, units = 2**exp_bits - 1, Fraction(2**mant_bits - 1)
    whole = units.numerator // units.denominator
    rest = units - whole
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and (rounding is Rounding.HALF_AWAY or whole % 2 == 1)):
        whole += 1
    if whole == 2**mant_bits:
        exponent, whole = exponent + 1, 0
    return (-1) ** sign * math.ldexp(2**mant_bits + whole, exponent - bias - mant_bits)


@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.HALF_AWAY], ids=lambda rounding: rounding.value)
@pytest.mark.parametrize(("exp_bits", "mant_bits"), [(5, 10), (4, 3), (5, 2), (6, 9), (8, 7), (4, 0), (1, 4)])
def test_the_originals_minifloat(exp_bits: int, mant_bits: int, rounding: Rounding) -> None:
    """By its rules on a GPU, apart from the overstep, which is ours to mend; on a CPU ties go away from zero."""
    fmt = Minifloat(exp_bits, mant_bits)
    x = every_16_bits()
    x = x[np.isfinite(x)]
    reference = np.array([originals_minifloat(float(v), exp_bits, mant_bits, rounding) for v in x])
    wanted = np.clip(reference, fmt.min, fmt.max).astype(np.float32)
    np.testing.assert_array_equal(fmt.quantize(x, rounding), wanted)
    overstepped = np.abs(reference) > fmt.max
    if exp_bits == 5 and mant_bits == 2:
        assert overstepped.any()  # else the sentence about the overstep would not be tested
    assert (np.abs(reference[overstepped]) == 2.0 ** (math.frexp(fmt.max)[1])).all()


SMALL = [
    fmt
    for exp_bits in range(1, 8)
    for mant_bits in range(8 - exp_bits)
    for fmt in variants(exp_bits, mant_bits)
]  # fmt: skip


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_all_codes_of_all_formats_of_up_to_8_bits(fmt: Minifloat) -> None:
    assert fmt.bw <= 8
    codes = np.arange(2**fmt.bw, dtype=np.uint32)
    values = fmt.decode(codes)
    finite = np.isfinite(values)
    kept = finite | (np.isinf(values) & (fmt.overflow == "infinity"))
    np.testing.assert_array_equal(fmt.encode(values[kept]), codes[kept])
    np.testing.assert_array_equal(fmt.quantize(values[kept]), values[kept])
    assert values[finite].max() == fmt.max
    assert values[finite].min() == fmt.min
    magnitudes = np.abs(values[finite & (values != 0)])
    if fmt.subnormals:
        assert magnitudes.min() == fmt.tiny
        assert len(np.unique(values[finite])) == finite.sum() - 1  # both zeros
    else:
        # Zero has the code of 2**-bias, which is stored as the next magnitude.
        assert fmt.quantize(np.array([fmt.tiny]))[0] == fmt.tiny
        assert fmt.encode(np.array([fmt.tiny, -fmt.tiny])).tolist() == [1, 1 + 2 ** (fmt.bw - 1)]
        assert magnitudes.min() > fmt.tiny
    numbers = 2**fmt.bw - {"none": 0, "nan": 2, "exponent": 2 ** (fmt.mant_bits + 1)}[fmt.reserved]
    assert finite.sum() == numbers


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_nearest_by_looking_at_all_values(fmt: Minifloat) -> None:
    """The neighbour that is nearer; on a tie the even code, where there is a mantissa to be even."""
    values = np.unique(fmt.decode(np.arange(2**fmt.bw)))
    values = np.unique(np.concatenate([values[np.isfinite(values)], [] if fmt.subnormals else [fmt.tiny, -fmt.tiny]]))
    low, gap = values[:-1], np.diff(values)
    for share in (0.25, 0.49, 0.51, 0.75):
        x = low + share * gap
        wanted = np.where(share < 0.5, low, low + gap)
        if not fmt.subnormals:
            # Below the least magnitude all is zero.
            wanted = np.where(np.abs(x) < fmt.tiny, 0.0, wanted)
        np.testing.assert_array_equal(fmt.quantize(x), wanted)
    if fmt.subnormals and fmt.mant_bits:
        ties = fmt.encode(low + gap / 2)
        assert (ties % 2 == 0).all()


@given(any_minifloats(), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_codes_of_any_format(fmt: Minifloat, drawn: list[int]) -> None:
    """encode(decode) but for what float32 lacks; decode(encode) is quantize but for the code that zero took."""
    codes = np.array([code % 2**fmt.bw for code in drawn], np.uint32)
    values = fmt.decode(codes)
    magnitude = np.abs(values)
    kept = (magnitude <= fmt.max) & ((magnitude >= 2.0**-126) | (magnitude == 0) | fmt.subnormals)
    np.testing.assert_array_equal(fmt.encode(values[kept]), codes[kept])
    x = np.array(drawn, np.uint32).view(np.float32)
    x = x[~np.isnan(x)].astype(np.float64)
    rounded = fmt.quantize(x)
    stored = rounded if fmt.subnormals else np.where(np.abs(rounded) == fmt.tiny, np.nan, rounded)
    known = ~np.isnan(stored)
    np.testing.assert_array_equal(fmt.decode(fmt.encode(x))[known], stored[known])


@given(any_minifloats(), finite_floats())
def test_precision_of_the_array_makes_no_difference(fmt: Minifloat, x: np.float32) -> None:
    single = fmt.quantize(np.array([x]))
    assert single[0] == fmt.quantize(np.array([float(x)]))[0]


@given(any_minifloats())
def test_spelling(fmt: Minifloat) -> None:
    assert parse_minifloat(str(fmt)) == fmt


def test_names_and_nonsense() -> None:
    assert [str(fmt) for fmt in NAMED.values()] == list(NAMED)
    assert str(Minifloat(4, 3, subnormals=True)) == "e4m3+subnormals"
    for text in ("float16", "e4", "e4m3+nonsense", "half ", ""):
        with pytest.raises(FormatError, match="is no floating point format; use half, bfloat16, fp8_e4m3, fp8_e5m2"):
            parse_minifloat(text)
    with pytest.raises(FormatError, match=r"exp_bits must be in 1\.\.8, got 9"):
        parse_minifloat("e9m3")


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ((5, 10, True, "none", "infinity"), "infinity needs a code of its own"),
        ((5, 10, True, "nan", "infinity"), "infinity needs a code of its own"),
        ((1, 3, True, "exponent"), "one exponent bit leaves no exponent to reserve"),
        ((5, 10, True, "top"), "no minifloat has 'top' and 'saturate'"),
        ((5, 10, True, "none", "wrap"), "no minifloat has 'none' and 'wrap'"),
    ],
)
def test_formats_that_contradict_themselves(variant: tuple[object, ...], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Minifloat(*variant)  # type: ignore[arg-type]


def test_codes_that_are_none() -> None:
    with pytest.raises(FormatError, match="NaN has no code in e4m3; find"):
        Minifloat(4, 3).encode(np.array([1.0, np.nan]))
    with pytest.raises(FormatError, match="NaN has no code in e4m0"):
        Minifloat(4, 0, reserved="exponent").encode(np.array([np.nan]))
    for code in (256, -1):
        with pytest.raises(FormatError, match="beyond the 8 bits of fp8_e4m3"):
            NAMED["fp8_e4m3"].decode(np.array([code]))


def test_other_roundings_reach_infinity_only_beyond_the_last_binade() -> None:
    """Truncation never rounds up; away from zero half becomes infinite at the same 65520 as half to even."""
    half = NAMED["half"]
    x = np.array([65519.0, 65520.0, 65535.0, 65536.0, np.inf], np.float32)
    assert half.quantize(x, Rounding.TRUNCATE).tolist() == [65504, 65504, 65504, math.inf, math.inf]
    assert half.quantize(x, Rounding.HALF_AWAY).tolist() == [65504, math.inf, math.inf, math.inf, math.inf]


def test_stochastic_subnormals_keep_the_mean() -> None:
    fmt = NAMED["half"]
    x = np.full(100_000, -2.3 * 2.0**-24)
    result = fmt.quantize(x, Rounding.STOCHASTIC, np.random.default_rng(4))
    assert set(np.unique(result).tolist()) == {-3 * 2.0**-24, -2 * 2.0**-24}
    assert result.mean() * 2**24 == pytest.approx(-2.3, abs=0.0075)  # five standard errors

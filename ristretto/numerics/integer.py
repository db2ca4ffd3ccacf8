"""Integer arithmetic as an accelerator does it, on stored integers: the reference for ``graph/integer.py``.

Values are codes: value = code * 2**-fl. A product of codes has the sum of their fractional lengths; that is the scale
of the accumulator, at which the bias is added. See docs/arithmetic.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.errors import FormatError
from ristretto.numerics.arithmetic import Accumulator, Overflow
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format, PowerOfTwo
from ristretto.numerics.rounding import Rounding, round_to

LARGEST_CODE = 1 << 52
"""The greatest magnitude of a weight's or a bias's code: a float64 holds it, and twice it."""


def accumulator_range(bw: int) -> tuple[int, int]:
    """The least and the greatest integer of a register in two's complement.

    >>> accumulator_range(8)
    (-128, 127)
    """
    return -(1 << (bw - 1)), (1 << (bw - 1)) - 1


def bits_for(magnitude: int) -> int:
    """The bits of a register in two's complement that holds every integer from -magnitude to magnitude.

    >>> [bits_for(magnitude) for magnitude in (0, 1, 127, 128)]
    [1, 2, 8, 9]
    """
    return magnitude.bit_length() + 1


def bits_between(low: int, high: int) -> int:
    """The bits of a register in two's complement that holds low, high and all between.

    >>> [bits_between(*ends) for ends in ((-128, 127), (-129, 0), (0, 128), (0, 0))]
    [8, 9, 9, 1]
    """
    return max(max(high, 0).bit_length(), max(-low - 1, 0).bit_length()) + 1


def wrap(sums: NDArray[Any], bw: int) -> NDArray[Any]:
    """The low bits of integers as a number in two's complement: what is left of a sum that overflows.

    >>> wrap(np.array([127, 128, -129, 256]), 8)
    array([ 127, -128,  127,    0])
    """
    low, _ = accumulator_range(bw)
    result: NDArray[Any] = (sums - low) % (1 << bw) + low
    return result


def saturate(sums: NDArray[Any], bw: int) -> NDArray[Any]:
    """Integers clipped to what a register holds.

    >>> saturate(np.array([127, 128, -129, 256]), 8)
    array([ 127,  127, -128,  127])
    """
    low, high = accumulator_range(bw)
    result: NDArray[Any] = np.minimum(np.maximum(sums, low), high)
    return result


def accumulate(sums: NDArray[Any], accumulator: Accumulator) -> NDArray[Any]:
    """What an accumulator makes of exact sums.

    Wrapping after each addition or once at the end is the same. Saturation is that of the whole sum: hardware that
    saturates after each addition depends on the order.

    Args:
        sums: integers, int64 or Python's own (dtype object).
        accumulator: its width, and what happens beyond it.
    """
    if accumulator.overflow is Overflow.WRAP:
        return wrap(sums, accumulator.bw)
    if accumulator.overflow is Overflow.SATURATE:
        return saturate(sums, accumulator.bw)
    return sums


def overflows(sums: NDArray[Any], bw: int) -> int:
    """How many integers a register cannot hold."""
    low, high = accumulator_range(bw)
    return int(np.count_nonzero((sums < low) | (sums > high)))


def round_shift(codes: NDArray[Any], shift: int, rounding: Rounding) -> NDArray[Any]:
    """Integers divided by 2**shift and rounded to integers, with integer operations alone.

    >>> round_shift(np.array([5, 6, 7, -6, 10]), 2, Rounding.HALF_EVEN)
    array([ 1,  2,  2, -2,  2])

    Args:
        codes: integers, int64 or Python's own (dtype object).
        shift: bits to drop; a negative one appends zeros.
        rounding: any but the stochastic one.

    Raises:
        ValueError: the rounding is stochastic.
    """
    rounding = Rounding(rounding)
    if rounding is Rounding.STOCHASTIC:
        message = "stochastic rounding has no reference: it draws"
        raise ValueError(message)
    if shift <= 0:
        return codes * (1 << -shift)
    unit = 1 << shift
    floor = codes // unit
    if rounding is Rounding.TRUNCATE:
        return floor
    twice = 2 * (codes - floor * unit)
    above, tie = twice > unit, twice == unit
    if rounding is Rounding.HALF_EVEN:
        up = above | (tie & (floor % 2 == 1))
    elif rounding is Rounding.HALF_AWAY:
        up = above | (tie & (codes >= 0))
    else:
        up = above | tie
    result: NDArray[Any] = floor + up.astype(codes.dtype)
    return result


def requantize(sums: NDArray[Any], shift: int, fmt: DynamicFixedPoint, rounding: Rounding) -> NDArray[Any]:
    """The output's codes from an accumulator: one rounding shift, then saturation.

    Args:
        sums: what the accumulator holds.
        shift: the accumulator's fractional length less the output's.
        fmt: the output's format.
        rounding: any but the stochastic one.
    """
    shifted = round_shift(sums, shift, rounding)
    result: NDArray[Any] = np.minimum(np.maximum(shifted, fmt.min_code), fmt.max_code)
    return result


def weight_codes(weights: NDArray[np.floating[Any]], fmt: Format) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """The integers that stand for weights on the grid of a format, and the fractional lengths at which they do.

    A power of two is an integer at the scale of the least power.

    Args:
        weights: values that ``fmt.quantize`` gave, of any shape.
        fmt: fixed point, for all or by channel, or powers of two.

    Returns:
        the codes in the shape of the weights, and one fractional length, or one for each index of axis 0.

    Raises:
        FormatError: the format has no integers, or one is beyond 52 bits.
    """
    exact = np.asarray(weights, np.float64)
    if isinstance(fmt, DynamicFixedPoint):
        return fmt.encode(exact), (fmt.fl,)
    if isinstance(fmt, ChannelFixedPoint):
        return fmt.encode(exact), fmt.fls
    if not isinstance(fmt, PowerOfTwo):
        raise FormatError(f"values in {fmt} are no integers", cure="give them a fixed point format")
    codes = np.ldexp(exact, -fmt.exp_min)
    if np.abs(codes).max(initial=0.0) > LARGEST_CODE:
        cure = "bring exp_min and exp_max closer together"
        raise FormatError(f"weights in {fmt} have more than 52 bits as integers", cure=cure)
    return codes.astype(np.int64), (-fmt.exp_min,)


def aligned(codes: NDArray[np.int64], fls: Sequence[int]) -> tuple[NDArray[np.int64], int]:
    """Codes of several scales along axis 0, shifted to the finest: what is added up has to have one scale.

    >>> aligned(np.array([[3], [5]]), (1, 3))
    (array([[12],
           [ 5]]), 3)

    Raises:
        FormatError: the scales are so far apart that an integer is beyond 52 bits.
    """
    finest = max(fls)
    shifts = np.array([finest - fl for fl in fls]).reshape(-1, *(1,) * (codes.ndim - 1))
    if np.ldexp(np.abs(codes).astype(np.float64), shifts).max(initial=0.0) > LARGEST_CODE:
        what = f"fractional lengths from {min(fls)} to {finest} are too far apart to be added up as integers"
        raise FormatError(what, cure="bring them closer together")
    return codes << np.where(codes == 0, 0, shifts), finest


def bias_codes(
    bias: NDArray[np.floating[Any]],
    fls: Sequence[int],
    rounding: Rounding,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """A bias at the scale of the accumulator, rounded where it is finer.

    >>> bias_codes(np.array([1.0, -0.375]), (2,), Rounding.HALF_EVEN)
    array([ 4, -2])

    Args:
        bias: a value for each output channel.
        fls: the accumulator's fractional length, or one for each channel.
        rounding: the rule.
        rng: where stochastic rounding draws from.

    Raises:
        FormatError: a code is NaN or beyond 52 bits.
    """
    codes = round_to(np.ldexp(np.asarray(bias, np.float64), np.asarray(fls)), rounding, rng)
    if not np.abs(codes).max(initial=0.0) <= LARGEST_CODE:
        what = f"a bias has more than 52 bits at the accumulator's scale, 2^-{max(fls)}"
        raise FormatError(what, cure="choose smaller fractional lengths, or see whether the weights hold NaN")
    return codes.astype(np.int64)

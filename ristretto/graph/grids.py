"""Values known to lie on a grid: whole multiples of a power of two, between known ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.numerics.formats import DynamicFixedPoint

EXACT = 1 << 24
"""Whole numbers below this are exact in float32, and so are their sums in any order that stays below."""

_AT_ONCE = 1 << 18
"""About so many weights are looked at at once."""

_NONE = -(1 << 20)
"""Less than any fractional length."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Values code * 2**-fl with low <= code <= high."""

    fl: int
    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """The greatest absolute code."""
        return max(abs(self.low), abs(self.high))

    @property
    def offset(self) -> int | None:
        """What is added to a code to store it in eight bits without sign; None where they do not suffice."""
        if self.low >= 0 and self.high <= 255:
            return 0
        return 128 if self.low >= -128 and self.high <= 127 else None

    def finer(self, fl: int) -> Grid:
        """The same values with a fractional length that is not shorter."""
        shift = fl - self.fl
        return Grid(fl, self.low << shift, self.high << shift)

    def fits(self, fmt: DynamicFixedPoint) -> bool:
        """Whether a format has all these values, so that rounding to it changes none."""
        if fmt.fl < self.fl:
            return False
        ends, own = grid_of(fmt), self.finer(fmt.fl)
        return ends.low <= own.low and own.high <= ends.high

    def clipped(self, low: float, high: float) -> Grid | None:
        """What is left between two values; None where one of them cuts off values and is not on the grid."""
        scaled = [max(-(2.0**60), min(2.0**60, math.ldexp(end, self.fl))) for end in (low, high)]
        cuts = scaled[0] > self.low, scaled[1] < self.high
        if any(cut and end != int(end) for cut, end in zip(cuts, scaled, strict=True)) or low > high:
            return None
        ends = [int(min(max(end, scaled[0]), scaled[1])) for end in (self.low, self.high)]
        return Grid(self.fl, ends[0], ends[1])


def grid_of(fmt: DynamicFixedPoint) -> Grid:
    """The values of a format."""
    return Grid(fmt.fl, round(fmt.min * 2.0**fmt.fl), round(fmt.max * 2.0**fmt.fl))


def joined(grids: Sequence[Grid]) -> Grid | None:
    """The grid of values from several grids of one fractional length."""
    if len({grid.fl for grid in grids}) != 1:
        return None
    return Grid(grids[0].fl, min(grid.low for grid in grids), max(grid.high for grid in grids))


def added(first: Grid | None, second: Grid | None) -> Grid | None:
    """The grid of sums; None where float32 may not be exact, or nothing is known of one of the two."""
    if first is None or second is None:
        return None
    if abs(first.fl - second.fl) > 24:
        return None
    fl = max(first.fl, second.fl)
    one, other = first.finer(fl), second.finer(fl)
    total = Grid(fl, one.low + other.low, one.high + other.high)
    return total if max(total.magnitude, one.magnitude, other.magnitude) < EXACT else None


@dataclass(frozen=True, slots=True)
class IntegerSums:
    """Sums of products with weights of eight bits, which float32 holds exactly whatever the inputs.

    Attributes:
        codes: the weights as int8, of their shape.
        fls: the weights' fractional length for each output.
        bias: the bias at the scale of the products of each output, or None.
        grid: the values that the sums may have.
    """

    codes: NDArray[np.int8]
    fls: NDArray[np.int64]
    bias: NDArray[np.int32] | None
    grid: Grid


def exact_sums(inputs: Grid, weights: NDArray[np.float32], bias: NDArray[np.float32] | None) -> IntegerSums | None:
    """What a layer of weights (outputs, ...) computes of inputs on a grid; None where float32 may not be exact."""
    found = integer_weights(weights)
    if found is None:
        return None
    codes, weight_fls = found
    bias_codes = None
    if bias is not None:
        codes, weight_fls = _with_room_for(bias, codes, weight_fls, inputs.fl)
        wide = np.ldexp(bias.astype(np.float64), weight_fls + inputs.fl)
        if np.any(wide != np.round(wide)) or np.any(np.abs(wide) >= EXACT):
            return None
        bias_codes = wide.astype(np.int32)
    totals = [int(np.abs(row.astype(np.int16)).sum(dtype=np.int64)) * inputs.magnitude for row in codes]
    if bias_codes is not None:
        totals = [total + abs(int(own)) for total, own in zip(totals, bias_codes, strict=True)]
    fls = weight_fls + inputs.fl
    fl = int(fls.max(initial=0))
    most = max((total << int(fl - own) for total, own in zip(totals, fls, strict=True)), default=0)
    if most >= EXACT:
        return None
    return IntegerSums(codes, weight_fls, bias_codes, Grid(fl, -most, most))


def sums_on_grid(inputs: Grid, weights: NDArray[np.float32], bias: NDArray[np.float32] | None, fl: int) -> bool:
    """Whether float32 sums of products are whole multiples of 2**-fl, however many bits they have.

    If products and bias are, so are all sums in any order: what float32 cannot hold it rounds to multiples of a larger
    power of two.
    """
    flat = weights.ravel()
    parts = (flat[first : first + _AT_ONCE] for first in range(0, flat.size, _AT_ONCE))
    return (bias is None or _whole(bias, fl)) and all(_whole(part, fl - inputs.fl) for part in parts)


def _whole(numbers: NDArray[np.float32], shift: int) -> bool:
    scaled = np.ldexp(numbers.astype(np.float64), shift)
    return bool(np.all(np.isfinite(scaled) & (scaled == np.rint(scaled))))


def _with_room_for(
    bias: NDArray[np.float32], codes: NDArray[np.int8], fls: NDArray[np.int64], input_fl: int
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Weights with a fractional length that lets the products hold the bias, as far as eight bits suffice."""
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    for longer in range(8):
        if low << longer < -128 or high << longer > 127:
            break
        scaled = np.ldexp(bias.astype(np.float64), fls + longer + input_fl)
        if np.all(scaled == np.round(scaled)):
            return codes << longer, fls + longer
    return codes, fls


def integer_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.int64]] | None:
    """Weights (outputs, ...) as codes of eight bits, and the fractional length for each output: one, if one will do.

    None where they have more bits. In parts of some rows: the copies of a large layer would not fit.
    """
    rows = weights.reshape(len(weights), -1)
    step = max(1, _AT_ONCE // max(rows.shape[1], 1))
    parts = [slice(first, first + step) for first in range(0, len(rows), step)]
    own = np.zeros(len(rows), np.int64)
    for part in parts:
        if not np.isfinite(rows[part].sum()):
            return None
        own[part] = _fls(rows[part])
        if _codes(rows[part], own[part]) is None:
            return None
    for lengths in (np.full(len(rows), own.max(initial=own[0] if len(own) else 0)), own):
        codes = np.empty(rows.shape, np.int8)
        for part in parts:
            found = _codes(rows[part], lengths[part])
            if found is None:
                break
            codes[part] = found
        else:
            return codes.reshape(weights.shape), lengths
    return None


def _codes(rows: NDArray[np.float32], fls: NDArray[np.int64]) -> NDArray[np.float32] | None:
    codes = np.ldexp(rows, fls[:, None])
    return codes if codes.min(initial=0) >= -128 and codes.max(initial=0) <= 127 else None


def _fls(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The shortest fractional length that holds all values of each row; 0 for rows of zeros."""
    mantissas, exponents = np.frexp(rows)
    whole = np.abs(np.ldexp(mantissas, 24)).astype(np.int32)
    # The lowest bit that is set says how many of the 24 bits of a float32 are not needed.
    _, unneeded = np.frexp((whole & -whole).astype(np.float32))
    needed = np.where(rows != 0, (25 - unneeded - exponents).astype(np.int64), _NONE)
    most = needed.max(axis=1, initial=_NONE)
    return np.where(most == _NONE, 0, most)

"""From ranges to integer lengths and formats, by the original's rules (quantization.cpp)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.decide.stats import TensorStats
from ristretto.numerics.exponents import ceil_log2
from ristretto.numerics.formats import DynamicFixedPoint

DEFAULT_FORMAT = DynamicFixedPoint(bw=32, fl=16)
"""What a quantized layer does where its prototxt sets neither width nor fractional length."""

ACCUMULATOR_BW = 32
"""The width of the accumulator that the original's arithmetic stands for, and of a bias that is added there."""


@dataclass(frozen=True, slots=True)
class LayerRanges:
    """Measured ranges of one layer.

    Attributes:
        input: its first bottom; all of them for a layer that joins several.
        output: its first top.
        params: its weights, without the bias; no batches for a layer that has none.
        bias: its bias, or None.
    """

    input: TensorStats
    output: TensorStats
    params: TensorStats
    bias: TensorStats | None = None


@dataclass(frozen=True, slots=True)
class IntegerLengths:
    """Integer lengths of one layer; by the original's rule those of activations leave the sign bit out on purpose."""

    input: int
    output: int
    params: int

    def input_format(self, bw: int, *, signed: bool = True) -> DynamicFixedPoint:
        """The format of the layer's input at a bit-width."""
        return DynamicFixedPoint(bw, bw - self.input, signed)

    def output_format(self, bw: int, *, signed: bool = True) -> DynamicFixedPoint:
        """The format of the layer's output at a bit-width."""
        return DynamicFixedPoint(bw, bw - self.output, signed)

    def params_format(self, bw: int) -> DynamicFixedPoint:
        """The format of the layer's weights at a bit-width."""
        return DynamicFixedPoint(bw, bw - self.params)


def activation_il(stats: TensorStats) -> int:
    """ceil(log2(max)): one bit less than keeping every value would need, on purpose.

    A dead value (range 0) has no logarithm; it gets 0, the length of a range up to one, and any length would do.
    """
    return ceil_log2(stats.abs_max) if _usable(stats) else 0


def params_il(stats: TensorStats) -> int:
    """ceil(log2(max) + 1): the sign bit included, so that no weight saturates; 1 for weights that are all zero."""
    return ceil_log2(stats.abs_max) + 1 if _usable(stats) else 1


def _usable(stats: TensorStats) -> bool:
    return math.isfinite(stats.abs_max) and stats.abs_max > 0


def integer_lengths(ranges: LayerRanges, *, keep_input: bool = False) -> IntegerLengths:
    """The integer lengths of a layer by the original's rules.

    Args:
        ranges: what was measured.
        keep_input: give the input the bit that the original takes from it, so that nothing of it saturates. Right for
            what is fed to the net: pixels use their whole range, where most other values have long tails.
    """
    inputs = activation_il(ranges.input) + (1 if keep_input else 0)
    return IntegerLengths(inputs, activation_il(ranges.output), params_il(ranges.params))


WIDE_BW = 24
"""The bits that float32 holds exactly: what an output has before it is stored."""

ROUNDED_BW = 20
"""What it has where that is not enough for its products: four bits more than the widest activation of a ladder."""


def wide_format(stats: TensorStats, acc_fl: int | None = None, *, bw: int = WIDE_BW) -> DynamicFixedPoint:
    """A format for results with which something is computed before they are stored, with twice the range measured.

    Args:
        stats: the range measured.
        acc_fl: fractional length of the products that are added up; a longer one would hold nothing more.
        bw: width of the activations that are multiplied.
    """
    longest = WIDE_BW - 2 - activation_il(stats)
    if acc_fl is not None and acc_fl <= longest:
        return DynamicFixedPoint(WIDE_BW, acc_fl)
    unneeded = WIDE_BW - ROUNDED_BW if bw <= ROUNDED_BW - 4 else 0
    return DynamicFixedPoint(WIDE_BW - unneeded, longest - unneeded)


CANDIDATES = 4
"""How many integer lengths are compared for a site: the one that keeps every value, and shorter ones that saturate."""


def activation_candidates(stats: TensorStats, *, signed: bool) -> tuple[int, ...]:
    """Integer lengths to compare for an activation, longest first, in the original's count without the sign bit."""
    longest = activation_il(stats) + (1 if signed else 0)
    return tuple(longest - shorter for shorter in range(CANDIDATES))


def least_error(errors: Mapping[int, float]) -> int:
    """The integer length with the least squared error; of equal ones the longest, which saturates least.

    An error that is not a number is larger than all others.
    """
    return min(sorted(errors, reverse=True), key=lambda il: math.inf if math.isnan(errors[il]) else errors[il])


def shortest_within(shares: Mapping[int, float], allowed: float) -> int:
    """The shortest integer length with which no more than an allowed share of values saturates, or the longest."""
    return min((il for il, share in shares.items() if share <= allowed), default=max(shares))


def params_candidates(blob: NDArray[np.float32]) -> tuple[int, ...]:
    """Integer lengths to compare for weights, longest first."""
    longest = params_il(TensorStats(float(np.min(blob)), float(np.max(blob)))) if blob.size else 1
    return tuple(range(longest, longest - CANDIDATES, -1))


def params_il_by_error(blob: NDArray[np.float32], bw: int) -> int:
    """The integer length with which weights of a width lose least in squared error."""
    errors = {}
    for il in params_candidates(blob):
        rounded = DynamicFixedPoint(bw, bw - il).quantize(blob)
        errors[il] = float(np.sum(np.square(rounded - blob, dtype=np.float64)))
    return least_error(errors)


def bias_format(bias: TensorStats | None, bw: int) -> DynamicFixedPoint:
    """The finest format of a width in which no bias saturates."""
    return DynamicFixedPoint(bw, bw - (params_il(bias) if bias is not None else 1))


def accumulator_bias_format(bias: TensorStats | None, acc_fl: int) -> DynamicFixedPoint:
    """A bias as it is added in the accumulator: at the scale of the products, coarser only where it would saturate.

    Args:
        bias: its range.
        acc_fl: fractional length of the products, that of the input plus that of the weights.
    """
    widest = bias_format(bias, ACCUMULATOR_BW)
    return DynamicFixedPoint(ACCUMULATOR_BW, min(acc_fl, widest.fl))


def minifloat_exp_bits(stats: list[TensorStats], least: int = 4) -> int:
    """Exponent bits in which the largest activation has an exponent, at least four (Quantize2MiniFloat).

    The formula ceil(log2(log2(max) - 1) + 1) has no value for a range up to 2; the least number of bits does there.
    """
    largest = max((item.abs_max for item in stats if _usable(item)), default=0.0)
    if largest <= 4.0:
        return least
    return min(8, max(least, math.ceil(math.log2(math.log2(largest) - 1.0) + 1.0)))

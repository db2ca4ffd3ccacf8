"""From a range to an integer length, by the original's rules (quantization.cpp, Quantize2DynamicFixedPoint)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.decide.stats import TensorStats
from ristretto.numerics.exponents import ceil_log2
from ristretto.numerics.formats import DynamicFixedPoint

DEFAULT_FORMAT = DynamicFixedPoint(bw=32, fl=16)
"""What a quantized layer does where its prototxt sets neither width nor fractional length."""


@dataclass(frozen=True, slots=True)
class LayerRanges:
    """Measured ranges of one layer: its first bottom, its first top, its weights (without the bias)."""

    input: TensorStats
    output: TensorStats
    params: TensorStats


@dataclass(frozen=True, slots=True)
class IntegerLengths:
    """Integer lengths of one layer; by the original's rule those of activations leave the sign bit out on purpose."""

    input: int
    output: int
    params: int

    def input_format(self, bw: int) -> DynamicFixedPoint:
        """The format of the layer's input at a bit-width."""
        return DynamicFixedPoint(bw, bw - self.input)

    def output_format(self, bw: int) -> DynamicFixedPoint:
        """The format of the layer's output at a bit-width."""
        return DynamicFixedPoint(bw, bw - self.output)

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

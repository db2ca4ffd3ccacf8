"""Exact integer sums from float32 products: operands are split into digits so that no partial sum is rounded.

A float32 holds all integers up to 2**24. A Conv on integers is exact, in whatever order it adds, where
``max|x| * sum|w|`` stays below that for every output channel. Where it does not, inputs or weights are split into
balanced digits (x = x0 + x1 * 2**k), a Conv is done for each pair of digits, and these are put together in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Sums = Callable[[Codes], NDArray[np.int64]]
"""From weights' codes to the sums of their magnitudes, one or more for each output channel."""

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = (1 << 53) - (1 << 48)
"""Sums within this can wrap in an accumulator of 48 bits and stay exact in a float64."""

_MOST_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Digits:
    """How a whole number is split: value = sum of digit[i] * 2**(shift * i).

    Attributes:
        count: how many digits; with one the value is its own digit.
        shift: the bits of each but the last.
    """

    count: int = 1
    shift: int = 0


@dataclass(frozen=True, slots=True)
class DigitPlan:
    """The splits of inputs and weights with the fewest products.

    Attributes:
        inputs: how the inputs' codes are split while the net runs.
        weights: how the weights' codes are split beforehand.
    """

    inputs: Digits = Digits()
    weights: Digits = Digits()

    @property
    def products(self) -> int:
        """How many operations the layer takes."""
        return self.inputs.count * self.weights.count


def plan_digits(largest_input: int, weights: Codes, sums: Sums) -> DigitPlan | None:
    """The fewest products of digits that are exact in float32 in any order of summation.

    Args:
        largest_input: the greatest magnitude of an input's code.
        weights: the weights' codes.
        sums: adds up magnitudes for each output channel.

    Returns:
        the plan; of several the one that splits the inputs least, which costs time in every run. None if nothing is
        exact: with more than 2**24 products for an output.
    """
    counts = sorted(product(range(1, _MOST_DIGITS + 1), repeat=2), key=lambda pair: (pair[0] * pair[1], pair[0]))
    inputs: dict[int, tuple[Digits, int]] = {}
    split: dict[int, tuple[Digits, int]] = {}
    for of_inputs, of_weights in counts:
        if of_inputs not in inputs:
            bits = largest_input.bit_length()
            inputs[of_inputs] = _best(of_inputs, bits, lambda digits: _largest_digit(largest_input, digits))
        if of_weights not in split:
            bits = int(np.abs(weights).max(initial=0)).bit_length()
            split[of_weights] = _best(of_weights, bits, lambda digits: _largest_sum(weights, digits, sums))
        if inputs[of_inputs][1] * split[of_weights][1] <= FLOAT32_EXACT:
            return DigitPlan(inputs[of_inputs][0], split[of_weights][0])
    return None


def split_codes(codes: Codes, digits: Digits) -> list[Codes]:
    """The digits of integers, lowest first, each but the last within 2**(shift - 1) of zero.

    >>> split_codes(np.array([100, -100, 8]), Digits(2, 4))
    [array([ 4, -4, -8]), array([ 6, -6,  1])]
    """
    found = []
    rest = codes
    for _ in range(digits.count - 1):
        upper = (rest + (1 << (digits.shift - 1))) >> digits.shift
        found.append(rest - (upper << digits.shift))
        rest = upper
    return [*found, rest]


def _best(count: int, bits: int, size: Callable[[Digits], int]) -> tuple[Digits, int]:
    """The split of numbers of so many bits whose greatest digit is least, and how great that is."""
    if count == 1:
        return Digits(), size(Digits())
    splits = [Digits(count, shift) for shift in range(1, 2 + math.ceil(bits / count))]
    sizes = [size(digits) for digits in splits]
    best = min(range(len(splits)), key=sizes.__getitem__)
    return splits[best], sizes[best]


def _largest_digit(largest: int, digits: Digits) -> int:
    """The greatest magnitude of a digit of whole numbers up to a magnitude, whichever way ties are rounded."""
    found, rest = 0, largest
    for _ in range(digits.count - 1):
        half = 1 << (digits.shift - 1)
        found = max(found, min(half, rest))
        rest = (rest + half) >> digits.shift
    return max(found, rest)


def _largest_sum(weights: Codes, digits: Digits, sums: Sums) -> int:
    return max(int(sums(np.abs(part)).max(initial=0)) for part in split_codes(weights, digits))


def convolution_sums(magnitudes: Codes) -> NDArray[np.int64]:
    """Sums for weights of shape (outputs, inputs / group, kernel...)."""
    result: NDArray[np.int64] = magnitudes.reshape(len(magnitudes), -1).sum(axis=1)
    return result


def transposed_sums(group: int, strides: Sequence[int], dilations: Sequence[int]) -> Sums:
    """Sums for weights of shape (inputs, outputs / group, kernel...) of a transposed convolution.

    Where it has a stride, an output gets only those positions of the kernel whose distances are multiples of it: there
    is a sum for each such set.

    Returns:
        a function to an array of shape (outputs, sets).
    """

    def sums(magnitudes: Codes) -> NDArray[np.int64]:
        inputs, outputs, *kernel = magnitudes.shape
        total: NDArray[np.int64] = magnitudes.reshape(group, inputs // group, outputs, *kernel).sum(axis=1)
        total = total.reshape(group * outputs, *kernel)
        for axis, (length, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True), start=1):
            phases = np.arange(length) * dilation % stride
            met = [total.compress(phases == phase, axis).sum(axis=axis, keepdims=True) for phase in set(phases)]
            total = np.concatenate(met, axis)
        return total.reshape(group * outputs, -1)

    return sums


def product_sums(transposed: bool) -> Sums:
    """Sums for a matrix of shape (outputs, inputs), or transposed."""
    return lambda magnitudes: magnitudes.sum(axis=0 if transposed else 1)

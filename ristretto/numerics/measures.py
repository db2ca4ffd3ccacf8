"""How much of a signal a number format loses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.numerics.formats import Format


def sqnr_db(signal: NDArray[np.floating[Any]], quantized: NDArray[np.floating[Any]]) -> float:
    """Signal to quantization noise ratio in decibels: 10 log10(sum(s**2) / sum((s - q)**2)), in float64.

    >>> round(sqnr_db(np.array([1.0, -1.0]), np.array([1.1, -0.9])), 6)
    20.0

    Args:
        signal: the float values, of any shape.
        quantized: the same values after quantization.

    Returns:
        The ratio; inf where nothing is lost, -inf where there is noise and no signal, NaN where a value is NaN.

    Raises:
        ValueError: the shapes differ. Broadcasting one to the other would measure something else.
    """
    if signal.shape != quantized.shape:
        message = f"the signal has shape {signal.shape}, its quantized form {quantized.shape}"
        raise ValueError(message)
    exact = np.asarray(signal, np.float64)
    power = float(np.sum(np.square(exact)))
    noise = float(np.sum(np.square(exact - np.asarray(quantized, np.float64))))
    return decibels(power, noise)


def decibels(power: float, noise: float) -> float:
    """A signal to noise ratio from sums of squares: inf without noise, -inf without a signal, NaN where one is NaN."""
    if noise == 0.0:
        return math.inf
    ratio = power / noise
    return -math.inf if ratio == 0.0 else 10.0 * math.log10(ratio)


def saturated_share(x: NDArray[np.floating[Any]], fmt: Format) -> float:
    """The share of values, 0 to 1, that lie outside what a format can hold; 0 of an empty array.

    A value within half a step beyond an end counts too, although rounding alone would bring it back.

    Args:
        x: the values before quantization, of any shape.
        fmt: the format.
    """
    if not x.size:
        return 0.0
    exact = np.asarray(x, np.float64)
    return float(np.mean((exact < fmt.min) | (exact > fmt.max)))

"""Roundings to whole numbers, each with its rule at the ties."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = TypeVar("FloatArray", NDArray[np.float32], NDArray[np.float64], NDArray[Any])


class Rounding(str, Enum):
    """How a value between two neighbours of the grid is rounded."""

    HALF_EVEN = "half_even"
    HALF_AWAY = "half_away"
    HALF_UP = "half_up"
    TRUNCATE = "truncate"
    STOCHASTIC = "stochastic"


def round_half_even(x: FloatArray) -> FloatArray:
    """Round to nearest, ties to the even neighbour (C's rint; the original on a GPU).

    >>> round_half_even(np.array([-2.5, -0.5, 0.5, 1.5, 2.5])) + 0.0
    array([-2.,  0.,  0.,  2.,  2.])
    """
    return np.rint(x)


def round_half_away(x: FloatArray) -> FloatArray:
    """Round to nearest, ties away from zero (C's round; the original on a CPU).

    >>> round_half_away(np.array([-2.5, -0.5, 0.49999999999999994, 1.5, 2.5])) + 0.0
    array([-3., -1.,  0.,  2.,  3.])
    """
    whole = np.trunc(x)
    up = (np.abs(x - whole) >= 0.5).astype(whole.dtype)
    return whole + np.copysign(up, x)


def round_half_up(x: FloatArray) -> FloatArray:
    """Round to nearest, ties towards plus infinity (an adder of one half before dropping bits).

    >>> round_half_up(np.array([-2.5, -0.5, 0.49999999999999994, 1.5, 2.5])) + 0.0
    array([-2.,  0.,  0.,  2.,  3.])
    """
    whole = np.floor(x)
    return whole + (x - whole >= 0.5)


def truncate(x: FloatArray) -> FloatArray:
    """Drop the bits below the point of a two's-complement number, which rounds towards minus infinity.

    >>> truncate(np.array([-1.5, -0.25, 0.75, 1.5]))
    array([-2., -1.,  0.,  1.])
    """
    return np.floor(x)


def round_stochastic(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Round up with a probability equal to the distance from the lower neighbour, so that the mean is kept."""
    whole = np.floor(x)
    return whole + (rng.random(np.shape(x)) < x - whole)


def round_to(x: FloatArray, rounding: Rounding, rng: np.random.Generator | None = None) -> FloatArray:
    """Round to whole numbers by a rule; the dtype is kept.

    Args:
        x: any shape.
        rounding: the rule.
        rng: where stochastic rounding draws from; needed for it alone.
    """
    if rounding is Rounding.HALF_EVEN:
        return round_half_even(x)
    if rounding is Rounding.HALF_AWAY:
        return round_half_away(x)
    if rounding is Rounding.HALF_UP:
        return round_half_up(x)
    if rounding is Rounding.TRUNCATE:
        return truncate(x)
    if rng is None:
        message = "stochastic rounding needs a random generator"
        raise ValueError(message)
    return round_stochastic(x, rng)

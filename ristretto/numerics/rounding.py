"""Roundings to whole numbers, each with its rule at the ties."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatT = TypeVar("FloatT", bound=np.floating[Any])


class Rounding(str, Enum):
    """How a value between two neighbours of the grid is rounded."""

    HALF_EVEN = "half_even"
    HALF_AWAY = "half_away"
    HALF_UP = "half_up"
    TRUNCATE = "truncate"
    STOCHASTIC = "stochastic"


def floats(x: NDArray[FloatT]) -> NDArray[FloatT]:
    """An array of floats as it is; whatever else numpy takes for numbers, such as a list, as float64."""
    array = np.asarray(x)
    if np.issubdtype(array.dtype, np.floating):
        return array
    widened: NDArray[Any] = array.astype(np.float64)
    return widened


def round_half_even(x: NDArray[FloatT]) -> NDArray[FloatT]:
    """Round to nearest, ties to the even neighbour (C's rint; the original on a GPU).

    >>> round_half_even(np.array([-2.5, -0.5, 0.5, 1.5, 2.5])) + 0.0
    array([-2.,  0.,  0.,  2.,  2.])
    """
    result: NDArray[FloatT] = np.rint(x)
    return result


def round_half_away(x: NDArray[FloatT]) -> NDArray[FloatT]:
    """Round to nearest, ties away from zero (C's round; the original on a CPU).

    >>> round_half_away(np.array([-2.5, -0.5, 0.49999999999999994, 1.5, 2.5])) + 0.0
    array([-3., -1.,  0.,  2.,  3.])
    """
    whole: NDArray[FloatT] = np.trunc(x)
    up = np.abs(x - whole) >= 0.5
    result: NDArray[FloatT] = whole + np.copysign(up.astype(x.dtype), x)
    return result


def round_half_up(x: NDArray[FloatT]) -> NDArray[FloatT]:
    """Round to nearest, ties towards plus infinity (an adder of one half before dropping bits).

    >>> round_half_up(np.array([-2.5, -0.5, 0.49999999999999994, 1.5, 2.5])) + 0.0
    array([-2.,  0.,  0.,  2.,  3.])
    """
    whole: NDArray[FloatT] = np.floor(x)
    result: NDArray[FloatT] = whole + (x - whole >= 0.5)
    return result


def truncate(x: NDArray[FloatT]) -> NDArray[FloatT]:
    """Drop the bits below the point of a two's-complement number, which rounds towards minus infinity.

    >>> truncate(np.array([-1.5, -0.25, 0.75, 1.5]))
    array([-2., -1.,  0.,  1.])
    """
    result: NDArray[FloatT] = np.floor(x)
    return result


def round_stochastic(x: NDArray[FloatT], rng: np.random.Generator) -> NDArray[FloatT]:
    """Round up with a probability equal to the distance from the lower neighbour, so that the mean is kept."""
    whole: NDArray[FloatT] = np.floor(x)
    result: NDArray[FloatT] = whole + (rng.random(np.shape(x)) < x - whole)
    return result


def round_to(x: NDArray[FloatT], rounding: Rounding, rng: np.random.Generator | None = None) -> NDArray[FloatT]:
    """Round to whole numbers by a rule; the dtype is kept.

    Args:
        x: any shape.
        rounding: the rule.
        rng: where stochastic rounding draws from; needed for it alone.

    Raises:
        ValueError: there is no such rule, or stochastic rounding is asked for without a generator.
    """
    rounding = Rounding(rounding)  # a plain string must not fall through to the last rule
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

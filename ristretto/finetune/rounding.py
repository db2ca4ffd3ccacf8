"""Rounding in the forward pass, as if it were not there in the backward pass (straight-through gradients)."""

from __future__ import annotations

import math

import numpy as np

from ristretto.finetune.backend import Tensor, torch
from ristretto.numerics.formats import DynamicFixedPoint, Format
from ristretto.numerics.rounding import Rounding

_EXACT = 100
"""Up to this fractional length float32 holds the scale."""


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """The rounded values, whose gradient goes to the values as it is.

    What is added is exactly zero, so that the result is the rounded value bit for bit.
    """
    return rounded.detach() + (value - value.detach())


def rounded(value: Tensor, fmt: Format, rounding: Rounding, rng: np.random.Generator | None) -> Tensor:
    """Values on the grid of a format, bit-equal to ``fmt.quantize``; without a gradient."""
    value = value.detach()
    if isinstance(fmt, DynamicFixedPoint) and rounding is Rounding.HALF_EVEN and abs(fmt.fl) <= _EXACT:
        codes = torch.round(torch.clamp(value, fmt.min, fmt.max) * math.ldexp(1.0, fmt.fl))
        return codes * math.ldexp(1.0, -fmt.fl)
    return torch.from_numpy(fmt.quantize(value.contiguous().numpy(), rounding, rng))


def rounded_activation(
    value: Tensor, fmt: Format, rounding: Rounding = Rounding.HALF_EVEN, rng: np.random.Generator | None = None
) -> Tensor:
    """A value as a layer rounds it; where it saturates there is no gradient, elsewhere the gradient goes on."""
    return straight_through(torch.clamp(value, fmt.min, fmt.max), rounded(value, fmt, rounding, rng))

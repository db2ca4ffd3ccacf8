"""Rounding in the forward pass, as if it were not there in the backward pass (straight-through gradients)."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.shares import PASS, bounds, each, present_pool
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
    if isinstance(fmt, DynamicFixedPoint) and rounding is Rounding.HALF_EVEN and abs(fmt.fl) <= _EXACT:
        return _fixed_point().apply(value, fmt)
    return straight_through(torch.clamp(value, fmt.min, fmt.max), rounded(value, fmt, rounding, rng))


@cache
def _fixed_point() -> Any:
    """``rounded_activation`` of a fixed-point format in few passes over memory; made when torch is there."""

    class FixedPoint(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, value: Tensor, fmt: DynamicFixedPoint) -> Tensor:
            ctx.pool, ctx.parts = present_pool(), bounds(len(value), value.numel() * PASS)
            ctx.fmt = fmt
            ctx.save_for_backward(value)
            result, scale = torch.empty_like(value), math.ldexp(1.0, fmt.fl)

            def part(bound: tuple[int, int]) -> None:
                own = result[slice(*bound)]
                torch.clamp(value[slice(*bound)], fmt.min, fmt.max, out=own)
                own.mul_(scale).round_().div_(scale)

            each(part, ctx.parts, ctx.pool)
            return result

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            (value,) = ctx.saved_tensors
            made, nothing = torch.empty_like(gradient), gradient.new_zeros(())

            def part(bound: tuple[int, int]) -> None:
                own = value[slice(*bound)]
                inside = (own >= ctx.fmt.min).logical_and_(own <= ctx.fmt.max)
                torch.where(inside, gradient[slice(*bound)], nothing, out=made[slice(*bound)])

            each(part, ctx.parts, ctx.pool)
            return made, None

    return FixedPoint

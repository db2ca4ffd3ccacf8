"""What is done to each channel by itself, in fixed parts (``shares``) and few passes over memory."""

from __future__ import annotations

from functools import cache
from typing import Any

from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.shares import PASS, bounds, each, present_pool


def normalized(value: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """``(x - mean) / sqrt(variance + eps)`` with each channel's (axis 1) statistics; and these, without gradient."""
    made: tuple[Tensor, Tensor, Tensor] = _normalized().apply(value, eps)
    return made


def standardized(value: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """``(x - mean) / spread`` with given numbers for each channel (axis 1), to which no gradient goes."""
    return _standardized().apply(value, mean, spread)


def scaled(value: Tensor, factors: Tensor, summands: Tensor | None) -> Tensor:
    """``factor * x + summand`` with numbers of each channel (axis 1)."""
    return _scaled().apply(value, factors, summands)


def _parts(value: Tensor) -> list[tuple[int, int]]:
    return bounds(value.shape[1], value.numel() * PASS)


def _axes(value: Tensor) -> list[int]:
    return [axis for axis in range(value.dim()) if axis != 1]


def _spread_out(numbers: Tensor, value: Tensor) -> Tensor:
    return numbers.reshape(-1, *(1,) * (value.dim() - 2))


@cache
def _normalized() -> Any:
    """The function, made when torch is there."""

    class Normalized(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, value: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
            ctx.pool, ctx.parts, axes = present_pool(), _parts(value), _axes(value)
            result = torch.empty_like(value)

            def part(bound: tuple[int, int]) -> tuple[Tensor, Tensor]:
                own, centred = value[:, slice(*bound)], result[:, slice(*bound)]
                mean = own.mean(axes, keepdim=True)
                torch.sub(own, mean, out=centred)
                variance = (centred * centred).mean(axes, keepdim=True)
                centred.div_(torch.sqrt(variance + eps))
                return mean, variance

            mean, variance = (torch.cat(found, 1) for found in zip(*each(part, ctx.parts, ctx.pool), strict=True))
            ctx.save_for_backward(result, torch.sqrt(variance + eps))
            ctx.mark_non_differentiable(mean, variance)
            return result, mean, variance

        @staticmethod
        def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Any, ...]:
            result, spread = ctx.saved_tensors
            axes, made = _axes(result), torch.empty_like(result)

            def part(bound: tuple[int, int]) -> None:
                own, kept, change = (whole[:, slice(*bound)] for whole in (gradient, result, made))
                along = (own * kept).mean(axes, keepdim=True)
                torch.sub(own, own.mean(axes, keepdim=True), out=change)
                change.addcmul_(kept, along, value=-1.0).div_(spread[:, slice(*bound)])

            each(part, ctx.parts, ctx.pool)
            return made, None

    return Normalized


@cache
def _standardized() -> Any:
    """The function, made when torch is there."""

    class Standardized(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, value: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
            ctx.pool, ctx.parts = present_pool(), _parts(value)
            ctx.save_for_backward(spread)
            result = torch.empty_like(value)

            def part(bound: tuple[int, int]) -> None:
                own = result[:, slice(*bound)]
                torch.sub(value[:, slice(*bound)], _spread_out(mean[slice(*bound)], value), out=own)
                own.div_(_spread_out(spread[slice(*bound)], value))

            each(part, ctx.parts, ctx.pool)
            return result

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            (spread,) = ctx.saved_tensors
            made = torch.empty_like(gradient)

            def part(bound: tuple[int, int]) -> None:
                torch.div(
                    gradient[:, slice(*bound)],
                    _spread_out(spread[slice(*bound)], gradient),
                    out=made[:, slice(*bound)],
                )

            each(part, ctx.parts, ctx.pool)
            return made, None, None

    return Standardized


@cache
def _scaled() -> Any:
    """The function, made when torch is there."""

    class Scaled(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, value: Tensor, factors: Tensor, summands: Tensor | None) -> Tensor:
            ctx.pool, ctx.parts, ctx.sums = present_pool(), _parts(value), summands is not None
            ctx.save_for_backward(value, factors)
            result = torch.empty_like(value)

            def part(bound: tuple[int, int]) -> None:
                own = result[:, slice(*bound)]
                torch.mul(value[:, slice(*bound)], _spread_out(factors[slice(*bound)], value), out=own)
                if summands is not None:
                    own.add_(_spread_out(summands[slice(*bound)], value))

            each(part, ctx.parts, ctx.pool)
            return result

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            value, factors = ctx.saved_tensors
            axes = _axes(value)
            made = torch.empty_like(value) if ctx.needs_input_grad[0] else None

            def part(bound: tuple[int, int]) -> tuple[Tensor, Tensor]:
                own = gradient[:, slice(*bound)]
                if made is not None:
                    torch.mul(own, _spread_out(factors[slice(*bound)], value), out=made[:, slice(*bound)])
                return (own * value[:, slice(*bound)]).sum(axes), own.sum(axes)

            found = [torch.cat(sums) for sums in zip(*each(part, ctx.parts, ctx.pool), strict=True)]
            return made, found[0], found[1] if ctx.sums else None

    return Scaled

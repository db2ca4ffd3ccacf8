"""Convolutions and matrix products, in fixed parts (``shares``): of images, and of columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, reduce
from typing import Any

from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.shares import bounds, each, present_pool


def convolve(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    group: int,
    *,
    transposed: bool = False,
) -> Tensor:
    """A convolution (n, c, spatial...), or its transpose, whose images are shared out."""
    options = (list(stride), list(pad), list(dilation), transposed, [0] * len(stride), group)
    return _convolution().apply(images, weight, bias, options)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + bias`` over the last axis, whose columns are shared out."""
    result = _linear().apply(rows.reshape(-1, rows.shape[-1]), weight)
    result = result.reshape(*rows.shape[:-1], weight.shape[0])
    return result if bias is None else result + bias


def _added(parts: Sequence[Tensor]) -> Tensor:
    """The sum of parts, from the first to the last."""
    return reduce(lambda done, part: done.add_(part), parts[1:], parts[0])


@cache
def _convolution() -> Any:
    """The function, made when torch is there."""

    class Convolution(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, options: Any) -> Tensor:
            ctx.save_for_backward(images, weight)
            ctx.options, ctx.has_bias, ctx.pool = options, bias is not None, present_pool()
            stride, _, _, transposed, _, _ = options
            # Every weight meets every position of the smaller of the two sides.
            positions = images[0, 0].numel() if transposed else max(1, images[0, 0].numel() // math.prod(stride))
            ctx.bounds = bounds(len(images), len(images) * weight.numel() * positions)

            def part(bound: tuple[int, int]) -> Tensor:
                return torch.ops.aten.convolution(images[slice(*bound)], weight, bias, *options)

            made = each(part, ctx.bounds, ctx.pool)
            return made[0] if len(made) == 1 else torch.cat(made)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            images, weight = ctx.saved_tensors
            wanted = [*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2]]
            sizes = [gradient.shape[1]] if ctx.has_bias else None

            def part(bound: tuple[int, int]) -> tuple[Tensor, ...]:
                own = gradient[slice(*bound)], images[slice(*bound)]
                made: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
                    *own, weight, sizes, *ctx.options, wanted
                )
                return made

            made = each(part, ctx.bounds, ctx.pool)
            of_images = torch.cat([each[0] for each in made]) if wanted[0] else None
            rest = [_added([each[place] for each in made]) if wanted[place] else None for place in (1, 2)]
            return of_images, *rest, None

    return Convolution


@cache
def _linear() -> Any:
    """The function, made when torch is there."""

    class Linear(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
            ctx.save_for_backward(rows, weight)
            ctx.pool = present_pool()
            ctx.products = len(rows) * weight.numel()
            parts = bounds(len(weight), ctx.products)
            return torch.cat(each(lambda bound: rows @ weight[slice(*bound)].t(), parts, ctx.pool), 1)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            rows, weight = ctx.saved_tensors
            of_rows = of_weight = None
            if ctx.needs_input_grad[0]:
                parts = bounds(weight.shape[1], ctx.products)
                of_rows = torch.cat(each(lambda bound: gradient @ weight[:, slice(*bound)], parts, ctx.pool), 1)
            if ctx.needs_input_grad[1]:
                parts = bounds(len(weight), ctx.products)
                of_weight = torch.cat(each(lambda bound: gradient[:, slice(*bound)].t() @ rows, parts, ctx.pool))
            return of_rows, of_weight

    return Linear

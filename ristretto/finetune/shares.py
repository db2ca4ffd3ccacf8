"""Work in fixed parts, so that a training is the same for any number of threads.

torch cuts its work into as many parts as there are threads, and sums that are cut elsewhere end in other bits. Here the
parts hang on the shapes alone: each is computed by one thread, and what is summed over parts is summed in their order.
All operations of a training that are not shared out so run in one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

from ristretto.finetune.backend import Tensor, torch

PARTS = 8
"""At most so many: more threads than that find nothing to do."""

LEAST = 1 << 20
"""Multiplications in a part, below which handing it out costs more than it brings."""

PASS = LEAST >> 15
"""An element that is read and written costs as much as so many multiplications in a product."""

Part = TypeVar("Part")
Made = TypeVar("Made")

_pool: ContextVar[Executor | None] = ContextVar("pool", default=None)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Share work out among so many threads inside, 0 for torch's own choice; results do not depend on it."""
    before = torch.get_num_threads()
    count = min(count or before, PARTS)
    torch.set_num_threads(1)
    try:
        if count == 1:
            yield
            return
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            token = _pool.set(pool)
            try:
                yield
            finally:
                _pool.reset(token)
    finally:
        torch.set_num_threads(before)


def present_pool() -> Executor | None:
    """The threads to share work out among; None for the one that asks."""
    return _pool.get()


def bounds(length: int, work: int) -> list[tuple[int, int]]:
    """Where the parts of an axis begin and end.

    Args:
        length: of the axis.
        work: multiplications over all of it.
    """
    count = max(1, min(PARTS, length, work // LEAST))
    return list(pairwise(length * number // count for number in range(count + 1)))


def each(run: Callable[[Part], Made], parts: Iterable[Part], pool: Executor | None) -> list[Made]:
    """What comes of each part, in order; no gradients are kept of it."""

    def alone(part: Part) -> Made:
        with torch.no_grad():  # which is of a thread
            return run(part)

    return list(map(alone, parts) if pool is None else pool.map(alone, parts))


def imagewise(run: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """What an operation makes of a value, if it does so image by image (axis 0)."""
    parts = bounds(len(value), value.numel() * PASS)
    return run(value) if len(parts) == 1 else _imagewise().apply(value, run, parts)


@cache
def _imagewise() -> Any:
    """The function, made when torch is there."""

    class Imagewise(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, value: Tensor, run: Callable[[Tensor], Tensor], parts: list[tuple[int, int]]) -> Tensor:
            ctx.pool, ctx.parts = present_pool(), parts
            wanted = ctx.needs_input_grad[0]

            def part(bound: tuple[int, int]) -> tuple[Tensor, Tensor]:
                own = value[slice(*bound)].detach().requires_grad_(wanted)
                with torch.set_grad_enabled(wanted):
                    return own, run(own)

            ctx.passed = each(part, parts, ctx.pool)
            return torch.cat([made.detach() for _, made in ctx.passed])

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            def part(number: int) -> Tensor:
                own, made = ctx.passed[number]
                (found,) = torch.autograd.grad(made, own, gradient[slice(*ctx.parts[number])])
                return found

            return torch.cat(each(part, range(len(ctx.parts)), ctx.pool)), None, None

    return Imagewise

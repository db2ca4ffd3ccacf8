"""An exported model beside the float model and beside integer arithmetic: size, speed, agreement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ristretto.export.job import Batch
from ristretto.runtime.session import Session
from ristretto.runtime.stock import StockSession

_FEWEST_RUNS, _MOST_RUNS, _SECONDS = 3, 100, 1.0
"""Both models are run so often, in turns, and each is as fast as in its best run."""

_ELEMENTS = 1 << 22
"""Of images that are run at once: 27 of 3 x 227 x 227."""

INTEGER_KERNELS = frozenset(
    {
        "ConvInteger", "MatMulInteger", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearConv",
        "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMatMul", "QLinearMul", "QLinearSigmoid",
    }
)  # fmt: skip
"""The operations that onnxruntime computes on codes."""

_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger", "QGemm", "QLinearConv", "QLinearMatMul"})


@dataclass(frozen=True, slots=True)
class Kernels:
    """What onnxruntime makes of a model with its default options.

    Attributes:
        operations: how many nodes of each type it runs.
        integer: how many of them are computed on codes.
        products: how many of those are layers of products and sums.
    """

    operations: dict[str, int]
    integer: int
    products: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """An exported model beside integer arithmetic.

    Attributes:
        images: how many images were run.
        values: how many values of the outputs were compared.
        differing: how many differ.
        largest: the largest difference.
    """

    images: int
    values: int
    differing: int
    largest: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds for some images, the best of some runs: of the exported model and of the float model.

    Attributes:
        images: how many.
        batch: how many at once.
        seconds, float_seconds: for all of them.
    """

    images: int
    batch: int
    seconds: float
    float_seconds: float


def kernels_of(session: StockSession) -> Kernels:
    """The operations that a loaded model has become."""
    nodes = onnx.load_from_string(session.optimized).graph.node
    counts = Counter(node.op_type for node in nodes)
    integer = sum(count for name, count in counts.items() if name in INTEGER_KERNELS)
    products = sum(count for name, count in counts.items() if name in _PRODUCTS)
    return Kernels(dict(sorted(counts.items())), integer, products)


def agreement(session: StockSession, reference: onnx.ModelProto, parts: Sequence[Batch]) -> Agreement:
    """Run the exported model and the simulation on the same images and compare all outputs.

    Args:
        session: the exported model.
        reference: the same net in integer arithmetic, with the same outputs.
        parts: the images.
    """
    simulated = Session(reference.SerializeToString())
    values, differing, largest = 0, 0, 0.0
    for part in parts:
        mine = session.run(part)
        theirs = simulated.run(part, list(mine))
        values += sum(array.size for array in mine.values())
        differing += sum(int(np.count_nonzero(_differ(mine[name], theirs[name]))) for name in mine)
        largest = max([largest, *(_largest(mine[name], theirs[name]) for name in mine)])
    return Agreement(sum(map(images_in, parts)), values, differing, largest)


def pieces(batch: Batch) -> list[Batch]:
    """The images a few at a time, in parts of one size, so that what a net makes of them fits into memory."""
    images = images_in(batch)
    each = sum(array.size for array in batch.values()) // max(images, 1)
    size = max(1, min(images, _ELEMENTS // max(each, 1)))
    while images % size:
        size -= 1
    if size == images or any(array.ndim and array.shape[0] != images for array in batch.values()):
        return [batch]
    return [{blob: array[start : start + size] for blob, array in batch.items()} for start in range(0, images, size)]


def speed(session: StockSession, floats: StockSession, parts: Sequence[Batch]) -> Speed:
    """Time both models on the same images, in turns."""
    best = [float("inf"), float("inf")]
    begin, runs = time.perf_counter(), 0
    while runs < _FEWEST_RUNS or (runs < _MOST_RUNS and time.perf_counter() - begin < _SECONDS):
        runs += 1
        for number, model in enumerate((session, floats)):
            start = time.perf_counter()
            for part in parts:
                model.run(part)
            best[number] = min(best[number], time.perf_counter() - start)
    return Speed(sum(map(images_in, parts)), images_in(parts[0]), *best)


def images_in(batch: Batch) -> int:
    """The images of a batch."""
    return max((array.shape[0] for array in batch.values() if array.ndim), default=1)


def as_fields(value: Kernels | Agreement | Speed | None) -> Mapping[str, Any] | None:
    """A measurement as fields of a report."""
    return None if value is None else asdict(value)


def _differ(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    both: NDArray[np.bool_] = (first != second) & ~(np.isnan(first) & np.isnan(second))
    return both


def _largest(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    with np.errstate(invalid="ignore"):
        distances = np.abs(first.astype(np.float64) - second)
    return float(np.where(_differ(first, second), distances, 0.0).max(initial=0.0))

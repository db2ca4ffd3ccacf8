"""Layers without weights as integer operations: what each computes exactly, and on which grid that lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ristretto.caffe.catalogue.activation import clip_bounds
from ristretto.caffe.catalogue.combining import concat_axis, eltwise_params, slice_lengths
from ristretto.caffe.catalogue.pooling import PoolParams, pool_params
from ristretto.caffe.catalogue.rearranging import permute_order, shuffle_groups
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.graph.grids import EXACT, Grid

Shapes = tuple[tuple[Shape, ...], tuple[Shape, ...]]
"""Of a layer's inputs and outputs."""

WIDEST = 1 << 52
"""What is added up has to stay below this: float64 computes it where a layer has a format."""


@dataclass(frozen=True, slots=True)
class PlainResult:
    """What a layer computes.

    Attributes:
        op: the operation (docs/hardware.md).
        grids: of the exact results, one for each top.
        fields: the operation's parameters.
        exact: whether float32 holds the results exactly, so that a layer without formats gives them.
        proved: whether float32, followed by a rounding, gives what rounding the exact results gives.
    """

    op: str
    grids: tuple[Grid, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True
    proved: bool = True


Rule = Callable[[LayerSpec, Shapes, Sequence[Grid]], "PlainResult | str"]


def plain_result(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    """What a layer makes of values on grids; or why it cannot be computed on integers.

    Args:
        layer: one that has an integer form.
        shapes: of its inputs and outputs.
        grids: of its inputs.
    """
    return _RULES[layer.type](layer, shapes, grids)


def has_integer_form(layer: LayerSpec) -> bool:
    """Whether there is a rule for layers of this type."""
    return layer.type in _RULES


def keeps_order(layer: LayerSpec) -> bool:
    """Whether it makes no difference if its input is rounded before the layer or its output behind it."""
    if layer.type == "Pooling":
        return layer.view.child("pooling_param").text("pool") == "MAX" and len(layer.tops) == 1
    if layer.type == "ReLU":
        return _slope(layer) == 0.0
    return layer.type in ("Dropout", "Flatten", "Permute", "Reshape", "ShuffleChannel", "Split")


def _slope(layer: LayerSpec) -> float:
    return layer.view.child("relu_param" if layer.type == "ReLU" else "relu6_param").number("negative_slope")


def _copy(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    if layer.type == "Dropout" and layer.phase == "TRAIN":
        return "in phase TRAIN it draws random numbers"
    op = "copy" if layer.type in ("Dropout", "Split") else "reshape"
    return PlainResult(op, (grids[0],) * len(layer.outputs))


def _relu(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    if _slope(layer):
        return "its slope below zero is no integer"
    grid = grids[0].clipped(0.0, math.inf)
    return PlainResult("relu", (grid or grids[0],))


def _clip(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    if layer.type == "ReLU6" and _slope(layer):
        return "its slope below zero is no integer"
    low, high = clip_bounds(layer) if layer.type == "Clip" else (0.0, 6.0)
    ends = [math.ldexp(end, grids[0].fl) for end in (low, high)]
    grid = grids[0].clipped(low, high)
    if grid is None or any(end != int(end) for end in ends):
        return f"its bounds {low:g} and {high:g} do not lie on its input's grid"
    return PlainResult("clip", (grid,), {"low": int(ends[0]), "high": int(ends[1])})


def _pooling(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    shape = shapes[0][0]
    params = pool_params(layer, shape)
    window = {"kernel": list(params.kernel), "stride": list(params.stride), "pad": list(params.pad)}
    if params.method == "MAX":
        return PlainResult("max_pool", (grids[0],), window)
    if params.method != "AVE":
        return f"{params.method} pooling has no integer form"
    counts = divisors(params, (shape[2], shape[3]))
    same = len(set(counts.ravel().tolist())) == 1
    grid = Grid(grids[0].fl, min(grids[0].low, 0), max(grids[0].high, 0))
    largest = grid.magnitude * math.prod(params.kernel)
    divisor = int(counts.flat[0]) if same else counts.tolist()
    halves = all(count & (count - 1) == 0 for count in counts.ravel().tolist())
    return PlainResult("average_pool", (grid,), window | {"divisor": divisor}, False, halves and largest <= EXACT)


def divisors(params: PoolParams, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What each window's sum is divided by: its elements within the image and its padding (pooling_layer.cpp)."""
    along = []
    columns = zip(params.output(size), params.kernel, params.stride, params.pad, size, strict=True)
    for windows, kernel, stride, pad, length in columns:
        starts = np.arange(windows) * stride - pad
        along.append(np.minimum(starts + kernel, length + pad) - starts)
    result: np.ndarray[Any, np.dtype[np.int64]] = np.outer(*along).astype(np.int64)
    return result


def _eltwise(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    params = eltwise_params(layer)
    if params.operation == "PROD":
        low, high = 1, 1
        for grid in grids:
            ends = [a * b for a in (low, high) for b in (grid.low, grid.high)]
            low, high = min(ends), max(ends)
        product = Grid(sum(grid.fl for grid in grids), low, high)
        if product.magnitude > WIDEST:
            return "its products may need more than 53 bits"
        return PlainResult("multiply", (product,), {}, product.magnitude <= EXACT, product.magnitude <= EXACT)
    if params.operation == "MAX":
        return _aligned("maximum", grids, {})
    factors, lengths = zip(*map(_factor, params.coeffs), strict=True)
    terms = [
        Grid(grid.fl + length, min(factor * grid.low, factor * grid.high), max(factor * grid.low, factor * grid.high))
        for grid, factor, length in zip(grids, factors, lengths, strict=True)
    ]
    fl = max(term.fl for term in terms)
    if fl - min(term.fl for term in terms) > WIDEST.bit_length():
        return "its inputs' scales lie too far apart"
    finer = [term.finer(fl) for term in terms]
    total = Grid(fl, sum(term.low for term in finer), sum(term.high for term in finer))
    largest = sum(term.magnitude for term in finer)
    if largest > WIDEST:
        return "its sums may need more than 53 bits"
    fields = {"factors": list(factors), "shifts": [fl - term.fl for term in terms]}
    return PlainResult("add", (total,), fields, largest <= EXACT, largest <= EXACT)


def _factor(coeff: float) -> tuple[int, int]:
    """A coefficient as a whole number and the fractional length at which it stands.

    >>> [_factor(coeff) for coeff in (1.0, -0.5, 6.0)]
    [(1, 0), (-1, 1), (6, 0)]
    """
    numerator, denominator = float(coeff).as_integer_ratio()
    return numerator, denominator.bit_length() - 1


def _aligned(op: str, grids: Sequence[Grid], fields: Mapping[str, Any]) -> PlainResult | str:
    """Values of several scales side by side, at the finest."""
    fl = max(grid.fl for grid in grids)
    shifts = [fl - grid.fl for grid in grids]
    if max(shifts) > WIDEST.bit_length():
        return "its inputs' scales lie too far apart"
    finer = [grid.finer(fl) for grid in grids]
    low, high = min(grid.low for grid in finer), max(grid.high for grid in finer)
    if max(-low, high) > WIDEST:
        return "its inputs' scales lie too far apart"
    # Nothing is computed, so that float32 holds every element; only a store of all at one scale needs the bits.
    wide = max(-low, high) <= EXACT
    return PlainResult(op, (Grid(fl, low, high),), {**fields, "shifts": shifts}, wide, proved=True)


def _concat(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    return _aligned("concat", grids, {"axis": concat_axis(layer, len(shapes[0][0]))})


def _slice(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    shape = shapes[0][0]
    axis = concat_axis(layer, len(shape))
    lengths = list(slice_lengths(layer, shape[axis]))
    return PlainResult("slice", (grids[0],) * len(lengths), {"axis": axis, "lengths": lengths})


def _permute(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    return PlainResult("permute", (grids[0],), {"order": list(permute_order(layer, len(shapes[0][0])))})


def _shuffle(layer: LayerSpec, shapes: Shapes, grids: Sequence[Grid]) -> PlainResult | str:
    return PlainResult("shuffle_channels", (grids[0],), {"group": shuffle_groups(layer, shapes[0][0])})


_RULES: Mapping[str, Rule] = {
    "Clip": _clip,
    "Concat": _concat,
    "Dropout": _copy,
    "Eltwise": _eltwise,
    "Flatten": _copy,
    "Permute": _permute,
    "Pooling": _pooling,
    "ReLU": _relu,
    "ReLU6": _clip,
    "Reshape": _copy,
    "ShuffleChannel": _shuffle,
    "Slice": _slice,
    "Split": _copy,
}

"""Reduction and ArgMax: parameters and shapes (BVLC/caffe reduction_layer.cpp, argmax_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import canonical_axis, require_rank
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape


@dataclass(frozen=True, slots=True)
class ReductionParams:
    """A ReductionParameter (defaults: caffe.proto, ReductionParameter).

    Attributes:
        operation: SUM, ASUM, SUMSQ or MEAN.
        axis: the first axis that goes; all later ones go too.
        coeff: what the result is multiplied by.
    """

    operation: str
    axis: int
    coeff: float


def reduction_params(layer: LayerSpec, rank: int) -> ReductionParams:
    """Read a layer's reduction_param."""
    view = layer.view.child("reduction_param")
    axis = canonical_axis(layer, view.integer("axis"), rank)
    return ReductionParams(view.text("operation"), axis, view.number("coeff"))


@shape_rule("Reduction")
def reduction_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The axes before ``axis`` are left (reduction_layer.cpp, Reshape)."""
    shape = inputs[0]
    return LayerShapes((shape[: reduction_params(layer, len(shape)).axis],))


@dataclass(frozen=True, slots=True)
class ArgMaxParams:
    """An ArgMaxParameter (defaults: caffe.proto, ArgMaxParameter).

    Attributes:
        top_k: how many of the largest values.
        axis: along which; None: all values of an image.
        out_max_val: with an axis: the values in place of the indices; without: the values after the indices.
    """

    top_k: int
    axis: int | None
    out_max_val: bool


def argmax_params(layer: LayerSpec, shape: Shape) -> ArgMaxParams:
    """Read a layer's argmax_param (argmax_layer.cpp, LayerSetUp).

    Raises:
        NetError: the axis does not exist, or top_k is larger than the number of values.
    """
    require_rank(layer, shape, 1)
    view = layer.view.child("argmax_param")
    axis = canonical_axis(layer, view.integer("axis"), len(shape)) if view.has("axis") else None
    top_k = view.integer("top_k")
    count = math.prod(shape[1:]) if axis is None else shape[axis]
    if not 1 <= top_k <= count:
        what = f"top_k {top_k} is not between 1 and the {count} values there are"
        raise view.error(what, field="top_k")
    return ArgMaxParams(top_k, axis, view.flag("out_max_val"))


@shape_rule("ArgMax")
def argmax_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """With an axis, top_k along it; without, (n, 1, top_k) or with the values too (n, 2, top_k)."""
    shape = inputs[0]
    params = argmax_params(layer, shape)
    if params.axis is not None:
        return LayerShapes(((*shape[: params.axis], params.top_k, *shape[params.axis + 1 :]),))
    rows = 2 if params.out_max_val else 1
    trailing = (1,) * (len(shape) - 3)
    return LayerShapes(((shape[0], rows, params.top_k, *trailing),))

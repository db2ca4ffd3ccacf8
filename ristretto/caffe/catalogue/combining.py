"""Layers that join, cut or pick whole blobs: parameters and shapes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import (
    canonical_axis,
    require_equal_except,
    require_equal_shapes,
    require_rank,
)
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape


@dataclass(frozen=True, slots=True)
class EltwiseParams:
    """An EltwiseParameter (defaults: caffe.proto, EltwiseParameter).

    Attributes:
        operation: PROD, SUM or MAX.
        coeffs: one factor per bottom, all 1 unless given.
    """

    operation: str
    coeffs: tuple[float, ...]


def eltwise_params(layer: LayerSpec) -> EltwiseParams:
    """Read a layer's eltwise_param (eltwise_layer.cpp, LayerSetUp).

    Raises:
        NetError: there are coefficients where the operation has none, or not one per bottom.
    """
    view = layer.view.child("eltwise_param")
    operation, coeffs = view.text("operation"), view.numbers("coeff")
    if coeffs and len(coeffs) != len(layer.bottoms):
        what = f"{len(coeffs)} coefficients for {len(layer.bottoms)} bottoms"
        raise view.error(what, cure="give one for each bottom", field="coeff")
    if coeffs and operation == "PROD":
        what = "operation PROD has no coefficients"
        raise view.error(what, cure="use SUM, or take them away", field="coeff")
    return EltwiseParams(operation, coeffs or (1.0,) * len(layer.bottoms))


@shape_rule("Eltwise", bottoms=(2, None))
def eltwise_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """All bottoms and the top have one shape (eltwise_layer.cpp, Reshape)."""
    require_equal_shapes(layer, inputs)
    eltwise_params(layer)
    return LayerShapes(inputs[:1])


def concat_axis(layer: LayerSpec, rank: int) -> int:
    """The axis of a Concat or Slice layer: ``axis``, or the old ``concat_dim`` or ``slice_dim``.

    Raises:
        NetError: both are given, or the axis does not exist.
    """
    field, old = ("concat_param", "concat_dim") if layer.type == "Concat" else ("slice_param", "slice_dim")
    view = layer.view.child(field)
    if view.has(old):
        if view.has("axis"):
            what = f"axis and {old} are both given"
            raise view.error(what, cure=f"take {old} away", field=old)
        return canonical_axis(layer, view.integer(old), rank, field=old)
    return canonical_axis(layer, view.integer("axis"), rank)


@shape_rule("Concat", bottoms=(1, None))
def concat_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Lengths along the axis add up, all others are equal (concat_layer.cpp, Reshape)."""
    first = inputs[0]
    axis = concat_axis(layer, len(first))
    for shape in inputs[1:]:
        require_equal_except(layer, first, shape, axis)
    length = sum(shape[axis] for shape in inputs)
    return LayerShapes(((*first[:axis], length, *first[axis + 1 :]),))


def slice_lengths(layer: LayerSpec, length: int) -> tuple[int, ...]:
    """Length of every top along the axis: between the slice points, or all equal (slice_layer.cpp, Reshape).

    Raises:
        NetError: the points do not fit the tops or the bottom.
    """
    view = layer.view.child("slice_param")
    points = view.integers("slice_point")
    count = len(layer.tops)
    if not points:
        if length % count:
            what = f"{length} along the axis cannot be cut into {count} equal parts"
            raise view.error(what, cure="give slice_point, or another number of tops", field="slice_point")
        return (length // count,) * count
    if len(points) != count - 1:
        what = f"{len(points)} slice points make {len(points) + 1} parts, the layer has {count} tops"
        raise view.error(what, field="slice_point")
    edges = (0, *points, length)
    lengths = tuple(after - before for before, after in itertools.pairwise(edges))
    if min(lengths) < 1:
        what = f"slice points {points} do not rise strictly from 0 to {length}"
        raise view.error(what, field="slice_point")
    return lengths


@shape_rule("Slice", tops=(1, None))
def slice_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The bottom cut along one axis."""
    shape = inputs[0]
    axis = concat_axis(layer, len(shape))
    lengths = slice_lengths(layer, shape[axis])
    return LayerShapes(tuple((*shape[:axis], length, *shape[axis + 1 :]) for length in lengths))


@shape_rule("Split", tops=(1, None))
def split_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Every top is the bottom (split_layer.cpp)."""
    return LayerShapes(inputs * len(layer.tops))


@shape_rule("Silence", "HDF5Output", bottoms=(1, None), tops=(0, 0))
def silence_shapes(_layer: LayerSpec, _inputs: tuple[Shape, ...]) -> LayerShapes:
    """Nothing is made of the bottoms (silence_layer.cpp); HDF5Output would save them, here ``ristretto run`` does."""
    return LayerShapes(())


@shape_rule("Filter", bottoms=(2, None), tops=(1, None))
def filter_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Items that a selector picks (filter_layer.cpp): how many shows when it runs, all of them at most."""
    *blobs, selector = inputs
    if len(blobs) != len(layer.tops):
        what = f"{len(blobs)} bottoms before the selector for {len(layer.tops)} tops"
        raise layer.view.error(what, cure="there must be one top for each of them", field="top")
    require_rank(layer, selector, 1)
    if set(selector[1:]) - {1}:
        what = f"the selector must hold one value per item, its shape is {selector}"
        raise layer.view.error(what, field="bottom")
    for shape in blobs:
        if not shape or shape[0] != selector[0]:
            what = f"a selector of shape {selector} does not go with a bottom of shape {shape}"
            raise layer.view.error(what, cure="both must hold equally many items", field="bottom")
    return LayerShapes(tuple(blobs))


@shape_rule("BatchReindex", bottoms=(2, 2))
def batch_reindex_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The first bottom's items in the order of the second's numbers (batch_reindex_layer.cpp)."""
    data, numbers = inputs
    require_rank(layer, data, 1)
    require_rank(layer, numbers, 1, 1)
    return LayerShapes(((numbers[0], *data[1:]),))

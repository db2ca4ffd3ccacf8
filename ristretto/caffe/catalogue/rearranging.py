"""Layers that give the values of a blob another order or shape, or a part of them: parameters and shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import canonical_axis, require_rank
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.limits import MAX_AXES
from ristretto.caffe.netspec import LayerSpec, Shape


def flatten_axes(layer: LayerSpec, rank: int) -> tuple[int, int]:
    """First and last axis that a Flatten layer makes one (flatten_layer.cpp, Reshape).

    Raises:
        NetError: an axis does not exist, or the last one comes before the first.
    """
    view = layer.view.child("flatten_param")
    first = canonical_axis(layer, view.integer("axis"), rank)
    last = canonical_axis(layer, view.integer("end_axis"), rank, field="end_axis")
    if last < first:
        what = f"end_axis {last} comes before axis {first}"
        raise view.error(what, field="end_axis")
    return first, last


@shape_rule("Flatten")
def flatten_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Axes from ``axis`` to ``end_axis`` become one."""
    shape = inputs[0]
    first, last = flatten_axes(layer, len(shape))
    return LayerShapes(((*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]),))


@dataclass(frozen=True, slots=True)
class ReshapeParams:
    """A ReshapeParameter for a given bottom (defaults: caffe.proto, ReshapeParameter).

    Attributes:
        start, end: the axes ``start:end`` of the bottom are replaced.
        dims: what by: a length, 0 for the bottom's length on that axis, -1 (once at most) for what is left.
    """

    start: int
    end: int
    dims: tuple[int, ...]


def reshape_params(layer: LayerSpec, shape: Shape) -> ReshapeParams:
    """Read a layer's reshape_param (reshape_layer.cpp, LayerSetUp).

    Raises:
        NetError: the axes do not exist, or the lengths make no sense.
    """
    view = layer.view.child("reshape_param")
    rank = len(shape)
    axis, num_axes = view.integer("axis"), view.integer("num_axes")
    start = axis if axis >= 0 else rank + axis + 1
    if not 0 <= start <= rank:
        what = f"axis {axis} is out of range for a bottom with {rank} axes"
        raise view.error(what, field="axis")
    end = rank if num_axes == -1 else start + num_axes
    if num_axes < -1 or end > rank:
        what = f"num_axes {num_axes} from axis {start} on does not fit a bottom with {rank} axes"
        raise view.error(what, cure="use -1 for all axes to the last", field="num_axes")
    dims = view.child("shape").integers("dim")
    if len(dims) > MAX_AXES:
        raise view.error(f"a blob has {MAX_AXES} axes at most, these are {len(dims)} dims", field="shape")
    if min(dims, default=0) < -1 or dims.count(-1) > 1:
        what = f"dims {dims} must be lengths, 0 to copy one and -1, once at most, to infer one"
        raise view.error(what, field="shape")
    if any(dim == 0 and start + position >= rank for position, dim in enumerate(dims)):
        what = f"dims {dims} copy an axis with 0 that a bottom of shape {shape} does not have"
        raise view.error(what, field="shape")
    return ReshapeParams(start, end, dims)


@shape_rule("Reshape")
def reshape_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Some axes replaced by others of the same product (reshape_layer.cpp, Reshape)."""
    shape = inputs[0]
    params = reshape_params(layer, shape)
    dims = [shape[params.start + i] if dim == 0 else dim for i, dim in enumerate(params.dims)]
    output = [*shape[: params.start], *dims, *shape[params.end :]]
    count = math.prod(shape)
    if -1 in dims:
        known = -math.prod(output)
        if known == 0 or count % known:
            what = f"dims {params.dims} do not suit a bottom of shape {shape}: no whole length is left for -1"
            raise layer.view.error(what, field="reshape_param")
        output[output.index(-1)] = count // known
    elif math.prod(output) != count:
        what = f"a bottom of shape {shape} holds {count} values, a top of shape {tuple(output)} does not"
        raise layer.view.error(what, cure="use -1 for one of the dims", field="reshape_param")
    return LayerShapes((tuple(output),))


def permute_order(layer: LayerSpec, rank: int) -> tuple[int, ...]:
    """The bottom's axes in the top's order, those not named behind (weiliu89/caffe permute_layer.cpp).

    Raises:
        NetError: an axis does not exist or is named twice.
    """
    view = layer.view.child("permute_param")
    named = view.integers("order")
    if len(set(named)) != len(named) or max(named, default=0) >= rank:
        what = f"order {named} must name axes of a bottom with {rank} axes, each once"
        raise view.error(what, field="order")
    return (*named, *(axis for axis in range(rank) if axis not in named))


@shape_rule("Permute")
def permute_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The bottom's axes in another order."""
    shape = inputs[0]
    return LayerShapes((tuple(shape[axis] for axis in permute_order(layer, len(shape))),))


def crop_offsets(layer: LayerSpec, inputs: tuple[Shape, ...]) -> tuple[int, tuple[int, ...]]:
    """The first axis that a Crop layer cuts, and where it begins on it and each later axis (crop_layer.cpp).

    Raises:
        NetError: there are not as many offsets as axes, or the cut reaches beyond the bottom.
    """
    data, reference = inputs
    view = layer.view.child("crop_param")
    axis = canonical_axis(layer, view.integer("axis"), len(data))
    if len(data) != len(reference):
        what = f"bottoms of shapes {data} and {reference} have not equally many axes"
        raise layer.view.error(what, field="bottom")
    axes = len(data) - axis
    given = view.integers("offset")
    if len(given) not in (0, 1, axes):
        what = f"{len(given)} offsets for the {axes} axes from axis {axis} on"
        raise view.error(what, cure="give one for all of them, or one each", field="offset")
    offsets = given if len(given) == axes else (given or (0,)) * axes
    for position, offset in enumerate(offsets, start=axis):
        if offset + reference[position] > data[position]:
            what = f"a cut of {reference[position]} from {offset} on does not fit axis {position} of {data}"
            raise view.error(what, field="offset")
    return axis, offsets


@shape_rule("Crop", bottoms=(2, 2))
def crop_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The first bottom, cut to the second's size from an axis on."""
    axis, _ = crop_offsets(layer, inputs)
    return LayerShapes(((*inputs[0][:axis], *inputs[1][axis:]),))


def tile_params(layer: LayerSpec, rank: int) -> tuple[int, int]:
    """The axis and the number of copies of a Tile layer (tile_layer.cpp).

    Raises:
        NetError: the axis does not exist, or tiles is missing.
    """
    view = layer.view.child("tile_param")
    tiles = view.integer("tiles")
    if tiles < 1:
        what = "tiles must be at least 1"
        raise view.error(what, cure="add tiles", field="tiles")
    return canonical_axis(layer, view.integer("axis"), rank), tiles


@shape_rule("Tile")
def tile_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Copies of the bottom, end to end along one axis."""
    shape = inputs[0]
    axis, tiles = tile_params(layer, len(shape))
    return LayerShapes(((*shape[:axis], shape[axis] * tiles, *shape[axis + 1 :]),))


def shuffle_groups(layer: LayerSpec, shape: Shape) -> int:
    """The number of groups of a ShuffleChannel layer (farmingyard/ShuffleNet shuffle_channel_layer.cpp).

    Raises:
        NetError: the channels cannot be cut into that many groups.
    """
    require_rank(layer, shape, 2)
    view = layer.view.child("shuffle_channel_param")
    groups = view.integer("group")
    if groups < 1 or shape[1] % groups:
        what = f"{shape[1]} channels cannot be cut into {groups} equal groups"
        raise view.error(what, field="group")
    return groups


@shape_rule("ShuffleChannel")
def shuffle_channel_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Channels in another order: the first of each group, then the second of each group, and so on."""
    shuffle_groups(layer, inputs[0])
    return LayerShapes(inputs)

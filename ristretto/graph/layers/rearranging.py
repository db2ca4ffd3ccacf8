"""Layers that give the values of a blob another order or shape, or a part of them."""

from __future__ import annotations

from ristretto.caffe.catalogue.rearranging import (
    crop_offsets,
    flatten_axes,
    permute_order,
    reshape_params,
    shuffle_groups,
    tile_params,
)
from ristretto.graph.registry import LayerContext, emits


@emits("Flatten")
def flatten(context: LayerContext) -> list[str]:
    """Some axes joined to one (flatten_layer.cpp)."""
    shape = context.input_shapes[0]
    first, last = flatten_axes(context.layer, len(shape))
    if first == last:
        return [context.inputs[0]]
    if (first, last) == (1, len(shape) - 1):
        return [context.op("Flatten", context.inputs[0], axis=1)]
    dims = [*(0,) * first, -1, *shape[last + 1 :]]
    return [context.op("Reshape", context.inputs[0], context.nodes.ints(dims))]


@emits("Reshape")
def reshape(context: LayerContext) -> list[str]:
    """Some axes replaced by others (reshape_layer.cpp).

    The dims go through as they are: 0 copies the axis of the same number in ONNX too. Axes before those
    replaced are copied, so that the batch may be of any size.
    """
    shape = context.input_shapes[0]
    params = reshape_params(context.layer, shape)
    dims = [*(0,) * params.start, *params.dims, *shape[params.end :]]
    return [context.op("Reshape", context.inputs[0], context.nodes.ints(dims))]


@emits("Permute")
def permute(context: LayerContext) -> list[str]:
    """The axes in another order (weiliu89/caffe permute_layer.cpp)."""
    order = permute_order(context.layer, len(context.input_shapes[0]))
    return [context.op("Transpose", context.inputs[0], perm=order)]


@emits("Crop")
def crop(context: LayerContext) -> list[str]:
    """A part of the first bottom, of the second's size (crop_layer.cpp)."""
    axis, offsets = crop_offsets(context.layer, context.input_shapes)
    axes = range(axis, len(context.input_shapes[0]))
    sizes = context.input_shapes[1][axis:]
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    ints = context.nodes.ints
    return [context.op("Slice", context.inputs[0], ints(offsets), ints(ends), ints(list(axes)))]


@emits("Tile")
def tile(context: LayerContext) -> list[str]:
    """Copies end to end along an axis (tile_layer.cpp)."""
    rank = len(context.input_shapes[0])
    axis, tiles = tile_params(context.layer, rank)
    repeats = [tiles if position == axis else 1 for position in range(rank)]
    return [context.op("Tile", context.inputs[0], context.nodes.ints(repeats))]


@emits("ShuffleChannel")
def shuffle_channel(context: LayerContext) -> list[str]:
    """Channels (group, member) become (member, group) (farmingyard/ShuffleNet shuffle_channel_layer.cpp)."""
    shape = context.input_shapes[0]
    groups = shuffle_groups(context.layer, shape)
    ints = context.nodes.ints
    split = context.op("Reshape", context.inputs[0], ints([0, groups, shape[1] // groups, -1]))
    turned = context.op("Transpose", split, perm=[0, 2, 1, 3])
    return [context.op("Reshape", turned, ints([-1, *shape[1:]]))]

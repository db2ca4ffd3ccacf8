"""Layers that give the values of a blob another order or shape, or a part of them."""

from __future__ import annotations

from ristretto.caffe.catalogue.rearranging import (
    crop_offsets,
    flatten_axes,
    permute_order,
    reshape_shapes,
    shuffle_groups,
    tile_params,
)
from ristretto.finetune.backend import Tensor
from ristretto.finetune.registry import LayerPass, trains


@trains("Flatten")
def flatten(given: LayerPass) -> list[Tensor]:
    """Some axes joined to one (flatten_layer.cpp)."""
    return [given.inputs[0].flatten(*flatten_axes(given.layer, len(given.shapes[0])))]


@trains("Reshape")
def reshape(given: LayerPass) -> list[Tensor]:
    """Some axes replaced by others (reshape_layer.cpp)."""
    return [given.inputs[0].reshape(reshape_shapes(given.layer, given.shapes).outputs[0])]


@trains("Permute")
def permute(given: LayerPass) -> list[Tensor]:
    """The axes in another order (weiliu89/caffe permute_layer.cpp)."""
    return [given.inputs[0].permute(permute_order(given.layer, len(given.shapes[0])))]


@trains("Crop")
def crop(given: LayerPass) -> list[Tensor]:
    """A part of the first bottom, of the second's size (crop_layer.cpp)."""
    axis, offsets = crop_offsets(given.layer, given.shapes)
    value = given.inputs[0]
    for place, offset in enumerate(offsets, axis):
        value = value.narrow(place, offset, given.shapes[1][place])
    return [value]


@trains("Tile")
def tile(given: LayerPass) -> list[Tensor]:
    """Copies end to end along an axis (tile_layer.cpp)."""
    rank = len(given.shapes[0])
    axis, tiles = tile_params(given.layer, rank)
    return [given.inputs[0].repeat([tiles if place == axis else 1 for place in range(rank)])]


@trains("ShuffleChannel")
def shuffle_channel(given: LayerPass) -> list[Tensor]:
    """Channels (group, member) become (member, group) (farmingyard/ShuffleNet shuffle_channel_layer.cpp)."""
    n, channels, *rest = shape = given.shapes[0]
    groups = shuffle_groups(given.layer, shape)
    split = given.inputs[0].reshape(n, groups, channels // groups, *rest)
    return [split.transpose(1, 2).reshape(shape)]

"""Layers that hand on what they read, and where they are put."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tests.metamorphic.nets import Array, Layer, Shape, SmallNet

Maker = Callable[[Shape], list[Layer] | None]
"""From the shape of what is read to layers from blob "b" to blob "t"; None where there is no such layer."""


def one(kind: str, fields: str = "", *blobs: Array, least: int = 0, most: int = 99) -> Maker:
    """A single layer, for blobs of so many axes."""

    def make(shape: Shape) -> list[Layer] | None:
        return [Layer("no-op", kind, ("b",), ("t",), fields, blobs)] if least <= len(shape) <= most else None

    return make


def by_channel(kind: str, fields: str, *values: float) -> Maker:
    """A layer with a weight for each channel in each of its blobs."""

    def make(shape: Shape) -> list[Layer] | None:
        blobs = tuple(np.full(shape[1:2], value, np.float32) for value in values)
        return [Layer("no-op", kind, ("b",), ("t",), fields, blobs)] if len(shape) > 1 else None

    return make


def batch_norm(shape: Shape) -> list[Layer] | None:
    if len(shape) < 2:
        return None
    blobs = (np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32), np.ones(1, np.float32))
    return [Layer("no-op", "BatchNorm", ("b",), ("t",), "batch_norm_param { eps: 0 }", blobs)]


def split(shape: Shape) -> list[Layer]:
    return [Layer("no-op", "Split", ("b",), ("t", "unread")), Layer("silence", "Silence", ("unread",))]


def slice_and_concat(shape: Shape) -> list[Layer] | None:
    if len(shape) < 2 or shape[1] < 2:
        return None
    parts = Layer("no-op-slice", "Slice", ("b",), ("part0", "part1"), "slice_param { slice_point: 1 }")
    return [parts, Layer("no-op", "Concat", ("part0", "part1"), ("t",))]


def permute(shape: Shape) -> list[Layer] | None:
    order = " ".join(f"order: {axis}" for axis in range(len(shape)))
    return [Layer("no-op", "Permute", ("b",), ("t",), f"permute_param {{ {order} }}")] if shape else None


def reshape(shape: Shape) -> list[Layer] | None:
    dims = " ".join("dim: 0" for _ in shape)
    return [Layer("no-op", "Reshape", ("b",), ("t",), f"reshape_param {{ shape {{ {dims} }} }}")] if shape else None


def flatten(shape: Shape) -> list[Layer] | None:
    return [Layer("no-op", "Flatten", ("b",), ("t",))] if len(shape) == 2 else None


def pair(operation: str, coefficients: str = "") -> Maker:
    """An element-wise layer that reads the same blob twice."""
    fields = f"eltwise_param {{ operation: {operation} {coefficients} }}"
    return lambda _: [Layer("no-op", "Eltwise", ("b", "b"), ("t",), fields)]


def window(kind: str) -> Maker:
    return one("Pooling", f"pooling_param {{ pool: {kind} kernel_size: 1 }}", least=4, most=4)


MOVING: Mapping[str, Maker] = {
    "Concat": one("Concat", least=2),
    "Dropout": one("Dropout", "dropout_param { dropout_ratio: 0.5 }"),
    "Flatten": flatten,
    "Permute": permute,
    "Pooling MAX": window("MAX"),
    "Reshape": reshape,
    "ShuffleChannel": one("ShuffleChannel", "shuffle_channel_param { group: 1 }", least=4, most=4),
    "Slice, Concat": slice_and_concat,
    "Split": split,
}
"""Those that compute nothing: the tool sees through them."""

COMPUTING: Mapping[str, Maker] = {
    "BatchNorm": batch_norm,
    "Bias": by_channel("Bias", "", 0.0),
    "Clip": one("Clip", "clip_param { min: -1e30 max: 1e30 }"),
    "Eltwise MAX": pair("MAX"),
    "Eltwise SUM": pair("SUM", "coeff: 0.5 coeff: 0.5"),
    "PReLU": by_channel("PReLU", "", 1.0),
    "Pooling AVE": window("AVE"),
    "Power": one("Power", "power_param { power: 1 scale: 1 shift: 0 }"),
    "ReLU": one("ReLU", "relu_param { negative_slope: 1 }"),
    "Scale": by_channel("Scale", "", 1.0),
    "Scale, Bias": by_channel("Scale", "scale_param { bias_term: true }", 1.0, 0.0),
    "Tile": one("Tile", "tile_param { tiles: 1 axis: 0 }", least=1),
}
"""Those that compute what they were given."""

NO_OPS: Mapping[str, Maker] = {**MOVING, **COMPUTING}


def places(net: SmallNet, *, fed: bool = True) -> list[str]:
    """The blobs behind which a layer can be put: their shape is known, and they hold no labels or scores.

    Args:
        net: the net.
        fed: whether what the net is fed is among them.
    """
    makers = {blob: layer for layer in net.layers for blob in layer.tops}
    first = {"Input", "Data"}
    return [
        blob
        for blob, shape in net.shapes.items()
        if len(shape) > 1
        and makers[blob].type not in {"Accuracy", "SoftmaxWithLoss"}
        and (fed or makers[blob].type not in first)
    ]


def with_no_op(net: SmallNet, kind: str, blob: str, *, in_place: bool = False, mark: str = "") -> SmallNet | None:
    """The net with a layer behind the last one that writes a blob; all that read it read the new layer's top.

    What was made there before gets another name, unless the layer works in place. ``mark`` ends all names that are new.
    None where there is no such layer.
    """
    made = NO_OPS[kind](net.shapes[blob])
    if made is None or (in_place and (len(made) > 1 or len(made[0].bottoms) > 1)):
        return None
    inner = blob if in_place else f"{blob}-before{mark}"
    last = max(number for number, layer in enumerate(net.layers) if blob in layer.tops)
    layers, feeds = list(net.layers), dict(net.feeds)
    if not in_place:
        layers[: last + 1] = [layer.renamed({blob: inner}) for layer in layers[: last + 1]]
        if blob in feeds:
            feeds[inner] = feeds.pop(blob)
    names = {"b": inner, "t": blob, **{name: name + mark for name in ("unread", "part0", "part1")}}
    new = [replace(layer.renamed(names), name=layer.name + mark) for layer in made]
    layers[last + 1 : last + 1] = new
    return replace(net, layers=tuple(layers), feeds=feeds)


def rectified_twice(net: SmallNet) -> SmallNet:
    """Every ReLU followed by another one, in place."""
    layers: list[Layer] = []
    for layer in net.layers:
        layers.append(layer)
        if layer.type == "ReLU":
            layers.append(replace(layer, name=f"{layer.name}-again", bottoms=layer.tops))
    return replace(net, layers=tuple(layers))


def anywhere(net: SmallNet, chance: random.Random, kinds: list[str]) -> tuple[str, SmallNet]:
    """The net with one of some layers at a place of its own choice, and what was done."""
    while True:
        kind, blob, over = chance.choice(kinds), chance.choice(places(net)), chance.random() < 0.3
        changed = with_no_op(net, kind, blob, in_place=over)
        if changed is not None:
            return f"{kind} behind {blob}{' in place' if over else ''}", changed

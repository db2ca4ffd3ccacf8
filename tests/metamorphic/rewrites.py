"""Ways to write the same net otherwise."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.metamorphic.nets import Array, Layer, SmallNet, caffemodel

FED = {"Input", "Data"}


def renamed(net: SmallNet, chance: random.Random) -> tuple[SmallNet, dict[str, str], dict[str, str]]:
    """All layers and blobs under new names, whose alphabetical order is another; and what is called what now."""
    blobs = _fresh(sorted({blob for layer in net.layers for blob in (*layer.bottoms, *layer.tops)}), chance)
    layers = _fresh(sorted({layer.name for layer in net.layers}), chance)
    made = tuple(replace(layer.renamed(blobs), name=layers[layer.name]) for layer in net.layers)
    return SmallNet(made, {blobs[name]: value for name, value in net.feeds.items()}), layers, blobs


def _fresh(names: list[str], chance: random.Random) -> dict[str, str]:
    numbers = chance.sample(range(100, 100 + len(names)), len(names))
    return {name: f"{chance.choice('ABxyz')}{number}/new" for name, number in zip(names, numbers, strict=True)}


def reordered(net: SmallNet, chance: random.Random) -> SmallNet:
    """The layers in another order: values are still made before they are read, and read before they are replaced."""
    waits: list[set[int]] = []
    for number, layer in enumerate(net.layers):
        earlier = enumerate(net.layers[:number])
        touched = {*layer.bottoms, *layer.tops}
        waits.append(
            {
                place
                for place, each in earlier
                if touched.intersection(each.tops) or set(layer.tops).intersection(each.bottoms)
            }
        )
    order: list[int] = []
    while len(order) < len(waits):
        ready = [number for number, needed in enumerate(waits) if number not in order and needed.issubset(order)]
        order.append(chance.choice(ready))
    return replace(net, layers=tuple(net.layers[number] for number in order))


def with_own_blobs(net: SmallNet) -> SmallNet:
    """No layer works in place: what it reads gets a name of its own, what is left in the end keeps the blob's."""
    layers, feeds = list(net.layers), dict(net.feeds)
    for number, layer in enumerate(net.layers):
        for blob in set(layer.bottoms) & set(layer.tops):
            inner = f"{blob}@{number}"
            layers[:number] = [each.renamed({blob: inner}) for each in layers[:number]]
            bottoms = tuple(inner if name == blob else name for name in layers[number].bottoms)
            layers[number] = replace(layers[number], bottoms=bottoms)
            if blob in feeds:
                feeds[inner] = feeds.pop(blob)
    return replace(net, layers=tuple(layers), feeds=feeds)


def in_place(net: SmallNet) -> SmallNet:
    """Every ReLU, BatchNorm, Scale and Dropout that is the only reader of its bottom works in place."""
    layers, names = list(net.layers), dict[str, str]()
    reads = [blob for layer in net.layers for blob in layer.bottoms]
    for number, layer in enumerate(layers):
        found = layer.renamed(names)
        if layer.type in {"ReLU", "BatchNorm", "Scale", "Dropout"} and reads.count(layer.bottoms[0]) == 1:
            names[layer.tops[0]] = found.bottoms[0]
            found = replace(found, tops=found.bottoms[:1])
        layers[number] = found
    return replace(net, layers=tuple(layers))


def other_text(net: SmallNet, chance: random.Random) -> str:
    """The same prototxt with comments, other white space and other orders of fields."""

    def parts(layer: Layer) -> Iterator[str]:
        yield f"name: '{layer.name}'"
        yield f'type : "{layer.type}"' if chance.random() < 0.5 else f'type:"{layer.type}" # "a type" {{'
        yield "\n".join(f'bottom: "{blob}"' for blob in layer.bottoms)
        yield "\n".join(f'top: "{blob}"' for blob in layer.tops)
        yield re.sub(r"(\w) {", r"\1: {", layer.fields) if chance.random() < 0.5 else layer.fields

    texts = ["# a net\n\n"]
    for layer in net.layers:
        found = list(parts(layer))
        chance.shuffle(found)
        gap = chance.choice(["\n", "\n\n\t", "\r\n   ", "\n# layer { name: 'x' }\n"])
        texts.append(f"layer{chance.choice([' ', '', ': '])}{{{gap}{gap.join(found)}{gap}}} # end\n")
    chance.shuffle(texts[:1])
    return "".join(texts) + 'name: "small"'


V1 = {
    "Data": "DATA",
    "Convolution": "CONVOLUTION",
    "ReLU": "RELU",
    "Pooling": "POOLING",
    "InnerProduct": "INNER_PRODUCT",
    "Dropout": "DROPOUT",
    "Accuracy": "ACCURACY",
    "SoftmaxWithLoss": "SOFTMAX_LOSS",
}


def first_version(net: SmallNet) -> str:
    """The net as V1 writes it."""
    text = re.sub(r"^layer {", "layers {", net.text, flags=re.MULTILINE)
    text = re.sub(
        r"^  param {\s+lr_mult: (\S+)\s+decay_mult: (\S+)\s+}", r"  blobs_lr: \1 weight_decay: \2", text, flags=re.M
    )
    return re.sub(r'^  type: "(\w+)"', lambda found: f"  type: {V1[found[1]]}", text, flags=re.MULTILINE)


def transposed(net: SmallNet) -> SmallNet:
    """Images and all windows with rows for columns."""
    layers = list(net.layers)
    for number, layer in enumerate(layers):
        if layer.type == "Convolution":
            weights, *rest = layer.blobs
            layers[number] = replace(layer, blobs=(_contiguous(weights.transpose(0, 1, 3, 2)), *rest))
        if layer.type == "InnerProduct" and len(net.shapes[layer.bottoms[0]]) == 4:
            weights, *rest = layer.blobs
            _, c, h, w = net.shapes[layer.bottoms[0]]
            turned = weights.reshape(-1, c, h, w).transpose(0, 1, 3, 2).reshape(weights.shape)
            layers[number] = replace(layer, blobs=(_contiguous(turned), *rest))
    feeds = {blob: _contiguous(np.swapaxes(x, 2, 3)) if x.ndim == 4 else x for blob, x in net.feeds.items()}
    return replace(net, layers=tuple(layers), feeds=feeds)


def _contiguous(array: Array) -> Array:
    return np.ascontiguousarray(array)


def rescaled(net: SmallNet, factor: float) -> SmallNet:
    """What is fed times a power of two, the weights of the layer that reads it divided by that."""
    layers = list(net.layers)
    for number, layer in enumerate(layers):
        if "data" in layer.bottoms:
            weights, *rest = layer.blobs
            layers[number] = replace(layer, blobs=(weights / np.float32(factor), *rest))
    return replace(net, layers=tuple(layers), feeds={**net.feeds, "data": net.feeds["data"] * np.float32(factor)})


def in_groups(seed: int, groups: int = 2) -> tuple[SmallNet, SmallNet]:
    """A net with a convolution in groups, and the same with a convolution for each group."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 4, 6, 6)).astype(np.float32)
    weights = rng.standard_normal((6, 4 // groups, 3, 3)).astype(np.float32) / 4
    bias = rng.standard_normal(6).astype(np.float32)
    head = Layer("in-data", "Input", (), ("data",), "input_param { shape { dim: 3 dim: 4 dim: 6 dim: 6 } }")
    fields = "convolution_param { num_output: %d kernel_size: 3 %s }"
    whole = Layer("conv", "Convolution", ("data",), ("y",), fields % (6, f"group: {groups}"), (weights, bias))
    names = tuple(f"x{group}" for group in range(groups))
    parts = [
        Layer(
            f"conv{group}",
            "Convolution",
            (name,),
            (f"y{group}",),
            fields % (6 // groups, ""),
            (np.split(weights, groups)[group], np.split(bias, groups)[group]),
        )
        for group, name in enumerate(names)
    ]
    joined = Layer("concat", "Concat", tuple(f"y{group}" for group in range(groups)), ("y",))
    split = (head, Layer("slice", "Slice", ("data",), names), *parts, joined)
    return SmallNet((head, whole), {"data": x}), SmallNet(split, {"data": x})


def siamese(seed: int, *, shared: bool) -> SmallNet:
    """Two convolutions and two inner products with the same weights, by name or as copies."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((8, 3, 6, 6)).astype(np.float32)
    labels = rng.integers(0, 4, (8,)).astype(np.float32)
    conv = (rng.standard_normal((3, 3, 3, 3)) / 4).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    square = (rng.standard_normal((4, 4)) / 2).astype(np.float32)
    first = (rng.standard_normal((4, 108)) / 8).astype(np.float32)
    named = 'param { name: "w" }\nparam { name: "b" }\n' if shared else ""
    square_named = 'param { name: "square" }\n' if shared else ""
    fields = f"{named}convolution_param {{ num_output: 3 kernel_size: 3 pad: 1 }}"
    products = square_named + "inner_product_param { num_output: 4 bias_term: false }"
    layers = (
        Layer("in-data", "Input", (), ("data",), "input_param { shape { dim: 8 dim: 3 dim: 6 dim: 6 } }"),
        Layer("in-label", "Input", (), ("label",), "input_param { shape { dim: 8 } }"),
        Layer("conv1", "Convolution", ("data",), ("conv1",), fields, conv),
        Layer("relu1", "ReLU", ("conv1",), ("conv1",)),
        Layer("conv2", "Convolution", ("conv1",), ("conv2",), fields, conv),
        Layer(
            "ip",
            "InnerProduct",
            ("conv2",),
            ("ip",),
            "inner_product_param { num_output: 4 bias_term: false }",
            (first,),
        ),
        Layer("ip1", "InnerProduct", ("ip",), ("ip1",), products, (square,)),
        Layer("ip2", "InnerProduct", ("ip1",), ("ip2",), products, (square,)),
        Layer("accuracy", "Accuracy", ("ip2", "label"), ("accuracy",)),
        Layer("loss", "SoftmaxWithLoss", ("ip2", "label"), ("loss",)),
    )
    return SmallNet(layers, {"data": x, "label": labels})


def owners_only(net: SmallNet) -> bytes:
    """A weights file in which of shared weights only the first layer's are stored."""
    seen, kept = set(), []
    for layer in net.layers:
        names = re.findall(r'name: "(\w+)"', layer.fields)
        kept.append(replace(layer, blobs=()) if names and seen.issuperset(names) else layer)
        seen.update(names)
    return caffemodel(kept)

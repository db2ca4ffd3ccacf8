"""Nets that can be rewritten: layers as values, written as files in which the whole tool finds them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray

import ristretto
from ristretto.caffe.schema import message_class
from tests.cli.runner import MODELS
from tests.layers.random_net import RandomNet

Array = NDArray[np.float32]
Shape = tuple[int, ...]

IMAGES, CLASSES = 12, 5
"""What the random nets are fed."""


@dataclass(frozen=True)
class Layer:
    """One layer: ``fields`` is the text of all that has no name here; ``blobs`` are its weights."""

    name: str
    type: str
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    fields: str = ""
    blobs: tuple[Array, ...] = ()

    @property
    def text(self) -> str:
        bottoms = "".join(f'  bottom: "{blob}"\n' for blob in self.bottoms)
        tops = "".join(f'  top: "{blob}"\n' for blob in self.tops)
        fields = "".join(f"  {line}\n" for line in self.fields.strip().splitlines())
        return f'layer {{\n  name: "{self.name}"\n  type: "{self.type}"\n{bottoms}{tops}{fields}}}\n'

    def renamed(self, names: dict[str, str]) -> Layer:
        """The layer with other names of blobs."""
        bottoms, tops = (tuple(names.get(blob, blob) for blob in blobs) for blobs in (self.bottoms, self.tops))
        return replace(self, bottoms=bottoms, tops=tops)


@dataclass(frozen=True)
class SmallNet:
    """A net with its weights and, unless data layers name it, its data.

    Attributes:
        layers: in order.
        feeds: arrays for the blobs of Input layers.
        shapes: of what each blob holds in the end, as far as that is known.
    """

    layers: tuple[Layer, ...]
    feeds: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return 'name: "small"\n' + "".join(layer.text for layer in self.layers)

    def __repr__(self) -> str:
        return "\n" + self.text

    def write(self, folder: Path) -> Files:
        """Write prototxt, weights and data."""
        folder.mkdir(parents=True, exist_ok=True)
        model, weights = folder / "net.prototxt", folder / "net.caffemodel"
        model.write_text(self.text)
        weights.write_bytes(caffemodel(self.layers))
        if not self.feeds:
            return Files(model, weights, None)
        np.savez(folder / "data.npz", **self.feeds)
        return Files(model, weights, folder / "data.npz")


@dataclass(frozen=True)
class Files:
    """Where a net lies: prototxt, weights, and the npz with its data, if it has one."""

    model: Path
    weights: Path
    inputs: Path | None

    @property
    def data(self) -> dict[str, Path]:
        """The keyword that leads to the data."""
        return {"data_root": MODELS} if self.inputs is None else {"inputs": self.inputs}


def caffemodel(layers: Iterable[Layer]) -> bytes:
    """Weights as Caffe stores them, written with protobuf."""
    net = message_class("NetParameter")(name="small")
    for layer in layers:
        if layer.blobs:
            made = net.layer.add(name=layer.name, type=layer.type)
            for blob in layer.blobs:
                stored = made.blobs.add()
                stored.shape.dim.extend(blob.shape)
                stored.data.extend(blob.ravel().tolist())
    return bytes(net.SerializeToString())


@cache
def digits(name: str) -> SmallNet:
    """A net that comes with the project, read with protobuf."""
    folder = MODELS / f"digits_{name}"
    net = text_format.Parse((folder / "train_val.prototxt").read_text(), message_class("NetParameter")())
    stored = message_class("NetParameter").FromString((folder / f"digits_{name}.caffemodel").read_bytes())
    blobs = {layer.name: tuple(map(_array, layer.blobs)) for layer in stored.layer}
    layers = []
    for layer in net.layer:
        bottoms, tops = tuple(layer.bottom), tuple(layer.top)
        found = layer.name, layer.type, bottoms, tops
        for part in ("name", "type", "bottom", "top"):
            layer.ClearField(part)
        layers.append(Layer(*found, text_format.MessageToString(layer), blobs.get(found[0], ())))
    held = ristretto.run(folder / "train_val.prototxt", folder / f"digits_{name}.caffemodel", "all", data_root=MODELS)
    return SmallNet(tuple(layers), {}, {blob: value.shape for blob, value in held.items()})


def _array(blob: object) -> Array:
    shape = tuple(blob.shape.dim)  # type: ignore[attr-defined]
    return np.array(blob.data, np.float32).reshape(shape)  # type: ignore[attr-defined]


def of_random(net: RandomNet) -> SmallNet:
    """A net of any layers, as ``tests/layers`` draws them."""
    layers = (Layer(s.name, s.type, s.bottoms, s.tops, s.fields, s.blobs) for s in net.steps)
    return SmallNet(tuple(layers), net.feeds, {blob: shapes[-1] for blob, shapes in net.shapes.items()})


def quantizable(seed: int) -> SmallNet:
    """A random net of convolutions and what comes between them, with labelled images.

    Weights and pixels are ordinary numbers, none of them on any grid.
    """
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    channels, side = chance.randint(1, 3), chance.randint(6, 8)
    data = rng.standard_normal((IMAGES, channels, side, side)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (IMAGES,)).astype(np.float32)
    layers = [_input("data", data.shape), _input("label", labels.shape)]
    shapes: dict[str, Shape] = {"data": data.shape}
    blob = "data"

    def add(kind: str, fields: str, *blobs: Array, shape: Shape | None = None, more: tuple[str, ...] = ()) -> None:
        nonlocal blob
        name = f"{kind.lower()}{len(layers)}"
        over = shape is None and blob != "data" and not more and chance.random() < 0.5
        top = blob if over else name
        layers.append(Layer(name, kind, (blob, *more), (top,), fields, tuple(blobs)))
        shapes[top] = shape or shapes[blob]
        blob = top

    def convolve(outputs: int) -> None:
        n, c, height, width = shapes[blob]
        fields = f"convolution_param {{ num_output: {outputs} kernel_size: 3 pad: 1 }}"
        weights = rng.standard_normal((outputs, c, 3, 3)) / np.sqrt(9 * c)
        biases = rng.standard_normal(outputs) / 8
        add("Convolution", fields, weights.astype("f4"), biases.astype("f4"), shape=(n, outputs, height, width))

    for number in range(chance.randint(1, 3)):
        outputs = 2 * chance.randint(1, 3)
        convolve(outputs)
        if chance.random() < 0.4:
            mean, variance = rng.standard_normal(outputs) / 4, rng.uniform(0.3, 2.0, outputs)
            add("BatchNorm", "", mean.astype("f4"), variance.astype("f4"), np.ones(1, np.float32))
            factors, terms = rng.uniform(0.5, 1.5, outputs), rng.standard_normal(outputs) / 4
            add("Scale", "scale_param { bias_term: true }", factors.astype("f4"), terms.astype("f4"))
        if chance.random() < 0.8:
            add("ReLU", "")
        if chance.random() < 0.4:
            trunk = blob
            convolve(outputs)
            add("Eltwise", "", shape=shapes[blob], more=(trunk,))
        if number == 0 and chance.random() < 0.6:
            n, c, height, width = shapes[blob]
            kind = chance.choice(["MAX", "AVE"])
            fields = f"pooling_param {{ pool: {kind} kernel_size: 2 stride: 2 }}"
            add("Pooling", fields, shape=(n, c, -(-height // 2), -(-width // 2)))
    n, *axes = shapes[blob]
    inputs = int(np.prod(axes))
    weights, biases = rng.standard_normal((CLASSES, inputs)) / np.sqrt(inputs), rng.standard_normal(CLASSES) / 8
    fields = f"inner_product_param {{ num_output: {CLASSES} }}"
    add("InnerProduct", fields, weights.astype("f4"), biases.astype("f4"), shape=(n, CLASSES))
    layers.append(Layer("accuracy", "Accuracy", (blob, "label"), ("accuracy",)))
    layers.append(Layer("loss", "SoftmaxWithLoss", (blob, "label"), ("loss",)))
    return SmallNet(tuple(layers), {"data": data, "label": labels}, shapes)


def _input(blob: str, shape: Shape) -> Layer:
    dims = " ".join(f"dim: {length}" for length in shape)
    return Layer(f"in-{blob}", "Input", (), (blob,), f"input_param {{ shape {{ {dims} }} }}")

"""A Caffe project as a list of layers that a test can rearrange, written out as a user would have it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.textproto import Field, Message, Scalar, parse
from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel

MODELS = Path(__file__).resolve().parents[2] / "models"
NETS = ("digits_lenet", "digits_resnet")

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """A layer of a prototxt.

    Attributes:
        rest: the text of all other fields, one string each.
        blobs: its weights.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    rest: tuple[str, ...] = ()
    blobs: tuple[Array, ...] = ()

    @property
    def phase(self) -> str | None:
        """The phase that it is for, or None for both."""
        found = re.search(r"phase:\s*(\w+)", " ".join(self.rest))
        return found[1] if found else None

    @property
    def in_place(self) -> bool:
        return bool(set(self.bottoms) & set(self.tops))

    def fields(self) -> list[str]:
        """All its fields as text."""
        named = [f'name: "{self.name}"', f'type: "{self.type}"']
        return [*named, *(f'bottom: "{b}"' for b in self.bottoms), *(f'top: "{t}"' for t in self.tops), *self.rest]


@dataclass(frozen=True)
class Project:
    """A net with its weights."""

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, name: str) -> Project:
        """A net that comes with the tool."""
        folder = MODELS / name
        document = parse((folder / "train_val.prototxt").read_bytes())
        weights = read_weights((folder / f"{name}.caffemodel",))
        layers = []
        for message in document.root.all("layer"):
            assert isinstance(message, Message)
            kind, title = _text(message, "type"), _text(message, "name")
            rest = [
                document.text[field.start : field.end]
                for field in message.fields
                if isinstance(field, Field) and field.name not in ("name", "type", "bottom", "top")
            ]
            ends = [tuple(_texts(message, end)) for end in ("bottom", "top")]
            layers.append(Layer(title, kind, ends[0], ends[1], tuple(rest), weights.get(title) or ()))
        return cls(tuple(layers))

    def text(self) -> str:
        """The prototxt."""
        return "".join(f"layer {{\n  {chr(10).join(layer.fields())}\n}}\n" for layer in self.layers)

    def write(self, folder: Path, text: str | None = None) -> tuple[Path, Path]:
        """Write prototxt and caffemodel; a text takes the place of the net's own."""
        folder.mkdir(parents=True, exist_ok=True)
        model, weights = folder / "train_val.prototxt", folder / "net.caffemodel"
        model.write_text(self.text() if text is None else text)
        write_caffemodel(weights, "", [LayerWeights(layer.name, layer.type, layer.blobs) for layer in self.layers])
        return model, weights

    def at(self, name: str) -> int:
        """The place of a layer; of several with its name the last one's."""
        return max(number for number, layer in enumerate(self.layers) if layer.name == name)

    def layer(self, name: str) -> Layer:
        return self.layers[self.at(name)]

    def changed(self, name: str, change: Callable[[Layer], Layer]) -> Project:
        """The same with every layer of a name changed."""
        return Project(tuple(change(layer) if layer.name == name else layer for layer in self.layers))

    def mapped(self, change: Callable[[Layer], Layer]) -> Project:
        """The same with every layer changed."""
        return Project(tuple(map(change, self.layers)))

    def with_layers(self, place: int, *layers: Layer) -> Project:
        """The same with layers put in before a place."""
        return Project((*self.layers[:place], *layers, *self.layers[place:]))

    def replaced(self, name: str, *layers: Layer) -> Project:
        """The same with layers in the place of one."""
        place = self.at(name)
        return Project((*self.layers[:place], *layers, *self.layers[place + 1 :]))

    def between(self, place: int, kind: str, rest: str = "", *, in_place: bool = False) -> Project:
        """A layer on the way from the first top of the layer at a place to all that read it afterwards."""
        blob = self.layers[place].tops[0]
        made = blob if in_place else f"{blob}_noop{place}"
        noop = Layer(f"noop{place}", kind, (blob,), (made,), (rest,) if rest else ())
        later, renaming = [], True
        for layer in self.layers[place + 1 :]:
            bottoms = tuple(made if renaming and bottom == blob else bottom for bottom in layer.bottoms)
            if renaming and blob in layer.tops and blob in layer.bottoms:  # in place: goes on in place on the new blob
                layer = replace(layer, tops=tuple(made if top == blob else top for top in layer.tops))
            elif blob in layer.tops:
                renaming = False
            later.append(replace(layer, bottoms=bottoms))
        return Project((*self.layers[: place + 1], noop, *later))


def renamed(project: Project, layer_names: Callable[[str], str], blob_names: Callable[[str], str]) -> Project:
    """The same net under other names."""

    def change(layer: Layer) -> Layer:
        bottoms, tops = (tuple(map(blob_names, names)) for names in (layer.bottoms, layer.tops))
        return replace(layer, name=layer_names(layer.name), bottoms=bottoms, tops=tops)

    return project.mapped(change)


def own_blobs(project: Project) -> Project:
    """The same net with a top of its own for every layer."""
    now: dict[str, str] = {}
    layers = []
    for number, layer in enumerate(project.layers):
        bottoms = tuple(now.get(bottom, bottom) for bottom in layer.bottoms)
        tops = list(layer.tops)
        for place, top in enumerate(layer.tops):
            if top in layer.bottoms:
                tops[place] = now[top] = f"{top}_{number}"
            else:
                now.pop(top, None)
        layers.append(replace(layer, bottoms=bottoms, tops=tuple(tops)))
    return Project(tuple(layers))


def reordered(project: Project, choose: Callable[[int], int]) -> Project:
    """The same layers in another order in which each comes after those that it needs.

    Args:
        project: the net.
        choose: of so many layers that may come next, the number of the one that does.
    """
    layers = project.layers
    before: list[set[int]] = [set() for _ in layers]
    for number, layer in enumerate(layers):
        for other in range(number):
            touched = {*layers[other].bottoms, *layers[other].tops}
            if touched & set(layer.tops) or set(layers[other].tops) & set(layer.bottoms):
                before[number].add(other)
    order: list[int] = []
    while len(order) < len(layers):
        ready = [n for n in range(len(layers)) if n not in order and before[n] <= set(order)]
        order.append(ready[choose(len(ready))])
    return Project(tuple(layers[number] for number in order))


def rewritten(layer: Layer, changes: Mapping[str, str]) -> Layer:
    """A layer with patterns in its other fields replaced; each has to be there."""
    text = "\n".join(layer.rest)
    for pattern, new in changes.items():
        text, count = re.subn(pattern, new, text)
        assert count, (pattern, text)
    return replace(layer, rest=(text,))


def _text(message: Message, name: str) -> str:
    (text,) = _texts(message, name)
    return text


def _texts(message: Message, name: str) -> Sequence[str]:
    return [value.text for value in message.all(name) if isinstance(value, Scalar)]

"""Labels against the classes of the net, the classic mistake of counting from 1; indices against tables of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.catalogue.activation import AffineParams, power_params
from ristretto.caffe.catalogue.combining import concat_axis
from ristretto.caffe.catalogue.inner_product import embed_params
from ristretto.caffe.netspec import LayerSpec, NetSpec, Shape
from ristretto.caffe.shapes import FED_TYPES, NetShapes
from ristretto.errors import DataError

Labels = NDArray[np.float32]

_PARAMS = {
    "Accuracy": "accuracy_param",
    "SoftmaxWithLoss": "softmax_param",
    "MultinomialLogisticLoss": "",
    "InfogainLoss": "",
    "HingeLoss": "",
}
_INDEXING = frozenset({"Embed"})
_SHAPING = frozenset({"Flatten", "Reshape", "Split"})


@dataclass(frozen=True, slots=True)
class LabelNotes:
    """What is worth a warning in the labels of a batch.

    Attributes:
        uncounted: whether an accuracy had no label that counts.
        missing: whether an accuracy with a value for each class had a class without an image.
    """

    uncounted: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class LabelRule:
    """A layer that takes a blob for class numbers, or for indices of rows.

    Attributes:
        layer: the layer.
        blob: the fed blob that they come from; where they are computed, the value that holds them.
        classes: how many classes, or rows, it knows.
        ignored: a label that stands for no class, or None.
        steps: what layers between do to it, in order: cut it, shape it anew, count from another number.
    """

    layer: LayerSpec
    blob: str
    classes: int
    ignored: int | None
    steps: tuple[Callable[[Labels], Labels], ...] = ()

    def labels(self, batch: Mapping[str, Labels]) -> Labels:
        """The class numbers of a batch, as the layer reads them."""
        return reduce(lambda labels, step: step(labels), self.steps, batch[self.blob])

    def all_ignored(self, batch: Mapping[str, Labels]) -> bool:
        """Whether no label of a batch counts: an accuracy over them is 0 in Caffe, and says nothing."""
        labels = self.labels(batch)
        return self.ignored is not None and bool((labels == self.ignored).all())

    def lacks_class(self, batch: Mapping[str, Labels]) -> bool:
        """Whether a class has no image in a batch: its own accuracy is 0 there in Caffe."""
        labels = self.labels(batch)
        return len(np.unique(labels if self.ignored is None else labels[labels != self.ignored])) < self.classes

    def check(self, batch: Mapping[str, Labels], number: int | None = None, images: int | None = None) -> None:
        """Refuse a batch with a label that no class has, or an index that no row has.

        Args:
            batch: what is fed, or computed.
            number: that of the batch in its pass, from 0, if it is known.
            images: how many images the batch has; None for as many as the blob.

        Raises:
            DataError: there is one; the error names it and its image.
        """
        labels = self.labels(batch)
        wrong = (labels < 0) | (labels >= self.classes) | (np.trunc(labels) != labels)  # NaN equals nothing
        if self.ignored is not None:
            wrong &= labels != self.ignored
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            image = f"image {place[0] if place else 0}" + ("" if number is None else f" of batch {number}")
            images = len(batch[self.blob]) if images is None else images
            if labels.ndim and len(labels) != images:  # it cannot be told which image a label belongs to
                image = "an image" if number is None else f"batch {number}"
            found, last = f"{labels[place]:g} of {image} in blob", self.classes - 1
            if self.layer.type in _INDEXING:
                what = f"index {found} '{self.layer.bottoms[0]}', the layer has {self.classes} rows"
                cure = f"indices are whole numbers from 0 to {last}"
            else:
                what = f"label {found} '{self.layer.bottoms[1]}', the net has {self.classes} classes"
                cure = f"labels count from 0 to {last}"
            view = self.layer.view
            raise DataError(what, cure=cure, file=view.document.file, line=view.line, layer=self.layer.name)


def has_labels(net: NetSpec) -> bool:
    """Whether any layer of a net reads class numbers, or indices."""
    return any(map(_numbers_of, net.layers))


def _numbers_of(layer: LayerSpec) -> str | None:
    """The value that a layer reads class numbers or indices from, if it does."""
    if layer.type in _INDEXING:
        return layer.inputs[0]
    return layer.inputs[1] if layer.type in _PARAMS and len(layer.inputs) > 1 else None


def label_rules(net: NetSpec, shapes: NetShapes) -> list[LabelRule]:
    """The rules of all layers that read class numbers or indices from what is fed, as it is or moved about."""
    return [rule for rule, fed in _rules(net, shapes) if fed]


def computed_rules(net: NetSpec, shapes: NetShapes) -> list[LabelRule]:
    """The rules of all layers that read class numbers or indices that the net computes."""
    return [rule for rule, fed in _rules(net, shapes) if not fed]


def _rules(net: NetSpec, shapes: NetShapes) -> Iterator[tuple[LabelRule, bool]]:
    """All rules, and whether they are about what is fed."""
    for layer in net.layers:
        value = _numbers_of(layer)
        if value is None:
            continue
        source = _source(net, value, shapes)
        blob, steps = source or (value, ())
        known = _known(layer, shapes)
        if known is not None:
            yield LabelRule(layer, blob, *known, steps), source is not None


def _known(layer: LayerSpec, shapes: NetShapes) -> tuple[int, int | None] | None:
    """How many classes or rows a layer knows, and the label that it ignores; None where its axis does not exist."""
    if layer.type in _INDEXING:
        return embed_params(layer).input_dim, None
    shape = shapes.values[layer.inputs[0]]
    param = _PARAMS[layer.type]
    axis = layer.view.child(param).integer("axis") if param else 1
    owner = layer.view.child("accuracy_param" if layer.type == "Accuracy" else "loss_param")
    ignored = owner.integer("ignore_label") if owner.has("ignore_label") else None
    return (shape[axis], ignored) if -len(shape) <= axis < len(shape) else None


def _source(net: NetSpec, value: str, shapes: NetShapes) -> tuple[str, tuple[Callable[[Labels], Labels], ...]] | None:
    """The fed blob that labels come from, and what is done to it on the way; None where it is more than known here."""
    steps: list[Callable[[Labels], Labels]] = []
    while (layer := net.producer(value)) is not None:
        if layer.type in FED_TYPES:
            return layer.tops[layer.outputs.index(value)], tuple(reversed(steps))
        if layer.type in _SHAPING:
            steps.append(_shaped(shapes.values[value]))
        elif layer.type == "Slice":
            steps.append(_cut(layer, value, shapes))
        elif layer.type == "Power" and power_params(layer).power == 1.0:
            steps.append(_shifted(power_params(layer).inner))
        else:
            return None
        value = layer.inputs[0]
    return None


def _cut(layer: LayerSpec, value: str, shapes: NetShapes) -> Callable[[Labels], Labels]:
    axis = concat_axis(layer, len(shapes.values[value]))
    before = layer.outputs[: layer.outputs.index(value)]
    start = sum(shapes.values[each][axis] for each in before)
    places = (slice(None),) * axis + (slice(start, start + shapes.values[value][axis]),)
    return lambda labels: labels[places]


def _shaped(shape: Shape) -> Callable[[Labels], Labels]:
    return lambda labels: labels.reshape(shape)


def _shifted(params: AffineParams) -> Callable[[Labels], Labels]:
    scale, shift = np.float32(params.scale), np.float32(params.shift)
    return lambda labels: labels * scale + shift

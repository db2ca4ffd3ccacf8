"""Labels against the classes of the net: the classic mistake of counting from 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.shapes import FED_TYPES, NetShapes
from ristretto.errors import DataError

_PARAMS = {
    "Accuracy": "accuracy_param",
    "SoftmaxWithLoss": "softmax_param",
    "MultinomialLogisticLoss": "",
    "InfogainLoss": "",
    "HingeLoss": "",
}


@dataclass(frozen=True, slots=True)
class LabelRule:
    """A layer that takes a fed blob for class numbers.

    Attributes:
        layer: the layer.
        blob: the fed blob.
        classes: how many classes it knows.
        ignored: a label that stands for no class, or None.
    """

    layer: LayerSpec
    blob: str
    classes: int
    ignored: int | None

    def all_ignored(self, batch: Mapping[str, NDArray[np.float32]]) -> bool:
        """Whether no label of a batch counts: an accuracy over them is 0 in Caffe, and says nothing."""
        labels = batch[self.blob]
        return self.ignored is not None and bool((labels == self.ignored).all())

    def check(self, batch: Mapping[str, NDArray[np.float32]], number: int | None = None) -> None:
        """Refuse a batch with a label that no class has.

        Args:
            batch: what is fed.
            number: that of the batch in its pass, from 0, if it is known.

        Raises:
            DataError: there is one; the error names it and its image.
        """
        labels = batch[self.blob]
        wrong = (labels < 0) | (labels >= self.classes) | (np.trunc(labels) != labels)  # NaN equals nothing
        if self.ignored is not None:
            wrong &= labels != self.ignored
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            image = f"image {place[0] if place else 0}" + ("" if number is None else f" of batch {number}")
            what = f"label {labels[place]:g} of {image} in blob '{self.blob}', the net has {self.classes} classes"
            cure = f"labels count from 0 to {self.classes - 1}"
            view = self.layer.view
            raise DataError(what, cure=cure, file=view.document.file, line=view.line, layer=self.layer.name)


def fed_labels(net: NetSpec) -> bool:
    """Whether any layer of a net reads class numbers straight from what is fed."""
    fed = {value for layer in net.layers if layer.type in FED_TYPES for value in layer.outputs}
    return any(layer.type in _PARAMS and len(layer.inputs) > 1 and layer.inputs[1] in fed for layer in net.layers)


def label_rules(net: NetSpec, shapes: NetShapes) -> list[LabelRule]:
    """The rules of all layers that read class numbers straight from what is fed."""
    feeders = [layer for layer in net.layers if layer.type in FED_TYPES]
    fed = {value: blob for layer in feeders for value, blob in zip(layer.outputs, layer.tops, strict=True)}
    rules = []
    for layer in net.layers:
        if layer.type not in _PARAMS or len(layer.inputs) < 2 or layer.inputs[1] not in fed:
            continue
        shape = shapes.values[layer.inputs[0]]
        param = _PARAMS[layer.type]
        axis = layer.view.child(param).integer("axis") if param else 1
        owner = layer.view.child("accuracy_param" if layer.type == "Accuracy" else "loss_param")
        ignored = owner.integer("ignore_label") if owner.has("ignore_label") else None
        if -len(shape) <= axis < len(shape):
            rules.append(LabelRule(layer, fed[layer.inputs[1]], shape[axis], ignored))
    return rules

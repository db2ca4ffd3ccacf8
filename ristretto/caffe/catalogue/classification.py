"""Softmax, Accuracy and the losses over classes: parameters and shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.blobs import read_blob_file
from ristretto.caffe.catalogue.axes import canonical_axis, require_rank
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.view import View

SCALAR: Shape = ()
"""A loss or a score: a blob without axes (loss_layer.cpp, Reshape)."""


@shape_rule("Softmax")
def softmax_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The top has the bottom's shape (softmax_layer.cpp, Reshape)."""
    class_axis(layer, inputs[0], "softmax_param")
    return LayerShapes(inputs)


def class_axis(layer: LayerSpec, shape: Shape, field: str) -> int:
    """The axis along which the classes lie, from a message that has an ``axis``."""
    return canonical_axis(layer, layer.view.child(field).integer("axis"), len(shape))


def _require_labels(layer: LayerSpec, scores: Shape, labels: Shape, axis: int) -> None:
    """Refuse labels that are not one for each place of the scores."""
    places = math.prod(scores[:axis]) * math.prod(scores[axis + 1 :])
    if math.prod(labels) != places:
        what = f"labels of shape {labels} do not give one label for each of the {places} places of {scores}"
        raise layer.view.error(what, cure=f"the classes are taken to lie along axis {axis}", field="bottom")


@dataclass(frozen=True, slots=True)
class LossParams:
    """A LossParameter (defaults: caffe.proto, LossParameter).

    Attributes:
        ignore_label: places with this label do not count; None: all do.
        normalization: FULL, VALID, BATCH_SIZE or NONE.
    """

    ignore_label: int | None
    normalization: str


def loss_params(layer: LayerSpec, default: str = "VALID") -> LossParams:
    """Read a layer's loss_param.

    Args:
        layer: the layer.
        default: the normalization where neither it nor the old flag ``normalize`` is given.
    """
    view = layer.view.child("loss_param")
    ignore = view.integer("ignore_label") if view.has("ignore_label") else None
    return LossParams(ignore, _normalization(view, default))


def _normalization(view: View, default: str) -> str:
    if view.has("normalization"):
        return view.text("normalization")
    if view.has("normalize"):
        return "VALID" if view.flag("normalize") else "BATCH_SIZE"
    return default


@shape_rule("SoftmaxWithLoss", bottoms=(2, 2), tops=(1, 2))
def softmax_loss_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The loss and, as a second top, the probabilities (softmax_loss_layer.cpp, Reshape)."""
    scores, labels = inputs
    _require_labels(layer, scores, labels, class_axis(layer, scores, "softmax_param"))
    return LayerShapes((SCALAR, scores)[: len(layer.tops)])


@shape_rule("InfogainLoss", bottoms=(2, 3), tops=(1, 2))
def infogain_loss_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The loss and, as a second top, the probabilities (infogain_loss_layer.cpp, Reshape)."""
    scores, labels = inputs[:2]
    axis = class_axis(layer, scores, "infogain_loss_param")
    _require_labels(layer, scores, labels, axis)
    if len(inputs) == 3 and math.prod(inputs[2]) != scores[axis] ** 2:
        what = f"the infogain matrix has shape {inputs[2]}, the bottom {scores} has {scores[axis]} classes"
        raise layer.view.error(what, field="bottom")
    return LayerShapes((SCALAR, scores)[: len(layer.tops)])


def infogain_matrix(layer: LayerSpec, classes: int) -> NDArray[np.float32]:
    """The matrix (classes, classes) in the file that a layer names; relative to the folder one is in, as in Caffe.

    Raises:
        NetError: there is none, or it has another size.
    """
    view = layer.view.child("infogain_loss_param")
    if not view.text("source"):
        cure = "name a .binaryproto as source, or feed the matrix to the layer as a third bottom"
        raise layer.view.error("the layer has no infogain matrix", cure=cure)
    path, confined = Path(view.text("source")), view.document.confined
    if confined is not None and not confined.holds(path):
        raise view.error(f"the infogain matrix '{path}' lies elsewhere", field="source", cure=confined.cure)
    try:
        matrix = read_blob_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no .binaryproto"
        raise view.error(f"cannot read the infogain matrix {path}: {reason}", field="source") from error
    if matrix.size != classes**2:
        what = f"the infogain matrix in {path} has {matrix.size} elements, {classes} classes need {classes**2}"
        raise view.error(what, field="source")
    return matrix.reshape(classes, classes)


@shape_rule("MultinomialLogisticLoss", "HingeLoss", bottoms=(2, 2))
def label_loss_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """All axes but the first are classes, with one label for each item (hinge_loss_layer.cpp)."""
    scores, labels = inputs
    require_rank(layer, scores, 2)
    if math.prod(labels) != scores[0]:
        what = f"labels of shape {labels} are not one for each of the {scores[0]} items of {scores}"
        raise layer.view.error(what, field="bottom")
    return LayerShapes((SCALAR,))


@dataclass(frozen=True, slots=True)
class AccuracyParams:
    """An AccuracyParameter (defaults: caffe.proto, AccuracyParameter).

    Attributes:
        top_k: an item is right if fewer than this many other classes have a value >= the label's.
        axis: along which the classes lie.
        ignore_label: places with this label do not count; None: all do.
    """

    top_k: int
    axis: int
    ignore_label: int | None


def accuracy_params(layer: LayerSpec, shape: Shape) -> AccuracyParams:
    """Read a layer's accuracy_param (accuracy_layer.cpp, LayerSetUp and Reshape).

    Raises:
        NetError: the axis does not exist, or top_k is larger than the number of classes.
    """
    view = layer.view.child("accuracy_param")
    axis = class_axis(layer, shape, "accuracy_param")
    top_k = view.integer("top_k")
    if not 1 <= top_k <= shape[axis]:
        what = f"top_k {top_k} is not between 1 and the {shape[axis]} classes of {shape}"
        raise view.error(what, field="top_k")
    ignore = view.integer("ignore_label") if view.has("ignore_label") else None
    return AccuracyParams(top_k, axis, ignore)


@shape_rule("Accuracy", bottoms=(2, 2), tops=(1, 2))
def accuracy_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The accuracy and, as a second top, that of each class."""
    scores, labels = inputs
    params = accuracy_params(layer, scores)
    _require_labels(layer, scores, labels, params.axis)
    return LayerShapes((SCALAR, (scores[params.axis],))[: len(layer.tops)])

"""Losses that compare two blobs value by value: parameters and shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import require_rank
from ristretto.caffe.catalogue.classification import SCALAR
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape


@shape_rule("EuclideanLoss", "SigmoidCrossEntropyLoss", bottoms=(2, 2))
def paired_loss_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Two bottoms with equally many items of equally many values (loss_layer.cpp, Reshape)."""
    first, second = inputs
    require_rank(layer, first, 1)
    if first[0] != second[0] or math.prod(first) != math.prod(second):
        what = f"bottoms of shapes {first} and {second} do not hold equally many items of equally many values"
        raise layer.view.error(what, field="bottom")
    return LayerShapes((SCALAR,))


@dataclass(frozen=True, slots=True)
class ContrastiveParams:
    """A ContrastiveLossParameter (defaults: caffe.proto, ContrastiveLossParameter)."""

    margin: float
    legacy: bool


def contrastive_params(layer: LayerSpec) -> ContrastiveParams:
    """Read a layer's contrastive_loss_param."""
    view = layer.view.child("contrastive_loss_param")
    return ContrastiveParams(view.number("margin"), view.flag("legacy_version"))


@shape_rule("ContrastiveLoss", bottoms=(3, 3))
def contrastive_loss_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Two bottoms (n, c) of features and one similarity for each pair (contrastive_loss_layer.cpp)."""
    first, second, similar = inputs
    require_rank(layer, first, 2, 4)
    if first != second or set(first[2:]) - {1}:
        what = f"features must be (n, c) and alike in both bottoms, found {first} and {second}"
        raise layer.view.error(what, field="bottom")
    if math.prod(similar) != first[0]:
        what = f"a third bottom of shape {similar} does not say of {first[0]} pairs if they are alike"
        raise layer.view.error(what, field="bottom")
    return LayerShapes((SCALAR,))

"""Softmax, Accuracy and the losses over classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ristretto.caffe.catalogue.classification import (
    LossParams,
    accuracy_params,
    class_axis,
    infogain_matrix,
    loss_params,
)
from ristretto.caffe.netspec import Shape
from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.registry import LayerPass, trains

_LEAST_NORMAL = float(np.finfo(np.float32).tiny)
_LOG_THRESHOLD = 1e-20


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels in the shape of their scores, with a class axis of length 1.

    Attributes:
        numbers: int64; 0 where the label does not count.
        ignored: whether a place does not count; None where all do.
    """

    numbers: Tensor
    ignored: Tensor | None

    @classmethod
    def of(cls, value: Tensor, shape: Shape, axis: int, ignore: int | None = None) -> Labels:
        """The labels of scores of a shape."""
        numbers = value.detach().reshape(*shape[:axis], 1, *shape[axis + 1 :]).to(torch.int64)
        if ignore is None:
            return cls(numbers, None)
        ignored = numbers == ignore
        return cls(torch.where(ignored, torch.zeros_like(numbers), numbers), ignored)

    def masked(self, values: Tensor) -> Tensor:
        """Values with zeros in the places that do not count."""
        return values if self.ignored is None else values.masked_fill(self.ignored, 0.0)


def normalized(losses: Tensor, labels: Labels, params: LossParams, per_item: int) -> Tensor:
    """The sum of losses over what the normalization says (loss_layer.cpp, GetNormalizer)."""
    total = losses.sum()
    places = losses.numel()
    if params.normalization == "NONE":
        return total
    if params.normalization == "VALID" and labels.ignored is not None:
        return total / max(1, places - int(labels.ignored.sum()))
    return total / (places // per_item if params.normalization == "BATCH_SIZE" else places)


@trains("Softmax")
def softmax(given: LayerPass) -> list[Tensor]:
    """Exponentials over their sum along an axis (softmax_layer.cpp)."""
    return [torch.softmax(given.inputs[0], class_axis(given.layer, given.shapes[0], "softmax_param"))]


@trains("SoftmaxWithLoss")
def softmax_loss(given: LayerPass) -> list[Tensor]:
    """Minus the logarithm of the label's probability; and the probabilities (softmax_loss_layer.cpp).

    The logarithm stops at the least normal float32; its gradient does not, as in Caffe.
    """
    shape = given.shapes[0]
    axis, params = class_axis(given.layer, shape, "softmax_param"), loss_params(given.layer)
    labels = Labels.of(given.inputs[1], shape, axis, params.ignore_label)
    logarithms = torch.log_softmax(given.inputs[0], axis)
    picked = logarithms.gather(axis, labels.numbers)
    bounded = picked + (torch.clamp(picked, min=math.log(_LEAST_NORMAL)) - picked).detach()
    loss = normalized(labels.masked(-bounded), labels, params, math.prod(shape[axis + 1 :]))
    return [loss, torch.exp(logarithms)][: len(given.layer.tops)]


@trains("InfogainLoss")
def infogain_loss(given: LayerPass) -> list[Tensor]:
    """Minus the logarithms of all probabilities, weighted by the label's row (infogain_loss_layer.cpp)."""
    shape = given.shapes[0]
    axis, params = class_axis(given.layer, shape, "infogain_loss_param"), loss_params(given.layer)
    labels = Labels.of(given.inputs[1], shape, axis, params.ignore_label)
    probabilities = torch.softmax(given.inputs[0], axis)
    if len(given.inputs) == 3:
        matrix = given.inputs[2].detach().reshape(shape[axis], shape[axis])
    else:
        matrix = torch.from_numpy(infogain_matrix(given.layer, shape[axis]).copy()).to(probabilities.dtype)
    rows = matrix[labels.numbers.squeeze(axis)].movedim(-1, axis)
    weighted = rows * torch.log(torch.clamp(probabilities, min=_LOG_THRESHOLD))
    losses = labels.masked(-weighted.sum(axis, keepdim=True))
    loss = normalized(losses, labels, params, math.prod(shape[axis + 1 :]))
    return [loss, probabilities][: len(given.layer.tops)]


def _rows(given: LayerPass) -> tuple[Tensor, Labels]:
    """Scores as (n, classes), and the labels of the items."""
    rows = given.inputs[0].flatten(1)
    return rows, Labels.of(given.inputs[1], tuple(rows.shape), 1)


@trains("MultinomialLogisticLoss")
def multinomial_logistic_loss(given: LayerPass) -> list[Tensor]:
    """Minus the logarithm of the label's probability (multinomial_logistic_loss_layer.cpp)."""
    rows, labels = _rows(given)
    return [-torch.log(torch.clamp(rows.gather(1, labels.numbers), min=_LOG_THRESHOLD)).mean()]


@trains("HingeLoss")
def hinge_loss(given: LayerPass) -> list[Tensor]:
    """How far each score misses its margin of 1, or that squared, over the batch (hinge_loss_layer.cpp)."""
    rows, labels = _rows(given)
    signs = torch.ones_like(rows).scatter(1, labels.numbers, -1.0)
    misses = torch.relu(1.0 + signs * rows)
    if given.layer.view.child("hinge_loss_param").text("norm") == "L2":
        misses = misses * misses
    return [misses.sum() / rows.shape[0]]


@trains("Accuracy")
def accuracy(given: LayerPass) -> list[Tensor]:
    """The part of the places that are right, and that of each class; without a gradient (accuracy_layer.cpp).

    NaN among the values of a place that counts makes the score NaN.
    """
    shape, scores = given.shapes[0], given.inputs[0].detach()
    params = accuracy_params(given.layer, shape)
    labels = Labels.of(given.inputs[1], shape, params.axis, params.ignore_label)
    own = scores.gather(params.axis, labels.numbers)
    right = ((scores >= own).sum(params.axis, keepdim=True) <= params.top_k).to(scores.dtype)
    right = labels.masked(right.masked_fill(scores.isnan().any(params.axis, keepdim=True), math.nan))
    counted = right.numel() if labels.ignored is None else max(1, right.numel() - int(labels.ignored.sum()))
    score = right.sum() / counted
    if len(given.layer.tops) == 1:
        return [score]
    members = labels.masked(torch.zeros_like(scores).scatter(params.axis, labels.numbers, 1.0))
    others = [place for place in range(len(shape)) if place != params.axis]
    hits = (members * right).sum(others)
    return [score, hits / torch.clamp(members.sum(others), min=1.0)]

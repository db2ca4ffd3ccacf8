"""Losses that compare two blobs value by value."""

from __future__ import annotations

from ristretto.caffe.catalogue.classification import loss_params
from ristretto.caffe.catalogue.losses import contrastive_params
from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.layers.classification import Labels, normalized
from ristretto.finetune.registry import LayerPass, trains


def _rows(given: LayerPass) -> tuple[Tensor, Tensor]:
    """The first two bottoms as (n, values)."""
    first, second = (value.reshape(value.shape[0], -1) for value in given.inputs[:2])
    return first, second


@trains("EuclideanLoss")
def euclidean_loss(given: LayerPass) -> list[Tensor]:
    """Half of the mean squared distance of the items (euclidean_loss_layer.cpp)."""
    first, second = _rows(given)
    difference = first - second
    return [(difference * difference).sum() / (2.0 * first.shape[0])]


@trains("ContrastiveLoss")
def contrastive_loss(given: LayerPass) -> list[Tensor]:
    """Squared distance of like pairs, squared lack of distance of others (contrastive_loss_layer.cpp).

    Pairs of no distance at all have no gradient: Caffe adds 1e-4 to the distance it divides by.
    """
    params = contrastive_params(given.layer)
    first, second = _rows(given)
    squared = ((first - second) ** 2).sum(1)
    if params.legacy:
        lack = torch.relu(params.margin - squared)
    else:
        away = squared > 0
        distance = torch.where(away, torch.sqrt(torch.where(away, squared, torch.ones_like(squared))), squared)
        lack = torch.relu(params.margin - distance) ** 2
    alike = given.inputs[2].detach().reshape(-1).to(torch.int32) != 0
    return [torch.where(alike, squared, lack).mean() / 2.0]


@trains("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy_loss(given: LayerPass) -> list[Tensor]:
    """Cross entropy of sigmoids, over the batch unless told otherwise (sigmoid_cross_entropy_loss_layer.cpp)."""
    params = loss_params(given.layer, default="BATCH_SIZE")
    scores, targets = _rows(given)
    targets = targets.detach()
    losses = torch.clamp(scores, min=0.0) - scores * targets + torch.log1p(torch.exp(-torch.abs(scores)))
    labels = Labels(targets, None)
    if params.ignore_label is not None:
        whole = targets.to(torch.int64)
        labels = Labels(whole, whole == params.ignore_label)
    return [normalized(labels.masked(losses), labels, params, scores.shape[1])]

"""Losses that compare two blobs value by value."""

from __future__ import annotations

import math

import onnx

from ristretto.caffe.catalogue.classification import loss_params
from ristretto.caffe.catalogue.losses import contrastive_params
from ristretto.graph.layers.labels import Labels, emit_masked, emit_normalized
from ristretto.graph.registry import LayerContext, emits


def _rows(context: LayerContext) -> tuple[str, str]:
    """The first two bottoms; as (n, values) where their shapes differ."""
    first, second = context.inputs[:2]
    if context.input_shapes[0] == context.input_shapes[1]:
        return first, second
    return context.op("Flatten", first, axis=1), context.op("Flatten", second, axis=1)


def _squared_distances(context: LayerContext) -> str:
    """For each item the sum of the squared differences of the first two bottoms: (n,)."""
    difference = context.op("Sub", *_rows(context))
    squares = context.op("Flatten", context.op("Mul", difference, difference), axis=1)
    return context.op("ReduceSum", squares, context.nodes.ints([1]), keepdims=0)


@emits("EuclideanLoss")
def euclidean_loss(context: LayerContext) -> list[str]:
    """Half the squared distance, over the batch (euclidean_loss_layer.cpp)."""
    mean = context.op("ReduceMean", _squared_distances(context), keepdims=0)
    return [context.op("Mul", mean, context.nodes.floats(0.5))]


@emits("ContrastiveLoss")
def contrastive_loss(context: LayerContext) -> list[str]:
    """Squared distance of like pairs, squared lack of distance of others (contrastive_loss_layer.cpp).

    Half of their mean. The legacy version takes the lack in the squared distance and does not square it.
    """
    params = contrastive_params(context.layer)
    margin = context.nodes.floats(params.margin)
    squared = _squared_distances(context)
    distance = squared if params.legacy else context.op("Sqrt", squared)
    lack = context.op("Relu", context.op("Sub", margin, distance))
    if not params.legacy:
        lack = context.op("Mul", lack, lack)
    flat = context.op("Reshape", context.inputs[2], context.nodes.ints([-1]))
    # Caffe takes the whole part of the number for a truth value.
    whole = context.op("Cast", flat, to=onnx.TensorProto.INT32)
    alike = context.op("Cast", whole, to=onnx.TensorProto.BOOL)
    mean = context.op("ReduceMean", context.op("Where", alike, squared, lack), keepdims=0)
    return [context.op("Mul", mean, context.nodes.floats(0.5))]


@emits("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy_loss(context: LayerContext) -> list[str]:
    """Cross entropy of sigmoids, over the batch unless told otherwise (sigmoid_cross_entropy_loss_layer.cpp).

    ``max(x, 0) - x * t + log(1 + exp(-|x|))`` does not overflow, and is what Caffe computes.
    """
    params = loss_params(context.layer, default="BATCH_SIZE")
    scores, targets = _rows(context)
    large = context.op("Relu", scores)
    small = context.op("Softplus", context.op("Neg", context.op("Abs", scores)))
    losses = context.op("Add", context.op("Sub", large, context.op("Mul", scores, targets)), small)
    labels = Labels(targets, None)
    if params.ignore_label is not None:
        whole = context.op("Cast", targets, to=onnx.TensorProto.INT64)
        labels = Labels(whole, context.op("Equal", whole, context.nodes.ints(params.ignore_label)))
    losses = emit_masked(context, losses, labels)
    return [emit_normalized(context, losses, labels, params, math.prod(context.input_shapes[0][1:]))]

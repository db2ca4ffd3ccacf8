"""What losses and scores over classes share: labels as indices, places that do not count, normalization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from ristretto.caffe.catalogue.classification import LossParams
from ristretto.caffe.netspec import Shape
from ristretto.graph.registry import LayerContext


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a layer, brought into the shape of its scores with a class axis of length 1.

    Attributes:
        numbers: int64 indices; 0 where the label does not count.
        ignored: bool, whether a place does not count; None where all do.
    """

    numbers: str
    ignored: str | None


def emit_labels(context: LayerContext, value: str, shape: Shape, axis: int, ignore: int | None) -> Labels:
    """Append what turns a blob of labels into indices along an axis of scores.

    Args:
        context: the layer.
        value: the labels, float32, one for each place of the scores and in their order.
        shape: the scores' shape.
        axis: the class axis.
        ignore: the label of places that do not count, if there is one.
    """
    places = [*shape[:axis], 1, *shape[axis + 1 :]]
    if axis > 0:
        places[0] = -1
    shaped = context.op("Reshape", value, context.nodes.ints(places))
    numbers = context.op("Cast", shaped, to=onnx.TensorProto.INT64)
    if ignore is None:
        return Labels(numbers, None)
    ignored = context.op("Equal", numbers, context.nodes.ints(ignore))
    return Labels(context.op("Where", ignored, context.nodes.ints(0), numbers), ignored)


def emit_one_hot(context: LayerContext, labels: Labels, shape: Shape, axis: int) -> str:
    """Append the comparison of labels with all class numbers: bool, of the scores' shape."""
    classes = np.arange(shape[axis], dtype=np.int64).reshape(-1, *(1,) * (len(shape) - axis - 1))
    return context.op("Equal", labels.numbers, context.weight(classes, "classes"))


def emit_masked(context: LayerContext, values: str, labels: Labels) -> str:
    """Append zeros in the places that do not count."""
    if labels.ignored is None:
        return values
    return context.op("Where", labels.ignored, context.nodes.floats(0.0), values)


def emit_count(context: LayerContext, ignored: str) -> str:
    """Append the number of places that count, at least 1, as a float without axes."""
    counted = context.op("Cast", context.op("Not", ignored), to=onnx.TensorProto.FLOAT)
    return context.op("Max", context.op("ReduceSum", counted, keepdims=0), context.nodes.floats(1.0))


def emit_normalized(context: LayerContext, losses: str, labels: Labels, params: LossParams, per_item: int) -> str:
    """Append the sum of the losses over what the normalization says (loss_layer.cpp, GetNormalizer).

    Args:
        context: the layer.
        losses: one for each place, zero where a place does not count.
        labels: which places count.
        params: the layer's loss_param.
        per_item: number of places of one item of the batch.
    """
    if params.normalization == "NONE":
        return context.op("ReduceSum", losses, keepdims=0)
    if params.normalization == "VALID" and labels.ignored is not None:
        total = context.op("ReduceSum", losses, keepdims=0)
        return context.op("Div", total, emit_count(context, labels.ignored))
    mean = context.op("ReduceMean", losses, keepdims=0)
    if params.normalization == "BATCH_SIZE" and per_item != 1:
        return context.op("Mul", mean, context.nodes.floats(float(per_item)))
    return mean

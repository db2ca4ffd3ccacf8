"""Softmax, Accuracy and the losses over classes."""

from __future__ import annotations

import math

import numpy as np
import onnx

from ristretto.caffe.catalogue.classification import accuracy_params, class_axis, infogain_matrix, loss_params
from ristretto.graph.layers.labels import (
    emit_count,
    emit_labels,
    emit_masked,
    emit_normalized,
    emit_one_hot,
)
from ristretto.graph.registry import LayerContext, emits

_LEAST_NORMAL = float(np.finfo(np.float32).tiny)
"""The least probability that SoftmaxWithLoss takes the logarithm of (FLT_MIN)."""

_LOG_THRESHOLD = 1e-20
"""The least probability that the other losses take the logarithm of (loss_layer.hpp, kLOG_THRESHOLD)."""


@emits("Softmax")
def softmax(context: LayerContext) -> list[str]:
    """Exponentials over their sum along an axis (softmax_layer.cpp)."""
    axis = class_axis(context.layer, context.input_shapes[0], "softmax_param")
    return [context.op("Softmax", context.inputs[0], axis=axis)]


def _logarithm(context: LayerContext, probabilities: str, least: float) -> str:
    """The logarithm of probabilities that are not let below a least one."""
    return context.op("Log", context.op("Max", probabilities, context.nodes.floats(least)))


@emits("SoftmaxWithLoss")
def softmax_loss(context: LayerContext) -> list[str]:
    """Minus the logarithm of the label's probability; and the probabilities (softmax_loss_layer.cpp)."""
    shape = context.input_shapes[0]
    axis = class_axis(context.layer, shape, "softmax_param")
    params = loss_params(context.layer)
    labels = emit_labels(context, context.inputs[1], shape, axis, params.ignore_label)
    probabilities = context.op("Softmax", context.inputs[0], axis=axis)
    picked = context.op("GatherElements", probabilities, labels.numbers, axis=axis)
    losses = emit_masked(context, context.op("Neg", _logarithm(context, picked, _LEAST_NORMAL)), labels)
    loss = emit_normalized(context, losses, labels, params, math.prod(shape[axis + 1 :]))
    return [loss, probabilities][: len(context.output_shapes)]


@emits("InfogainLoss")
def infogain_loss(context: LayerContext) -> list[str]:
    """Minus the logarithms of all probabilities, weighted by the label's row (infogain_loss_layer.cpp)."""
    shape = context.input_shapes[0]
    axis = class_axis(context.layer, shape, "infogain_loss_param")
    params = loss_params(context.layer)
    labels = emit_labels(context, context.inputs[1], shape, axis, params.ignore_label)
    probabilities = context.op("Softmax", context.inputs[0], axis=axis)
    if len(context.inputs) == 3:
        matrix = context.op("Reshape", context.inputs[2], context.nodes.ints([shape[axis]] * 2))
    else:
        matrix = context.weight(infogain_matrix(context.layer, shape[axis]), "infogain")
    # (n, 1, ...) labels make rows (n, 1, ..., classes); the logarithms are brought into that order.
    rows = context.op("Gather", matrix, labels.numbers, axis=0)
    logarithms = context.op("Unsqueeze", _logarithm(context, probabilities, _LOG_THRESHOLD), context.nodes.ints([-1]))
    order = [len(shape) if position == axis else position for position in range(len(shape))]
    turned = context.op("Transpose", logarithms, perm=[*order, axis])
    sums = context.op("ReduceSum", context.op("Mul", rows, turned), context.nodes.ints([-1]), keepdims=0)
    losses = emit_masked(context, context.op("Neg", sums), labels)
    loss = emit_normalized(context, losses, labels, params, math.prod(shape[axis + 1 :]))
    return [loss, probabilities][: len(context.output_shapes)]


@emits("MultinomialLogisticLoss")
def multinomial_logistic_loss(context: LayerContext) -> list[str]:
    """Minus the logarithm of the label's probability (multinomial_logistic_loss_layer.cpp)."""
    n, classes = context.input_shapes[0][0], math.prod(context.input_shapes[0][1:])
    labels = emit_labels(context, context.inputs[1], (n, classes), 1, None)
    rows = context.op("Flatten", context.inputs[0], axis=1)
    picked = context.op("GatherElements", rows, labels.numbers, axis=1)
    losses = context.op("Neg", _logarithm(context, picked, _LOG_THRESHOLD))
    return [context.op("ReduceMean", losses, keepdims=0)]


@emits("HingeLoss")
def hinge_loss(context: LayerContext) -> list[str]:
    """How far each score misses its margin of 1, or that squared, over the batch (hinge_loss_layer.cpp)."""
    n, classes = context.input_shapes[0][0], math.prod(context.input_shapes[0][1:])
    labels = emit_labels(context, context.inputs[1], (n, classes), 1, None)
    rows = context.op("Flatten", context.inputs[0], axis=1)
    chosen = emit_one_hot(context, labels, (n, classes), 1)
    signed = context.op("Where", chosen, context.op("Neg", rows), rows)
    misses = context.op("Relu", context.op("Add", signed, context.nodes.floats(1.0)))
    if context.layer.view.child("hinge_loss_param").text("norm") == "L2":
        misses = context.op("Mul", misses, misses)
    sums = context.op("ReduceSum", misses, context.nodes.ints([1]), keepdims=0)
    return [context.op("ReduceMean", sums, keepdims=0)]


@emits("Accuracy")
def accuracy(context: LayerContext) -> list[str]:
    """The part of the places that are right, and that of each class (accuracy_layer.cpp).

    A place is right if fewer than top_k other classes have a value >= the label's: a tie counts against it. NaN among
    the values of a place that counts makes the score NaN: Caffe counts the place as right, for no comparison holds.
    """
    shape = context.input_shapes[0]
    params = accuracy_params(context.layer, shape)
    axis = params.axis
    labels = emit_labels(context, context.inputs[1], shape, axis, params.ignore_label)
    own = context.op("GatherElements", context.inputs[0], labels.numbers, axis=axis)
    as_good = context.op("GreaterOrEqual", context.inputs[0], own)
    as_good = context.op("Cast", as_good, to=onnx.TensorProto.INT32)
    place = context.op("ReduceSum", as_good, context.nodes.ints([axis]), keepdims=1)
    # The label's own class is among those counted.
    limit = context.nodes.constant(np.asarray(params.top_k, np.int32))
    right = context.op("Cast", context.op("LessOrEqual", place, limit), to=onnx.TensorProto.FLOAT)
    nan = context.op("Cast", context.op("IsNaN", context.inputs[0]), to=onnx.TensorProto.INT32)
    nans = context.op("ReduceSum", nan, context.nodes.ints([axis]), keepdims=1)
    broken = context.op("Cast", nans, to=onnx.TensorProto.BOOL)
    right = context.op("Where", broken, context.nodes.floats(math.nan), right)
    right = emit_masked(context, right, labels)
    if labels.ignored is None:
        score = context.op("ReduceMean", right, keepdims=0)
    else:
        total = context.op("ReduceSum", right, keepdims=0)
        score = context.op("Div", total, emit_count(context, labels.ignored))
    if len(context.output_shapes) == 1:
        return [score]
    members = context.op("Cast", emit_one_hot(context, labels, shape, axis), to=onnx.TensorProto.FLOAT)
    members = emit_masked(context, members, labels)
    others = context.nodes.ints([position for position in range(len(shape)) if position != axis])
    sizes = context.op("ReduceSum", members, others, keepdims=0)
    hits = context.op("ReduceSum", context.op("Mul", members, right), others, keepdims=0)
    return [score, context.op("Div", hits, context.op("Max", sizes, context.nodes.floats(1.0)))]

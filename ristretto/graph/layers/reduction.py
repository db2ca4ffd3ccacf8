"""Reduction and ArgMax."""

from __future__ import annotations

import math

import onnx

from ristretto.caffe.catalogue.reduction import argmax_params, reduction_params
from ristretto.graph.registry import LayerContext, emits

_OPS = {"ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}


@emits("Reduction")
def reduction(context: LayerContext) -> list[str]:
    """All axes from one on become one number, times a coefficient (reduction_layer.cpp)."""
    rank = len(context.input_shapes[0])
    params = reduction_params(context.layer, rank)
    axes = list(range(params.axis, rank))
    if params.operation == "SUM":
        # ReduceSum takes its axes as an input since opset 13, the others still as an attribute.
        result = context.op("ReduceSum", context.inputs[0], context.nodes.ints(axes), keepdims=0)
    else:
        result = context.op(_OPS[params.operation], context.inputs[0], axes=axes, keepdims=0)
    if params.coeff != 1.0:
        result = context.op("Mul", result, context.nodes.floats(params.coeff))
    return [result]


@emits("ArgMax")
def argmax(context: LayerContext) -> list[str]:
    """Where the largest values are, or what they are (argmax_layer.cpp).

    Caffe sorts pairs of value and index, so that among equal values the one behind comes first.
    """
    shape = context.input_shapes[0]
    params = argmax_params(context.layer, shape)
    if params.axis is None:
        value, axis, length = context.op("Flatten", context.inputs[0], axis=1), 1, math.prod(shape[1:])
    else:
        value, axis, length = context.inputs[0], params.axis, shape[params.axis]
    if params.top_k == 1 and not params.out_max_val:
        last = context.op("ArgMax", value, axis=axis, keepdims=1, select_last_index=1)
        result = context.op("Cast", last, to=onnx.TensorProto.FLOAT)
    else:
        values, numbers = _largest(context, value, axis, length, params.top_k)
        result = values if params.out_max_val else numbers
        if params.out_max_val and params.axis is None:
            result = context.op("Concat", numbers, values, axis=1)
    if params.axis is not None:
        return [result]
    return [context.op("Reshape", result, context.nodes.ints([-1, *context.output_shapes[0][1:]]))]


def _largest(context: LayerContext, value: str, axis: int, length: int, top_k: int) -> tuple[str, str]:
    """The largest values along an axis and, as floats, their indices; of equals the last first.

    TopK puts the first of equals first, so it is given the values from the last to the first.
    """
    ints = context.nodes.ints
    turned = context.op("Slice", value, ints([length - 1]), ints([-length - 1]), ints([axis]), ints([-1]))
    values, behind = context.nodes.ops("TopK", turned, ints([top_k]), count=2, axis=axis)
    numbers = context.op("Sub", ints(length - 1), behind)
    return values, context.op("Cast", numbers, to=onnx.TensorProto.FLOAT)

"""Layers that join, cut or pick whole blobs."""

from __future__ import annotations

import onnx

from ristretto.caffe.catalogue.combining import concat_axis, eltwise_params, slice_lengths
from ristretto.graph.registry import LayerContext, emits


@emits("Eltwise")
def eltwise(context: LayerContext) -> list[str]:
    """Product, weighted sum or maximum of the bottoms, from the first to the last (eltwise_layer.cpp)."""
    params = eltwise_params(context.layer)
    if params.operation == "MAX":
        return [context.op("Max", *context.inputs)]
    if params.operation == "PROD":
        return [_fold(context, "Mul", context.inputs)]
    if params.coeffs == (1.0, -1.0):
        return [context.op("Sub", *context.inputs)]
    terms = [
        value if coeff == 1.0 else context.op("Mul", value, context.nodes.floats(coeff))
        for value, coeff in zip(context.inputs, params.coeffs, strict=True)
    ]
    return [_fold(context, "Add", terms)]


def _fold(context: LayerContext, op_type: str, values: list[str] | tuple[str, ...]) -> str:
    result = values[0]
    for value in values[1:]:
        result = context.op(op_type, result, value)
    return result


@emits("Concat")
def concat(context: LayerContext) -> list[str]:
    """The bottoms end to end along an axis (concat_layer.cpp)."""
    if len(context.inputs) == 1:
        return [context.inputs[0]]
    axis = concat_axis(context.layer, len(context.input_shapes[0]))
    return [context.op("Concat", *context.inputs, axis=axis)]


@emits("Slice")
def slice_(context: LayerContext) -> list[str]:
    """The bottom cut along an axis (slice_layer.cpp)."""
    shape = context.input_shapes[0]
    axis = concat_axis(context.layer, len(shape))
    lengths = slice_lengths(context.layer, shape[axis])
    if len(lengths) == 1:
        return [context.inputs[0]]
    cuts = context.nodes.ints(lengths)
    return context.nodes.ops("Split", context.inputs[0], cuts, count=len(lengths), axis=axis)


@emits("Split")
def split(context: LayerContext) -> list[str]:
    """The bottom, under several names (split_layer.cpp)."""
    return [context.inputs[0]] * len(context.output_shapes)


@emits("Silence", "HDF5Output")
def silence(_context: LayerContext) -> list[str]:
    """Nothing (silence_layer.cpp, hdf5_output_layer.cpp)."""
    return []


@emits("Filter")
def filter_(context: LayerContext) -> list[str]:
    """The items whose selector is not zero (filter_layer.cpp)."""
    *blobs, selector = context.inputs
    flat = context.op("Reshape", selector, context.nodes.ints([-1]))
    chosen = context.op("Cast", flat, to=onnx.TensorProto.BOOL)
    return [context.op("Compress", blob, chosen, axis=0) for blob in blobs]


@emits("BatchReindex")
def batch_reindex(context: LayerContext) -> list[str]:
    """The first bottom's items in the order of the second's numbers (batch_reindex_layer.cpp)."""
    numbers = context.op("Cast", context.inputs[1], to=onnx.TensorProto.INT64)
    return [context.op("Gather", context.inputs[0], numbers, axis=0)]

"""InnerProduct and Embed as ONNX Gemm and Gather."""

from __future__ import annotations

import onnx

from ristretto.caffe.catalogue.inner_product import inner_product_params
from ristretto.graph.registry import LayerContext, emits


@emits("InnerProduct", "FcRistretto")
def inner_product(context: LayerContext) -> list[str]:
    """Emit Gemm on the bottom with its axes folded into two (inner_product_layer.cpp)."""
    shape = context.input_shapes[0]
    params = inner_product_params(context.layer, len(shape))
    value = context.inputs[0]
    if (len(shape), params.axis) != (2, 1):
        value = context.op("Flatten", value, axis=params.axis)
    result = context.linear("Gemm", [value], transB=0 if params.transpose else 1)[0]
    if params.axis == 0:
        return [context.op("Reshape", result, context.nodes.ints([-1]))]
    if params.axis > 1:
        batch = [-1, *shape[1 : params.axis], params.num_output]
        result = context.op("Reshape", result, context.nodes.ints(batch))
    return [result]


@emits("Embed")
def embed(context: LayerContext) -> list[str]:
    """Emit Gather of rows, and the bias (embed_layer.cpp)."""
    rows, *bias = context.blobs
    numbers = context.op("Cast", context.inputs[0], to=onnx.TensorProto.INT64)
    result = context.op("Gather", context.weight(rows), numbers, axis=0)
    if bias:
        result = context.op("Add", result, context.weight(bias[0], "bias"))
    return [result]

"""Scale, Bias and Axpy as ONNX Mul and Add."""

from __future__ import annotations

from ristretto.caffe.catalogue.scaling import ScaleParams, scale_params
from ristretto.graph.registry import LayerContext, emits


def _trailing(params: ScaleParams, rank: int) -> int:
    """How many axes of the first bottom come after those of the factors."""
    return rank - params.axis - len(params.shape)


def _constant(context: LayerContext, params: ScaleParams, position: int, stem: str) -> str:
    """A blob, shaped to be broadcast over the first bottom."""
    trailing = _trailing(params, len(context.input_shapes[0]))
    return context.weight(context.blobs[position].reshape(*params.shape, *(1,) * trailing), stem)


def _second_bottom(context: LayerContext, params: ScaleParams) -> str:
    """The second bottom, shaped to be broadcast over the first."""
    trailing = _trailing(params, len(context.input_shapes[0]))
    if not trailing or not params.shape:
        return context.inputs[1]
    axes = range(len(params.shape), len(params.shape) + trailing)
    return context.op("Unsqueeze", context.inputs[1], context.nodes.ints(list(axes)))


@emits("Scale")
def scale(context: LayerContext) -> list[str]:
    """Factors from a blob or a second bottom, then a sum with a blob (scale_layer.cpp)."""
    params = scale_params(context.layer, context.input_shapes)
    factors = _constant(context, params, 0, "scale") if params.learned else _second_bottom(context, params)
    result = context.op("Mul", context.inputs[0], factors)
    if params.bias_term:
        result = context.op("Add", result, _constant(context, params, int(params.learned), "bias"))
    return [result]


@emits("Bias")
def bias(context: LayerContext) -> list[str]:
    """Summands from a blob or a second bottom (bias_layer.cpp)."""
    params = scale_params(context.layer, context.input_shapes)
    summands = _constant(context, params, 0, "bias") if params.learned else _second_bottom(context, params)
    return [context.op("Add", context.inputs[0], summands)]


@emits("Axpy")
def axpy(context: LayerContext) -> list[str]:
    """``a * x + y`` with one factor for each image and channel (hujie-frank/SENet axpy_layer.cpp)."""
    factors, x, y = context.inputs
    missing = range(len(context.input_shapes[0]), len(context.input_shapes[1]))
    if missing:
        factors = context.op("Unsqueeze", factors, context.nodes.ints(list(missing)))
    return [context.op("Add", context.op("Mul", factors, x), y)]

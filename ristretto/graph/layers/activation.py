"""Layers that map every value by itself."""

from __future__ import annotations

import numpy as np
import onnx

from ristretto.caffe.catalogue.activation import (
    AffineParams,
    base_params,
    clip_bounds,
    dropout_ratio,
    power_params,
)
from ristretto.graph.registry import LayerContext, emits


@emits("ReLU")
def relu(context: LayerContext) -> list[str]:
    """``max(x, 0) + negative_slope * min(x, 0)`` (relu_layer.cpp)."""
    slope = context.layer.view.child("relu_param").number("negative_slope")
    if slope == 0.0:
        return [context.op("Relu", context.inputs[0])]
    return [context.op("LeakyRelu", context.inputs[0], alpha=slope)]


@emits("PReLU")
def prelu(context: LayerContext) -> list[str]:
    """``max(x, 0) + slope * min(x, 0)`` with a slope per channel, or one for all (prelu_layer.cpp)."""
    slopes = context.blobs[0].reshape(-1, *(1,) * (len(context.input_shapes[0]) - 2))
    return [context.op("PRelu", context.inputs[0], context.weight(slopes, "slope"))]


@emits("TanH")
def tanh(context: LayerContext) -> list[str]:
    """The hyperbolic tangent (tanh_layer.cpp)."""
    return [context.op("Tanh", context.inputs[0])]


@emits("Sigmoid")
def sigmoid(context: LayerContext) -> list[str]:
    """``1 / (1 + exp(-x))`` (sigmoid_layer.cpp)."""
    return [context.op("Sigmoid", context.inputs[0])]


@emits("ELU")
def elu(context: LayerContext) -> list[str]:
    """``x`` above zero, ``alpha * (exp(x) - 1)`` below (elu_layer.cpp)."""
    alpha = context.layer.view.child("elu_param").number("alpha")
    return [context.op("Elu", context.inputs[0], alpha=alpha)]


@emits("Swish")
def swish(context: LayerContext) -> list[str]:
    """``x * sigmoid(beta * x)`` (swish_layer.cpp)."""
    beta = context.layer.view.child("swish_param").number("beta")
    inner = _affine(context, AffineParams(beta, 0.0))
    return [context.op("Mul", context.inputs[0], context.op("Sigmoid", inner))]


@emits("Clip")
def clip(context: LayerContext) -> list[str]:
    """Saturate to two bounds (clip_layer.cpp)."""
    least, most = clip_bounds(context.layer)
    return [context.op("Clip", context.inputs[0], context.nodes.floats(least), context.nodes.floats(most))]


@emits("ReLU6")
def relu6(context: LayerContext) -> list[str]:
    """``min(max(x, 0), 6) + negative_slope * min(x, 0)`` (chuanqi305/ssd relu6_layer.cpp)."""
    slope = context.layer.view.child("relu6_param").number("negative_slope")
    six = context.nodes.floats(6.0)
    if slope == 0.0:
        return [context.op("Clip", context.inputs[0], context.nodes.floats(0.0), six)]
    below = context.op("Min", context.inputs[0], context.nodes.floats(0.0))
    above = context.op("Clip", context.inputs[0], context.nodes.floats(0.0), six)
    return [context.op("Add", above, context.op("Mul", below, context.nodes.floats(slope)))]


@emits("AbsVal")
def absolute(context: LayerContext) -> list[str]:
    """``|x|`` (absval_layer.cpp)."""
    return [context.op("Abs", context.inputs[0])]


def _affine(context: LayerContext, params: AffineParams) -> str:
    """``shift + scale * x``, without the steps that change nothing."""
    value = context.inputs[0]
    if params.scale != 1.0:
        value = context.op("Mul", value, context.nodes.floats(params.scale))
    if params.shift != 0.0:
        value = context.op("Add", value, context.nodes.floats(params.shift))
    return value


@emits("Power")
def power(context: LayerContext) -> list[str]:
    """``(shift + scale * x) ** power``; a constant where power or scale is 0 (power_layer.cpp)."""
    params = power_params(context.layer)
    exponent, inner = params.power, params.inner
    if exponent * inner.scale == 0.0:
        with np.errstate(all="ignore"):  # C's pow knows infinities and no exceptions
            constant = float(np.power(np.float64(inner.shift), exponent))
        return [context.op("Expand", context.nodes.floats(constant), context.op("Shape", context.inputs[0]))]
    base = _affine(context, inner)
    return [base if exponent == 1.0 else context.op("Pow", base, context.nodes.floats(exponent))]


@emits("Exp")
def exponential(context: LayerContext) -> list[str]:
    """``base ** (shift + scale * x)`` (exp_layer.cpp)."""
    logarithm, inner = base_params(context.layer, "exp_param")
    scaled = AffineParams(logarithm * inner.scale, logarithm * inner.shift)
    return [context.op("Exp", _affine(context, scaled))]


@emits("Log")
def logarithm(context: LayerContext) -> list[str]:
    """The logarithm of ``shift + scale * x`` to a base (log_layer.cpp)."""
    base, inner = base_params(context.layer, "log_param")
    result = context.op("Log", _affine(context, inner))
    return [result if base == 1.0 else context.op("Mul", result, context.nodes.floats(1.0 / base))]


@emits("BNLL")
def binomial_normal(context: LayerContext) -> list[str]:
    """``log(1 + exp(x))``, which ONNX calls Softplus (bnll_layer.cpp)."""
    return [context.op("Softplus", context.inputs[0])]


@emits("Threshold")
def threshold(context: LayerContext) -> list[str]:
    """1 above the threshold, else 0 (threshold_layer.cpp)."""
    bound = context.layer.view.child("threshold_param").number("threshold")
    above = context.op("Greater", context.inputs[0], context.nodes.floats(bound))
    return [context.op("Cast", above, to=onnx.TensorProto.FLOAT)]


@emits("Dropout")
def dropout(context: LayerContext) -> list[str]:
    """The bottom in TEST; in TRAIN some values set to zero and the others scaled up (dropout_layer.cpp)."""
    ratio = dropout_ratio(context.layer)
    value = context.inputs[0]
    if context.layer.phase == "TEST" or ratio == 0.0:
        return [value]
    seed = float(context.seed % (1 << 24))
    uniform = context.op("RandomUniformLike", value, low=0.0, high=1.0, seed=seed)
    kept = context.op("GreaterOrEqual", uniform, context.nodes.floats(ratio))
    mask = context.op("Cast", kept, to=onnx.TensorProto.FLOAT)
    factors = context.op("Mul", mask, context.nodes.floats(1.0 / (1.0 - ratio)))
    return [context.op("Mul", value, factors)]

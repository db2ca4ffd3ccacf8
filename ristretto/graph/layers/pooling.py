"""Pooling and SPP as ONNX pooling, padded at the end by as much as Caffe's windows overhang."""

from __future__ import annotations

import numpy as np
import onnx

from ristretto.caffe.catalogue.pooling import Pair, PoolParams, pool_params, pyramid_params
from ristretto.graph.registry import LayerContext, emits

_LEAST = float(np.finfo(np.float32).min)
"""What Caffe starts a maximum from (-FLT_MAX)."""

_LEAST_NORMAL = float(np.finfo(np.float32).tiny)
"""What Caffe starts the divisor of stochastic pooling from (FLT_MIN)."""


def _overhang(params: PoolParams, size: Pair) -> Pair:
    """How far the last window reaches beyond the image, along height and width; never negative."""
    columns = zip(params.output(size), params.stride, params.kernel, params.pad, size, strict=True)
    high, wide = (
        max(0, (windows - 1) * stride - pad + kernel - length) for windows, stride, kernel, pad, length in columns
    )
    return high, wide


def _misses_image(params: PoolParams, size: Pair) -> bool:
    """Whether a window lies beside the image: only without padding, with a stride larger than the kernel."""
    overhang = _overhang(params, size)
    return overhang[0] >= params.kernel[0] or overhang[1] >= params.kernel[1]


def _padded(context: LayerContext, value: str, begin: Pair, end: Pair, fill: float) -> str:
    """Append Pad for height and width."""
    sides = context.nodes.ints([0, 0, *begin, 0, 0, *end])
    return context.op("Pad", value, sides, context.nodes.floats(fill))


def _max(context: LayerContext, value: str, params: PoolParams, size: Pair) -> str:
    if params.whole:
        return context.op("GlobalMaxPool", value)
    pads = (*params.pad, *_overhang(params, size))
    if _misses_image(params, size):
        value = _padded(context, value, pads[:2], pads[2:], _LEAST)
        pads = (0, 0, 0, 0)
    return context.op("MaxPool", value, kernel_shape=params.kernel, strides=params.stride, pads=pads)


def _max_with_mask(context: LayerContext, value: str, params: PoolParams, size: Pair) -> list[str]:
    """The maxima, and where in its channel's image each was found, counted row by row."""
    if _misses_image(params, size):
        what = "the last pooling window lies beside the image, where there is no maximum"
        cure = "make the stride no larger than the kernel, or set round_mode: FLOOR"
        raise context.layer.view.error(what, cure=cure, field="pooling_param")
    maxima, indices = context.nodes.ops(
        "MaxPool",
        value,
        count=2,
        kernel_shape=params.kernel,
        strides=params.stride,
        pads=(*params.pad, *_overhang(params, size)),
    )
    positions = context.op("Mod", indices, context.nodes.ints(size[0] * size[1]))
    return [maxima, context.op("Cast", positions, to=onnx.TensorProto.FLOAT)]


def emit_average(context: LayerContext, value: str, params: PoolParams, size: Pair) -> str:
    """Append an average pooling whose divisor counts what Caffe counts.

    That is the part of the window within the image and its padding (pooling_layer.cpp, Forward_cpu). ONNX
    counts either all of the window or only the image: the one is right where no window reaches beyond the
    padding, the other where there is no padding. Where neither holds, the padding becomes part of the image.
    """
    if params.whole:
        return context.op("GlobalAveragePool", value)
    _require_values(context, params, size)
    overhang = _overhang(params, size)
    pads = (*params.pad, *overhang)
    inside = overhang[0] <= params.pad[0] and overhang[1] <= params.pad[1]
    if not inside and params.pad != (0, 0):
        value = _padded(context, value, params.pad, params.pad, 0.0)
        pads = (0, 0, max(0, overhang[0] - params.pad[0]), max(0, overhang[1] - params.pad[1]))
    return context.op(
        "AveragePool",
        value,
        kernel_shape=params.kernel,
        strides=params.stride,
        pads=pads,
        count_include_pad=1 if inside and any(pads) else None,
    )


def _require_values(context: LayerContext, params: PoolParams, size: Pair) -> None:
    if _misses_image(params, size):
        what = "the last pooling window lies beside the image, where Caffe's average divides by nothing"
        cure = "make the stride no larger than the kernel, or set round_mode: FLOOR"
        raise context.layer.view.error(what, cure=cure, field="pooling_param")


def emit_average_of_doubles(context: LayerContext, value: str, params: PoolParams, size: Pair) -> str:
    """Append the same on float64 values, for which onnxruntime has no pooling: a sum, divided once."""
    nodes = context.nodes
    if params.whole:
        total = nodes.op("ReduceSum", value, nodes.ints([2, 3]), keepdims=1)
        return nodes.op("Div", total, nodes.constant(np.asarray(size[0] * size[1], np.float64)))
    _require_values(context, params, size)
    sides = nodes.ints([0, 0, *params.pad, 0, 0, *_overhang(params, size)])
    total = nodes.op("Pad", value, sides, nodes.constant(np.zeros((), np.float64)))
    counts = np.ones((1, 1), np.float64)
    columns = zip(params.output(size), params.kernel, params.stride, params.pad, size, strict=True)
    for axis, (windows, kernel, stride, pad, length) in enumerate(columns):
        total = _sum_of_windows(context, total, axis + 2, windows, kernel, stride)
        starts = np.arange(windows) * stride - pad
        inside = np.minimum(starts + kernel, length + pad) - starts
        counts = counts * np.expand_dims(inside, 1 - axis)
    return nodes.op("Div", total, nodes.constant(counts))


def _sum_of_windows(context: LayerContext, value: str, axis: int, windows: int, kernel: int, stride: int) -> str:
    """The sums of windows along one axis."""
    nodes, total = context.nodes, ""
    for place in range(kernel):
        bounds = (place, place + (windows - 1) * stride + 1, axis, stride)
        part = nodes.op("Slice", value, *(nodes.ints([bound]) for bound in bounds))
        total = nodes.op("Add", total, part) if total else part
    return total


def _stochastic(context: LayerContext, value: str, params: PoolParams, size: Pair) -> str:
    """The mean of a window weighted by its own values, as in TEST (pooling_layer.cu, StoPoolForwardTest)."""
    if context.layer.phase == "TRAIN":
        what = "STOCHASTIC pooling draws random positions in phase TRAIN, which cannot be run"
        raise context.layer.view.error(what, cure="run phase TEST, or use MAX or AVE", field="pooling_param")
    squares = emit_average(context, context.op("Mul", value, value), params, size)
    divisor = emit_average(context, value, params, size)
    return context.op("Div", squares, context.op("Add", divisor, context.nodes.floats(_LEAST_NORMAL)))


_METHODS = {"MAX": _max, "AVE": emit_average, "STOCHASTIC": _stochastic}


@emits("Pooling")
def pooling(context: LayerContext) -> list[str]:
    """Emit one pooling and, for a second top, the positions of the maxima."""
    shape = context.input_shapes[0]
    params = pool_params(context.layer, shape)
    size = (shape[2], shape[3])
    if len(context.output_shapes) == 2:
        return _max_with_mask(context, context.inputs[0], params, size)
    return [_METHODS[params.method](context, context.inputs[0], params, size)]


@emits("SPP")
def spatial_pyramid(context: LayerContext) -> list[str]:
    """Emit one pooling per level, each flattened, and join them (spp_layer.cpp)."""
    shape = context.input_shapes[0]
    size = (shape[2], shape[3])
    levels = [
        _METHODS[params.method](context, context.inputs[0], params, size)
        for params in pyramid_params(context.layer, shape)
    ]
    if len(levels) == 1:
        return levels
    return [context.op("Concat", *(context.op("Flatten", level, axis=1) for level in levels), axis=1)]

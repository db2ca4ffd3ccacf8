"""Convolution, Deconvolution and Im2col as ONNX Conv and ConvTranspose."""

from __future__ import annotations

import math

import numpy as np

from ristretto.caffe.catalogue.convolution import DEPTHWISE_TYPES, conv_params, im2col_window
from ristretto.caffe.netspec import Shape
from ristretto.graph.registry import LayerContext, emits


def _images(context: LayerContext, value: str, shape: Shape, axis: int) -> str:
    """Bring a bottom whose channel axis is not 1 into ONNX's (n, c, spatial...) form."""
    if axis == 1:
        return value
    return context.op("Reshape", value, context.nodes.ints([-1, *shape[axis:]]))


def _blob(context: LayerContext, value: str, shape: Shape, axis: int) -> str:
    """Undo ``_images`` for a top of the given shape."""
    if axis == 1:
        return value
    batch = shape if axis == 0 else (-1, *shape[1:])
    return context.op("Reshape", value, context.nodes.ints(batch))


def _emit(context: LayerContext, op_type: str) -> list[str]:
    params = conv_params(context.layer, context.input_shapes[0])
    images = zip(context.inputs, context.input_shapes, strict=True)
    results = context.linear(
        op_type,
        [_images(context, value, shape, params.axis) for value, shape in images],
        kernel_shape=params.window.kernel,
        strides=params.window.stride,
        pads=params.window.pad * 2,
        dilations=params.window.dilation,
        group=params.group,
    )
    blobs = zip(results, context.output_shapes, strict=True)
    return [_blob(context, result, shape, params.axis) for result, shape in blobs]


@emits("Convolution", "ConvolutionRistretto", *sorted(DEPTHWISE_TYPES))
def convolution(context: LayerContext) -> list[str]:
    """Emit Conv, one per bottom, all with the same weights (conv_layer.cpp)."""
    return _emit(context, "Conv")


@emits("Deconvolution", "DeconvolutionRistretto")
def deconvolution(context: LayerContext) -> list[str]:
    """Emit ConvTranspose, one per bottom (deconv_layer.cpp)."""
    return _emit(context, "ConvTranspose")


@emits("Im2col")
def im2col(context: LayerContext) -> list[str]:
    """Emit a depthwise Conv of which each output picks one position of the window (im2col_layer.cpp)."""
    shape = context.input_shapes[0]
    axis, window = im2col_window(context.layer, shape)
    positions = math.prod(window.kernel)
    pickers = np.eye(positions, dtype=np.float32).reshape(positions, 1, *window.kernel)
    result = context.op(
        "Conv",
        _images(context, context.inputs[0], shape, axis),
        context.weight(np.tile(pickers, (shape[axis],) + (1,) * (pickers.ndim - 1))),
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=window.pad * 2,
        dilations=window.dilation,
        group=shape[axis],
    )
    return [_blob(context, result, context.output_shapes[0], axis)]

"""Convolution and Deconvolution with torch's, Im2col with unfold."""

from __future__ import annotations

import math

from ristretto.caffe.catalogue.convolution import (
    DEPTHWISE_TYPES,
    conv_out,
    conv_params,
    deconv_out,
    im2col_window,
)
from ristretto.caffe.netspec import Shape
from ristretto.finetune.backend import Tensor, functional
from ristretto.finetune.products import convolve
from ristretto.finetune.registry import LayerPass, trains


def _images(value: Tensor, axis: int) -> Tensor:
    """A bottom whose channel axis is not 1 as (n, c, spatial...)."""
    return value if axis == 1 else value.reshape(-1, *value.shape[axis:])


def _run(given: LayerPass, *, transposed: bool) -> list[Tensor]:
    params = conv_params(given.layer, given.shapes[0])
    window = params.window
    axes = len(window.kernel)
    if axes > 3:
        what = f"a convolution over {axes} spatial axes cannot be trained"
        raise given.layer.view.error(what, field="type", cure="torch has them for up to 3")
    weight, bias = (*given.blobs, None)[:2]
    tops = []
    for value, shape in zip(given.inputs, given.shapes, strict=True):
        images = _images(value, params.axis)
        how = (window.stride, window.pad, window.dilation, params.group)
        result = convolve(images, weight, bias, *how, transposed=transposed)
        spatial = window.slide(deconv_out if transposed else conv_out, shape[params.axis + 1 :])
        tops.append(_blob(result, (*shape[: params.axis], params.num_output, *spatial), params.axis))
    return tops


def _blob(result: Tensor, shape: Shape, axis: int) -> Tensor:
    """Undo ``_images``."""
    return result if axis == 1 else result.reshape(shape)


@trains("Convolution", "ConvolutionRistretto", *sorted(DEPTHWISE_TYPES))
def convolution(given: LayerPass) -> list[Tensor]:
    """One per bottom, all with the same weights (conv_layer.cpp)."""
    return _run(given, transposed=False)


@trains("Deconvolution", "DeconvolutionRistretto")
def deconvolution(given: LayerPass) -> list[Tensor]:
    """One per bottom, all with the same weights (deconv_layer.cpp)."""
    return _run(given, transposed=True)


@trains("Im2col")
def im2col(given: LayerPass) -> list[Tensor]:
    """Every position of the window as a channel of its own (im2col_layer.cpp)."""
    shape = given.shapes[0]
    axis, window = im2col_window(given.layer, shape)
    if len(window.kernel) != 2:
        what = "Im2col over other than 2 spatial axes cannot be trained"
        raise given.layer.view.error(what, field="type", cure="leave the layer out of the net to train")
    columns = functional.unfold(
        _images(given.inputs[0], axis), window.kernel, window.dilation, window.pad, window.stride
    )
    spatial = window.slide(conv_out, shape[axis + 1 :])
    return [columns.reshape(*shape[:axis], shape[axis] * math.prod(window.kernel), *spatial)]

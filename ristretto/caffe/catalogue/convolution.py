"""Convolution and Deconvolution: parameters, shapes, weight shapes (BVLC/caffe base_conv_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import canonical_axis
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.view import View


@dataclass(frozen=True, slots=True)
class ConvParams:
    """A ConvolutionParameter for a given number of spatial axes (defaults: caffe.proto, ConvolutionParameter)."""

    num_output: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int
    bias_term: bool
    axis: int


def _per_axis(view: View, field: str, axes: int, default: int | None) -> tuple[int, ...]:
    """One value per spatial axis from a repeated field that holds none, one for all, or one each."""
    given = view.integers(field)
    if not given:
        if default is None:
            raise view.error(f"the layer needs {field}", cure=f"add {field} to its parameters", field=field)
        return (default,) * axes
    if len(given) not in (1, axes):
        raise view.error(f"{field} is given {len(given)} times for {axes} spatial axes", field=field)
    return given if len(given) == axes else given * axes


def _spatial(view: View, field: str, short: str, axes: int, default: int | None) -> tuple[int, ...]:
    """A spatial parameter from its ``_h``/``_w`` pair or from the repeated field."""
    if view.has(f"{short}_h") or view.has(f"{short}_w"):
        if axes != 2:
            raise view.error(f"{short}_h and {short}_w need a bottom with two spatial axes", field=f"{short}_h")
        return view.integer(f"{short}_h"), view.integer(f"{short}_w")
    return _per_axis(view, field, axes, default)


def conv_params(layer: LayerSpec, rank: int) -> ConvParams:
    """Read a layer's convolution_param for a bottom with ``rank`` axes.

    Raises:
        NetError: a value is missing or makes no sense.
    """
    view = layer.view.child("convolution_param")
    axis = canonical_axis(layer, view.integer("axis"), rank)
    axes = rank - axis - 1
    params = ConvParams(
        num_output=view.integer("num_output"),
        kernel=_spatial(view, "kernel_size", "kernel", axes, None),
        stride=_spatial(view, "stride", "stride", axes, 1),
        pad=_spatial(view, "pad", "pad", axes, 0),
        dilation=_per_axis(view, "dilation", axes, 1),
        group=view.integer("group"),
        bias_term=view.flag("bias_term"),
        axis=axis,
    )
    if params.num_output < 1:
        raise view.error("num_output must be at least 1", field="num_output")
    if params.group < 1 or params.num_output % params.group:
        raise view.error(f"num_output {params.num_output} is no multiple of group {params.group}", field="group")
    for field, values in (("kernel_size", params.kernel), ("stride", params.stride), ("dilation", params.dilation)):
        if min(values, default=1) < 1:
            raise view.error(f"{field} must be at least 1", field=field)
    return params


def conv_out(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Output length along one axis (conv_layer.cpp, compute_output_shape): rounds down, unlike pooling.

    C++ truncates where Python floors: the same unless the result would be negative, which the caller rejects.
    """
    extent = dilation * (kernel - 1) + 1
    return (size + 2 * pad - extent) // stride + 1


def deconv_out(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Output length of a deconvolution along one axis (deconv_layer.cpp, compute_output_shape)."""
    extent = dilation * (kernel - 1) + 1
    return stride * (size - 1) + extent - 2 * pad


def _shapes(layer: LayerSpec, inputs: tuple[Shape, ...], *, transposed: bool) -> LayerShapes:
    first = inputs[0]
    params = conv_params(layer, len(first))
    channels = first[params.axis]
    if channels % params.group:
        raise layer.view.error(f"{channels} input channels are no multiple of group {params.group}")
    rule = deconv_out if transposed else conv_out
    outputs = []
    for shape in inputs:
        if shape[: params.axis + 1] != first[: params.axis + 1] or len(shape) != len(first):
            raise layer.view.error(f"bottoms of shapes {first} and {shape} do not go together")
        spatial = tuple(
            rule(*sizes)
            for sizes in zip(
                shape[params.axis + 1 :], params.kernel, params.stride, params.pad, params.dilation, strict=True
            )
        )
        if min(spatial, default=1) < 1:
            cure = "make the kernel smaller, the padding larger, or feed a larger input"
            raise layer.view.error(f"the kernel {params.kernel} does not fit a bottom of shape {shape}", cure=cure)
        outputs.append((*shape[: params.axis], params.num_output, *spatial))
    if transposed:
        weight = (channels, params.num_output // params.group, *params.kernel)
    else:
        weight = (params.num_output, channels // params.group, *params.kernel)
    blobs = (weight, (params.num_output,)) if params.bias_term else (weight,)
    positions = inputs if transposed else outputs
    per_position = math.prod(weight[1:])
    macs = sum(math.prod(shape) * per_position for shape in positions)
    return LayerShapes(tuple(outputs), blobs, macs)


@shape_rule("Convolution", "ConvolutionRistretto", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Shapes of a convolution; weights are (num_output, channels / group, *kernel)."""
    return _shapes(layer, inputs, transposed=False)


@shape_rule("Deconvolution", "DeconvolutionRistretto")
def deconvolution_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Shapes of a deconvolution; weights are (channels, num_output / group, *kernel)."""
    return _shapes(layer, inputs, transposed=True)

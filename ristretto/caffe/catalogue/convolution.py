"""Convolution, Deconvolution, Im2col: parameters, shapes, weight shapes (BVLC/caffe base_conv_layer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import canonical_axis, require_equal_shapes
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.shape_limits import check_constant
from ristretto.caffe.view import View

DEPTHWISE_TYPES = frozenset({"ConvolutionDepthwise", "DepthwiseConvolution"})
"""Types of Caffe's forks that convolve every channel by itself, whether the prototxt says group or not."""

AxisRule = Callable[[int, int, int, int, int], int]
"""The length of an output axis from size, kernel, stride, pad and dilation."""


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel moves over the spatial axes, one value per axis (ConvolutionParameter)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    def slide(self, rule: AxisRule, sizes: Shape) -> Shape:
        """Apply a rule for one axis to all spatial axes."""
        columns = zip(sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return tuple(rule(*column) for column in columns)


@dataclass(frozen=True, slots=True)
class ConvParams:
    """A ConvolutionParameter for a given bottom (defaults: caffe.proto, ConvolutionParameter)."""

    num_output: int
    group: int
    bias_term: bool
    axis: int
    window: Window


def _per_axis(view: View, field: str, axes: int, default: int | None) -> tuple[int, ...]:
    """One value per spatial axis from a repeated field that holds none, one for all, or one each."""
    given = view.integers(field)
    if not given:
        if default is None:
            what = f"the layer needs {field}"
            raise view.error(what, cure=f"add {field} to its parameters", field=field)
        return (default,) * axes
    if len(given) not in (1, axes):
        what = f"{field} is given {len(given)} times for {axes} spatial axes"
        raise view.error(what, field=field)
    return given if len(given) == axes else given * axes


def _spatial(view: View, field: str, short: str, axes: int, default: int | None) -> tuple[int, ...]:
    """A spatial parameter from its ``_h``/``_w`` pair or from the repeated field."""
    if view.has(f"{short}_h") or view.has(f"{short}_w"):
        if axes != 2:
            what = f"{short}_h and {short}_w need a bottom with two spatial axes, this one has {axes}"
            raise view.error(what, cure=f"use {field}", field=f"{short}_h")
        if view.has(field):
            what = f"{field} is given beside {short}_h and {short}_w"
            raise view.error(what, cure="keep one of them", field=field)
        return view.integer(f"{short}_h"), view.integer(f"{short}_w")
    return _per_axis(view, field, axes, default)


def _window(layer: LayerSpec, view: View, axes: int) -> Window:
    if axes < 1:
        what = "the bottom has no spatial axis after the channel axis"
        raise layer.view.error(what, field="bottom")
    window = Window(
        kernel=_spatial(view, "kernel_size", "kernel", axes, None),
        stride=_spatial(view, "stride", "stride", axes, 1),
        pad=_spatial(view, "pad", "pad", axes, 0),
        dilation=_per_axis(view, "dilation", axes, 1),
    )
    for field, values in (
        ("kernel_size", window.kernel),
        ("stride", window.stride),
        ("dilation", window.dilation),
    ):
        if min(values) < 1:
            what = f"{field} must be at least 1 along every axis"
            raise view.error(what, field=field)
    return window


def conv_params(layer: LayerSpec, shape: Shape) -> ConvParams:
    """Read a layer's convolution_param for a bottom of the given shape.

    What the prototxt leaves out the depthwise types take from the bottom: one group and output per channel.

    Raises:
        NetError: a value is missing or makes no sense.
    """
    view = layer.view.child("convolution_param")
    axis = canonical_axis(layer, view.integer("axis"), len(shape))
    channels = shape[axis]
    depthwise = layer.type in DEPTHWISE_TYPES
    num_output = channels if depthwise and not view.has("num_output") else view.integer("num_output")
    group = channels if depthwise and not view.has("group") else view.integer("group")
    if num_output < 1:
        what = "num_output must be at least 1"
        raise view.error(what, cure="add num_output", field="num_output")
    if group < 1 or num_output % group:
        what = f"num_output {num_output} is no multiple of group {group}"
        raise view.error(what, field="group")
    if channels % group:
        what = f"{channels} input channels are no multiple of group {group}"
        raise view.error(what, field="group")
    window = _window(layer, view, len(shape) - axis - 1)
    return ConvParams(num_output, group, view.flag("bias_term"), axis, window)


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


def _slide(layer: LayerSpec, window: Window, rule: AxisRule, shape: Shape, axis: int) -> Shape:
    """The spatial output lengths for a bottom, none of them less than 1."""
    spatial = window.slide(rule, shape[axis + 1 :])
    if min(spatial) < 1:
        cure = "make the kernel smaller or the padding larger, or feed a larger input"
        if rule is deconv_out:
            cure = "make the padding smaller"
        what = f"a kernel of {window.kernel} with padding {window.pad} does not fit a bottom of shape {shape}"
        raise layer.view.error(what, cure=cure, field="convolution_param")
    return spatial


def _shapes(layer: LayerSpec, inputs: tuple[Shape, ...], *, transposed: bool) -> LayerShapes:
    require_equal_shapes(layer, inputs)
    shape = inputs[0]
    params = conv_params(layer, shape)
    rule = deconv_out if transposed else conv_out
    spatial = _slide(layer, params.window, rule, shape, params.axis)
    output = (*shape[: params.axis], params.num_output, *spatial)
    channels = shape[params.axis]
    if transposed:
        weight = (channels, params.num_output // params.group, *params.window.kernel)
    else:
        weight = (params.num_output, channels // params.group, *params.window.kernel)
    blobs = (weight, (params.num_output,)) if params.bias_term else (weight,)
    positions = math.prod(shape if transposed else output)
    macs = len(inputs) * positions * math.prod(weight[1:])
    return LayerShapes((output,) * len(inputs), blobs, macs)


@shape_rule("Convolution", "ConvolutionRistretto", *sorted(DEPTHWISE_TYPES), bottoms=(1, None), tops=(1, None))
def convolution_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Shapes of a convolution; weights are (num_output, channels / group, *kernel)."""
    return _shapes(layer, inputs, transposed=False)


@shape_rule("Deconvolution", "DeconvolutionRistretto", bottoms=(1, None), tops=(1, None))
def deconvolution_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Shapes of a deconvolution; weights are (channels, num_output / group, *kernel)."""
    return _shapes(layer, inputs, transposed=True)


def im2col_window(layer: LayerSpec, shape: Shape) -> tuple[int, Window]:
    """The channel axis and the window of an Im2col layer (im2col_layer.cpp, LayerSetUp).

    Raises:
        NetError: a value is missing or makes no sense.
    """
    view = layer.view.child("convolution_param")
    axis = canonical_axis(layer, view.integer("axis"), len(shape))
    return axis, _window(layer, view, len(shape) - axis - 1)


@shape_rule("Im2col")
def im2col_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Every channel becomes one channel per kernel position (im2col_layer.cpp, Reshape)."""
    shape = inputs[0]
    axis, window = im2col_window(layer, shape)
    spatial = _slide(layer, window, conv_out, shape, axis)
    check_constant(layer, shape[axis] * math.prod(window.kernel) ** 2, "what picks the places of the window")
    return LayerShapes(((*shape[:axis], shape[axis] * math.prod(window.kernel), *spatial),))

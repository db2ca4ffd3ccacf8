"""Pooling and SPP: parameters and shapes (BVLC/caffe pooling_layer.cpp, spp_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import require_rank
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.view import View

Pair = tuple[int, int]

MOST_PADDED = 32
"""How many times as large padding may make an image that is not small."""


@dataclass(frozen=True, slots=True)
class PoolParams:
    """A PoolingParameter for a bottom of a given size (defaults: caffe.proto, PoolingParameter).

    Attributes:
        method: MAX, AVE or STOCHASTIC.
        kernel, stride, pad: (height, width).
        whole: whether the window is the whole image (global_pooling).
        round_up: whether the number of windows is rounded up, Caffe's default.
    """

    method: str
    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    whole: bool = False
    round_up: bool = True

    def output(self, size: Pair) -> Pair:
        """Number of windows along height and width."""
        clip = self.pad != (0, 0)
        rows, columns = (
            pool_out(*values, clip=clip, round_up=self.round_up)
            for values in zip(size, self.kernel, self.stride, self.pad, strict=True)
        )
        return rows, columns


def pool_out(size: int, kernel: int, stride: int, pad: int, *, clip: bool, round_up: bool = True) -> int:
    """Number of windows along one axis (pooling_layer.cpp, Reshape): rounds up, unlike convolution.

    Args:
        size: of the image.
        kernel: of the window.
        stride: of the window.
        pad: before the image, and as much behind it.
        clip: whether the layer pads along any axis; then a last window that starts behind the image goes.
        round_up: False for round_mode FLOOR.
    """
    room = size + 2 * pad - kernel
    windows = (-(-room // stride) if round_up else room // stride) + 1
    if clip and (windows - 1) * stride >= size + pad:
        windows -= 1
    return windows


def _pair(view: View, field: str, short: str, default: int) -> Pair:
    """A parameter from its ``_h``/``_w`` pair, or from the field for both."""
    high, wide = f"{short}_h", f"{short}_w"
    if not view.has(high) and not view.has(wide):
        value = view.integer(field) if view.has(field) else default
        return value, value
    if view.has(field):
        what = f"{field} is given beside {high} and {wide}"
        raise view.error(what, cure="keep one of them", field=field)
    if not (view.has(high) and view.has(wide)):
        missing = wide if view.has(high) else high
        what = f"{high} and {wide} go together"
        raise view.error(what, cure=f"add {missing}", field=high)
    return view.integer(high), view.integer(wide)


def pool_window(view: View) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and pad of a PoolingParameter, each as (height, width); a kernel that is not given is 0.

    Raises:
        NetError: a value is given in two ways, or for one axis only.
    """
    return _pair(view, "kernel_size", "kernel", 0), _pair(view, "stride", "stride", 1), _pair(view, "pad", "pad", 0)


def _rounds_up(view: View) -> bool:
    """Caffe's round_mode, or the ceil_mode that forks have in its place."""
    if view.has("ceil_mode"):
        return view.flag("ceil_mode")
    return view.text("round_mode") == "CEIL"


def pool_params(layer: LayerSpec, shape: Shape) -> PoolParams:
    """Read a layer's pooling_param for a bottom (n, c, h, w).

    Raises:
        NetError: the bottom has not four axes, or a value is missing or makes no sense.
    """
    require_rank(layer, shape, 4, 4)
    view = layer.view.child("pooling_param")
    kernel, stride, pad = pool_window(view)
    whole = view.flag("global_pooling")
    if whole:
        if kernel != (0, 0) or stride != (1, 1) or pad != (0, 0):
            what = "global_pooling takes the whole image: no kernel size, no padding, stride 1"
            raise view.error(what, cure="take those fields or global_pooling away", field="global_pooling")
        kernel = (shape[2], shape[3])
    if min(kernel) < 1:
        cure = "add kernel_size, or global_pooling: true"
        what = "the layer needs a kernel_size of at least 1"
        raise view.error(what, cure=cure, field="kernel_size")
    if min(stride) < 1:
        what = "stride must be at least 1"
        raise view.error(what, field="stride")
    params = PoolParams(view.text("pool"), kernel, stride, pad, whole, _rounds_up(view))
    _check_padding(view, params, "pad")
    padded = (shape[2] + 2 * pad[0]) * (shape[3] + 2 * pad[1])
    if padded > MOST_PADDED * shape[2] * shape[3] + MOST_PADDED**4:
        what = f"padding {pad} is out of all proportion to an image of {shape[2]} x {shape[3]}"
        raise view.error(what, field="pad", cure="make it smaller")
    return params


def _check_padding(view: View, params: PoolParams, field: str) -> None:
    """Refuse padding that Caffe refuses (pooling_layer.cpp, LayerSetUp)."""
    if params.pad[0] >= params.kernel[0] or params.pad[1] >= params.kernel[1]:
        what = f"padding {params.pad} must be less than the kernel {params.kernel}"
        raise view.error(what, field=field)
    if params.method == "STOCHASTIC" and params.pad != (0, 0):
        what = f"STOCHASTIC pooling cannot be padded, the padding is {params.pad}"
        raise view.error(what, cure="take the padding away, or use MAX", field=field)


@shape_rule("Pooling", tops=(1, 2))
def pooling_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Shapes of the pooled image and, as a second top, of the positions of the maxima."""
    shape = inputs[0]
    params = pool_params(layer, shape)
    output = params.output((shape[2], shape[3]))
    if min(output) < 1:
        what = f"a kernel of {params.kernel} does not fit a bottom of shape {shape}"
        cure = "make the kernel smaller, or feed a larger input"
        raise layer.view.error(what, cure=cure, field="pooling_param")
    if len(layer.tops) == 2 and params.method != "MAX":
        what = f"only MAX pooling has a second top, this is {params.method}"
        raise layer.view.error(what, cure="take the second top away", field="top")
    return LayerShapes(((shape[0], shape[1], *output),) * len(layer.tops))


def pyramid_params(layer: LayerSpec, shape: Shape) -> tuple[PoolParams, ...]:
    """The poolings of an SPP layer: level i has 2**i bins a side (spp_layer.cpp, GetPoolingParam).

    Raises:
        NetError: the bottom has not four axes, or has too few pixels for the number of levels.
    """
    require_rank(layer, shape, 4, 4)
    view = layer.view.child("spp_param")
    levels = view.integer("pyramid_height")
    if levels < 1:
        what = "pyramid_height must be at least 1"
        raise view.error(what, cure="add pyramid_height", field="pyramid_height")
    size = (shape[2], shape[3])
    poolings = []
    for level in range(levels):
        bins = 2**level
        kernel = (math.ceil(size[0] / bins), math.ceil(size[1] / bins))
        pad = ((kernel[0] * bins - size[0] + 1) // 2, (kernel[1] * bins - size[1] + 1) // 2)
        params = PoolParams(view.text("pool"), kernel, kernel, pad)
        _check_padding(view, params, "pyramid_height")
        poolings.append(params)
    return tuple(poolings)


@shape_rule("SPP")
def spp_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """All levels, flattened and laid end to end: (n, bins * c); a single level stays (n, c, 1, 1)."""
    poolings = pyramid_params(layer, inputs[0])
    n, c, h, w = inputs[0]
    sizes = [params.output((h, w)) for params in poolings]
    if len(sizes) == 1:
        return LayerShapes(((n, c, *sizes[0]),))
    return LayerShapes(((n, c * sum(math.prod(size) for size in sizes)),))

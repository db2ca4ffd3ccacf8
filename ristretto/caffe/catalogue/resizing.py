"""Layers of Caffe's forks that enlarge or shrink images: parameters and shapes."""

from __future__ import annotations

from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import require_equal_shapes, require_rank
from ristretto.caffe.catalogue.pooling import pool_window
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape


def upsample_scale(layer: LayerSpec) -> tuple[int, int]:
    """How often an Upsample layer repeats rows and columns (eric612/Caffe-YOLOv3 upsample_layer.cpp).

    Raises:
        NetError: it is less than 1.
    """
    view = layer.view.child("upsample_param")
    high, wide = (view.integer(side) if view.has(side) else view.integer("scale") for side in ("scale_h", "scale_w"))
    if min(high, wide) < 1:
        what = f"scale must be at least 1, found {min(high, wide)}"
        raise view.error(what, field="scale")
    return high, wide


def _unpooled_size(layer: LayerSpec, shape: Shape) -> tuple[int, int]:
    """Height and width that an Upsample layer with a mask makes (alexgkendall/caffe-segnet upsample_layer.cpp)."""
    view = layer.view.child("upsample_param")
    if view.has("upsample_h") or view.has("upsample_w"):
        if not (view.has("upsample_h") and view.has("upsample_w")):
            what = "upsample_h and upsample_w go together"
            raise view.error(what, cure="give both, or scale", field="upsample_param")
        return view.integer("upsample_h"), view.integer("upsample_w")
    high, wide = upsample_scale(layer)
    return shape[2] * high - view.flag("pad_out_h"), shape[3] * wide - view.flag("pad_out_w")


@shape_rule("Upsample", bottoms=(1, 2))
def upsample_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Every pixel becomes scale x scale pixels or, with a mask of a pooling, goes back to where it was the largest."""
    require_rank(layer, inputs[0], 4, 4)
    n, c, h, w = inputs[0]
    if len(inputs) == 1:
        high, wide = upsample_scale(layer)
        return LayerShapes(((n, c, h * high, w * wide),))
    require_equal_shapes(layer, inputs)
    size = _unpooled_size(layer, inputs[0])
    if min(size) < 1:
        what = f"nothing is left of a bottom of shape {inputs[0]}"
        raise layer.view.error(what, field="upsample_param")
    return LayerShapes(((n, c, *size),))


def _max_unpooled_size(layer: LayerSpec, inputs: tuple[Shape, ...]) -> tuple[int, int]:
    """Height and width that a MaxUnpool layer makes, from the first of these that the layer has.

    A third bottom of that size; ``max_unpool_param`` (the forks' layer MaxUnPool, maxunpool_layer.cpp, knows only
    this); ``pooling_param``, that of the pooling that is undone, by ``(size - 1) * stride + kernel - 2 * pad`` (ONNX
    MaxUnpool; the forks' unpooling_layer.cpp, of another type, makes odd sizes even besides). Without any of them the
    image doubles (caffe2onnx 2.0.1).

    A mask counts rows of the image before the pooling: where the pooling's last window reached beyond that image
    the formula gives too large a width, and only the other two ways give the right one.
    """
    if len(inputs) == 3:
        require_rank(layer, inputs[2], 4, 4)
        return inputs[2][2], inputs[2][3]
    if layer.view.has("max_unpool_param"):
        view = layer.view.child("max_unpool_param")
        if not (view.has("dst_h") and view.has("dst_w")):
            what = "dst_h and dst_w go together"
            raise view.error(what, cure="give both", field="max_unpool_param")
        return view.integer("dst_h"), view.integer("dst_w")
    if not layer.view.has("pooling_param"):
        return inputs[0][2] * 2, inputs[0][3] * 2
    view = layer.view.child("pooling_param")
    kernel, stride, pad = pool_window(view)
    if min(*kernel, *stride) < 1:
        what = "kernel_size and stride must be at least 1"
        raise view.error(what, cure="give those of the pooling that is undone", field="pooling_param")
    high, wide = ((inputs[0][2 + i] - 1) * stride[i] + kernel[i] - 2 * pad[i] for i in (0, 1))
    return high, wide


@shape_rule("MaxUnpool", "MaxUnPool", bottoms=(2, 3))
def max_unpool_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Every value goes back to where the pooling that made the mask found it, all others are zero."""
    require_rank(layer, inputs[0], 4, 4)
    require_equal_shapes(layer, inputs[:2])
    size = _max_unpooled_size(layer, inputs)
    if min(size) < 1:
        what = f"nothing is left of a bottom of shape {inputs[0]}"
        raise layer.view.error(what, cure="the size must be that before the pooling", field="type")
    return LayerShapes(((*inputs[0][:2], *size),))


@dataclass(frozen=True, slots=True)
class InterpParams:
    """An InterpParameter for a given bottom (defaults: caffe.proto, InterpParameter).

    Attributes:
        crop_start, crop_end: rows and columns cut off before and after (negative padding).
        size: (height, width) of the top.
    """

    crop_start: int
    crop_end: int
    size: tuple[int, int]


def interp_params(layer: LayerSpec, shape: Shape) -> InterpParams:
    """Read a layer's interp_param (DeepLab's interp_layer.cpp, LayerSetUp and Reshape).

    Raises:
        NetError: the size is not told, or nothing is left of the image.
    """
    require_rank(layer, shape, 4, 4)
    view = layer.view.child("interp_param")
    start, end = view.integer("pad_beg"), view.integer("pad_end")
    if start > 0 or end > 0:
        field = "pad_beg" if start > 0 else "pad_end"
        what = "an image can be cut, not padded"
        raise view.error(what, cure=f"make {field} 0 or less", field=field)
    sizes = [length + start + end for length in shape[2:]]
    shrink, zoom = view.has("shrink_factor"), view.has("zoom_factor")
    if not (shrink or zoom):
        if not (view.has("height") and view.has("width")):
            cure = "give height and width, or zoom_factor, or shrink_factor"
            what = "the size of the top is not told"
            raise view.error(what, cure=cure)
        sizes = [view.integer("height"), view.integer("width")]
    if shrink:
        factor = _factor(layer, "shrink_factor")
        sizes = [(length - 1) // factor + 1 for length in sizes]
    if zoom:
        factor = _factor(layer, "zoom_factor")
        sizes = [length + (length - 1) * (factor - 1) for length in sizes]
    if min(*sizes, shape[2] + start + end, shape[3] + start + end) < 1:
        what = f"nothing is left of a bottom of shape {shape}"
        raise view.error(what, field="interp_param")
    return InterpParams(-start, -end, (sizes[0], sizes[1]))


def _factor(layer: LayerSpec, field: str) -> int:
    view = layer.view.child("interp_param")
    factor = view.integer(field)
    if factor < 1:
        what = f"{field} must be at least 1, found {factor}"
        raise view.error(what, field=field)
    return factor


@shape_rule("Interp")
def interp_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Bilinear interpolation in which the corners stay where they are."""
    return LayerShapes(((*inputs[0][:2], *interp_params(layer, inputs[0]).size),))

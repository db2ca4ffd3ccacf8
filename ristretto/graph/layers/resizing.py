"""Upsample and Interp as ONNX Resize; what a mask of a pooling undoes as ScatterElements."""

from __future__ import annotations

import math

import numpy as np
import onnx
from numpy.typing import NDArray

from ristretto.caffe.catalogue.resizing import interp_params, upsample_scale
from ristretto.caffe.shape_limits import check_constant
from ristretto.graph.registry import LayerContext, emits


@emits("Upsample")
def upsample(context: LayerContext) -> list[str]:
    """Every pixel repeated along height and width (eric612/Caffe-YOLOv3), or put where a mask says (caffe-segnet)."""
    if len(context.inputs) == 2:
        return [_unpooled(context)]
    high, wide = upsample_scale(context.layer)
    if context.nodes.double:
        height, width = context.input_shapes[0][2:]
        _check_sizes(context, (height * high, height), (width * wide, width))
        rows, columns = (np.repeat(np.eye(size), scale, axis=0) for size, scale in ((height, high), (width, wide)))
        return [_mixed(context, context.inputs[0], rows, columns)]
    return [
        context.op(
            "Resize",
            context.inputs[0],
            "",
            context.nodes.floats([1.0, 1.0, float(high), float(wide)]),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    ]


@emits("MaxUnpool", "MaxUnPool")
def max_unpool(context: LayerContext) -> list[str]:
    """The values of the first bottom where the mask says, zeros elsewhere (forks' maxunpool_layer.cpp)."""
    return [_unpooled(context)]


def _unpooled(context: LayerContext) -> str:
    """Zeros, but for the values of the first bottom at the places that the second one names, row by row.

    ONNX MaxUnpool counts places through the whole blob, a mask of Caffe's counts them in each channel's image.
    """
    op, ints = context.op, context.nodes.ints
    channels, height, width = context.output_shapes[0][1:]
    values, mask = (op("Reshape", value, ints([0, 0, -1])) for value in context.inputs[:2])
    batch = op("Shape", values, start=0, end=1)
    empty = op("Expand", context.nodes.floats(0.0), op("Concat", batch, ints([channels, height * width]), axis=0))
    places = op("Cast", mask, to=onnx.TensorProto.INT64)
    full = op("ScatterElements", empty, places, values, axis=2)
    return op("Reshape", full, ints([0, 0, height, width]))


@emits("Interp")
def interp(context: LayerContext) -> list[str]:
    """Bilinear interpolation in which the corners stay where they are (DeepLab's interp.cpp)."""
    height, width = context.input_shapes[0][2:]
    params = interp_params(context.layer, context.input_shapes[0])
    value, ints = context.inputs[0], context.nodes.ints
    left = (height - params.crop_start - params.crop_end, width - params.crop_start - params.crop_end)
    if left != (height, width):
        starts = [params.crop_start] * 2
        ends = [height - params.crop_end, width - params.crop_end]
        value = context.op("Slice", value, ints(starts), ints(ends), ints([2, 3]))
    if left == params.size:
        return [value]
    if context.nodes.double:
        _check_sizes(context, *zip(params.size, left, strict=True))
        return [_mixed(context, value, *(_interpolation(*pair) for pair in zip(left, params.size, strict=True)))]
    sizes = context.op("Concat", context.op("Shape", value, start=0, end=2), ints(params.size), axis=0)
    return [
        context.op(
            "Resize",
            value,
            "",
            "",
            sizes,
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
    ]


def _check_sizes(context: LayerContext, *shapes: tuple[int, int]) -> None:
    """Refuse images for which ``_mixed`` would need tables out of all proportion."""
    check_constant(context.layer, 2 * sum(map(math.prod, shapes)), "the table of what every pixel is mixed from")


def _mixed(context: LayerContext, value: str, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> str:
    """Rows and columns of images replaced by mixtures of them: what Resize does, which knows no float64."""
    wider = context.op("MatMul", value, context.weight(columns.T, "columns"))
    return context.op("MatMul", context.weight(rows, "rows"), wider)


def _interpolation(size: int, wanted: int) -> NDArray[np.float64]:
    """The shares (wanted, size) of the old places in the new ones, the first and the last at the corners."""
    places = np.arange(wanted) * ((size - 1) / (wanted - 1) if wanted > 1 else 0.0)
    shares: NDArray[np.float64] = np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(size)))
    return shares

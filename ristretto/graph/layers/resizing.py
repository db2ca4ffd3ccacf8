"""Upsample and Interp as ONNX Resize."""

from __future__ import annotations

from ristretto.caffe.catalogue.resizing import interp_params, upsample_scale
from ristretto.graph.registry import LayerContext, emits


@emits("Upsample")
def upsample(context: LayerContext) -> list[str]:
    """Every pixel repeated along height and width (eric612/Caffe-YOLOv3 upsample_layer.cpp)."""
    scale = float(upsample_scale(context.layer))
    return [
        context.op(
            "Resize",
            context.inputs[0],
            "",
            context.nodes.floats([1.0, 1.0, scale, scale]),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    ]


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

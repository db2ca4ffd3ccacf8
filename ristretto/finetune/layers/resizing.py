"""Upsample, MaxUnpool and Interp."""

from __future__ import annotations

from ristretto.caffe.catalogue.resizing import (
    interp_params,
    max_unpool_shapes,
    upsample_scale,
    upsample_shapes,
)
from ristretto.caffe.netspec import Shape
from ristretto.finetune.backend import Tensor, functional, torch
from ristretto.finetune.registry import LayerPass, trains


@trains("Upsample")
def upsample(given: LayerPass) -> list[Tensor]:
    """Every pixel repeated (eric612/Caffe-YOLOv3), or put where a mask says (caffe-segnet)."""
    if len(given.inputs) == 2:
        return [_unpooled(given, upsample_shapes(given.layer, given.shapes).outputs[0])]
    high, wide = upsample_scale(given.layer)
    return [given.inputs[0].repeat_interleave(high, 2).repeat_interleave(wide, 3)]


@trains("MaxUnpool", "MaxUnPool")
def max_unpool(given: LayerPass) -> list[Tensor]:
    """The values of the first bottom where the mask says, zeros elsewhere (forks' maxunpool_layer.cpp)."""
    return [_unpooled(given, max_unpool_shapes(given.layer, given.shapes).outputs[0])]


def _unpooled(given: LayerPass, shape: Shape) -> Tensor:
    """Zeros, but for the values of the first bottom at the places that the second one names."""
    values = given.inputs[0].flatten(2)
    places = given.inputs[1].detach().flatten(2).to(torch.int64)
    empty = values.new_zeros(*shape[:2], shape[2] * shape[3])
    return empty.scatter(2, places, values).reshape(shape)


@trains("Interp")
def interp(given: LayerPass) -> list[Tensor]:
    """Bilinear interpolation in which the corners stay where they are (DeepLab's interp.cpp)."""
    height, width = given.shapes[0][2:]
    params = interp_params(given.layer, given.shapes[0])
    rows = slice(params.crop_start, height - params.crop_end)
    columns = slice(params.crop_start, width - params.crop_end)
    value = given.inputs[0][:, :, rows, columns]
    return [functional.interpolate(value, params.size, mode="bilinear", align_corners=True)]

"""Pooling and SPP, padded at the end by as much as Caffe's windows overhang."""

from __future__ import annotations

import numpy as np

from ristretto.caffe.catalogue.pooling import Pair, PoolParams, pool_params, pyramid_params
from ristretto.finetune.backend import Tensor, functional, torch
from ristretto.finetune.registry import LayerPass, trains

_LEAST = float(np.finfo(np.float32).min)
_LEAST_NORMAL = float(np.finfo(np.float32).tiny)


def _size(value: Tensor) -> Pair:
    return int(value.shape[2]), int(value.shape[3])


def _padded(value: Tensor, params: PoolParams, fill: float) -> Tensor:
    """The image with its padding, and with what the last windows reach beyond it, or less what they do not."""
    size = _size(value)
    columns = zip(params.output(size), params.kernel, params.stride, params.pad, size, strict=True)
    (top, bottom), (left, right) = (
        (pad, (windows - 1) * stride - pad + kernel - length) for windows, kernel, stride, pad, length in columns
    )
    if (top, bottom, left, right) == (0, 0, 0, 0):
        return value
    return functional.pad(value, (left, right, top, bottom), value=fill)


def average(value: Tensor, params: PoolParams) -> Tensor:
    """The mean of each window; its divisor counts the padding, not what is beyond (pooling_layer.cpp)."""
    if params.whole:
        return value.mean((2, 3), keepdim=True)
    size = _size(value)
    sums = functional.avg_pool2d(_padded(value, params, 0.0), params.kernel, params.stride, divisor_override=1)
    counts = np.ones((1, 1))
    columns = zip(params.output(size), params.kernel, params.stride, params.pad, size, strict=True)
    for axis, (windows, kernel, stride, pad, length) in enumerate(columns):
        starts = np.arange(windows) * stride - pad
        counts = counts * np.expand_dims(np.minimum(starts + kernel, length + pad) - starts, 1 - axis)
    if (counts == counts.flat[0]).all():
        return sums / float(counts.flat[0])
    return sums / torch.from_numpy(counts).to(value.dtype)


def _max(value: Tensor, params: PoolParams) -> tuple[Tensor, Tensor]:
    """The maxima, and where in the padded image each was found; the first of equals, as in Caffe."""
    result: tuple[Tensor, Tensor] = functional.max_pool2d(
        _padded(value, params, _LEAST), params.kernel, params.stride, return_indices=True
    )
    return result


def _stochastic(given: LayerPass, value: Tensor, params: PoolParams) -> Tensor:
    """In TEST the mean of a window weighted by its own values (pooling_layer.cu)."""
    if given.layer.phase == "TRAIN":
        what = "STOCHASTIC pooling draws random positions in phase TRAIN, which cannot be trained"
        raise given.layer.view.error(what, cure="use MAX or AVE", field="pooling_param")
    return average(value * value, params) / (average(value, params) + _LEAST_NORMAL)


def _pooled(given: LayerPass, value: Tensor, params: PoolParams) -> Tensor:
    if params.method == "MAX":
        return _max(value, params)[0]
    return average(value, params) if params.method == "AVE" else _stochastic(given, value, params)


@trains("Pooling")
def pooling(given: LayerPass) -> list[Tensor]:
    """One pooling and, for a second top, the positions of the maxima."""
    value = given.inputs[0]
    params = pool_params(given.layer, given.shapes[0])
    if len(given.layer.tops) == 1:
        return [_pooled(given, value, params)]
    maxima, places = _max(value, params)
    width, padded = _size(value)[1], int(_padded(value[:1, :1], params, 0.0).shape[3])
    rows, columns = places // padded - params.pad[0], places % padded - params.pad[1]
    return [maxima, (rows * width + columns).to(value.dtype)]


@trains("SPP")
def spatial_pyramid(given: LayerPass) -> list[Tensor]:
    """One pooling per level, each flattened, and joined (spp_layer.cpp)."""
    levels = [_pooled(given, given.inputs[0], params) for params in pyramid_params(given.layer, given.shapes[0])]
    return levels if len(levels) == 1 else [torch.cat([level.flatten(1) for level in levels], 1)]

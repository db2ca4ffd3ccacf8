"""BatchNorm, LRN, MVN and Normalize."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.catalogue.normalization import (
    batch_norm_params,
    lrn_params,
    mvn_params,
    normalize_params,
)
from ristretto.caffe.catalogue.pooling import PoolParams
from ristretto.graph.layers.pooling import emit_average
from ristretto.graph.registry import LayerContext, emits


def stored_statistics(context: LayerContext) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance from the blobs: sums, which the third blob says how to weight (batch_norm_layer.cpp).

    A factor of 0 stands for sums over nothing: both are 0 then.
    """
    mean, variance, factor = context.blobs
    scale = np.float32(0.0) if factor[0] == 0.0 else np.float32(1.0) / factor[0]
    return mean * scale, variance * scale


@emits("BatchNorm")
def batch_norm(context: LayerContext) -> list[str]:
    """``(x - mean) / sqrt(variance + eps)`` with stored statistics, or with those of the batch."""
    params = batch_norm_params(context.layer)
    value, rank = context.inputs[0], len(context.input_shapes[0])
    if not params.use_global_stats:
        axes = [axis for axis in range(rank) if axis != 1]
        centred, variance = _centred(context, value, axes)
        spread = context.op("Sqrt", context.op("Add", variance, context.nodes.floats(params.eps)))
        return [context.op("Div", centred, spread)]
    mean, variance_blob = stored_statistics(context)
    if rank == 1:
        # The whole batch is one channel, which BatchNormalization has no axis for.
        spread_value = np.sqrt(variance_blob + np.float32(params.eps))
        centred = context.op("Sub", value, context.weight(mean, "mean"))
        return [context.op("Div", centred, context.weight(spread_value, "spread"))]
    ones, zeros = np.ones_like(mean), np.zeros_like(mean)
    blobs = zip(("scale", "bias", "mean", "variance"), (ones, zeros, mean, variance_blob), strict=True)
    constants = [context.weight(blob, stem) for stem, blob in blobs]
    return [context.op("BatchNormalization", value, *constants, epsilon=params.eps)]


def _centred(context: LayerContext, value: str, axes: list[int]) -> tuple[str, str]:
    """The value less its mean over some axes, and the mean of that squared."""
    mean = _mean(context, value, axes)
    centred = context.op("Sub", value, mean)
    return centred, _mean(context, context.op("Mul", centred, centred), axes)


def _mean(context: LayerContext, value: str, axes: list[int]) -> str:
    """The mean over some axes: the last ones, or all but the second.

    The axes that are added up have to be the last ones: over others onnxruntime adds in an order of its threads.
    """
    rank = len(context.input_shapes[0])
    if 0 not in axes or rank < 2:
        return context.op("ReduceMean", value, axes=axes, keepdims=1)
    order = [1, 0, *range(2, rank)]
    turned = context.op("Transpose", value, perm=order)
    mean = context.op("ReduceMean", turned, axes=list(range(1, rank)), keepdims=1)
    return context.op("Transpose", mean, perm=order)


@emits("LRN")
def local_response(context: LayerContext) -> list[str]:
    """``x * (k + alpha / n * sum of squares in the window) ** -beta`` (lrn_layer.cpp)."""
    params = lrn_params(context.layer)
    value = context.inputs[0]
    if params.across:
        return [context.op("LRN", value, size=params.size, alpha=params.alpha, beta=params.beta, bias=params.k)]
    side, pad = params.size, (params.size - 1) // 2
    window = PoolParams("AVE", (side, side), (1, 1), (pad, pad))
    height, width = context.input_shapes[0][2:]
    mean = emit_average(context, context.op("Mul", value, value), window, (height, width))
    scaled = context.op("Mul", mean, context.nodes.floats(params.alpha))
    denominator = context.op("Add", scaled, context.nodes.floats(1.0))
    return [context.op("Mul", value, context.op("Pow", denominator, context.nodes.floats(-params.beta)))]


@emits("MVN")
def mean_variance(context: LayerContext) -> list[str]:
    """``(x - mean) / (sqrt(variance) + eps)`` for each image, or for each of its channels (mvn_layer.cpp)."""
    params = mvn_params(context.layer)
    rank = len(context.input_shapes[0])
    axes = list(range(1 if params.across_channels else 2, rank))
    value = context.inputs[0]
    if not axes:
        # One value per channel is its own mean.
        centred = context.op("Sub", value, value)
        return [centred]
    centred, variance = _centred(context, value, axes)
    if not params.normalize_variance:
        return [centred]
    spread = context.op("Add", context.op("Sqrt", variance), context.nodes.floats(params.eps))
    return [context.op("Div", centred, spread)]


@emits("Normalize")
def normalize(context: LayerContext) -> list[str]:
    """``scale * x / sqrt(sum of squares + eps)`` (weiliu89/caffe normalize_layer.cpp)."""
    params = normalize_params(context.layer)
    value, rank = context.inputs[0], len(context.input_shapes[0])
    axes = list(range(1, rank)) if params.across_spatial else [1]
    squares = context.op("ReduceSumSquare", value, axes=axes, keepdims=1)
    norm = context.op("Sqrt", context.op("Add", squares, context.nodes.floats(params.eps)))
    scale = context.blobs[0].reshape(-1, *(1,) * (rank - 2))
    return [context.op("Mul", context.op("Div", value, norm), context.weight(scale, "scale"))]

"""Whether a net makes numbers of numbers: neither NaN nor infinity can arise from finite inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.parameters import Blobs
from ristretto.caffe.shapes import FED_TYPES

_TAME = frozenset(
    {
        "AbsVal", "Accuracy", "ArgMax", "Axpy", "BNLL", "Bias", "Clip", "Concat", "Convolution", "ConvolutionDepthwise",
        "ConvolutionRistretto", "Crop", "Deconvolution", "DeconvolutionRistretto", "DepthwiseConvolution", "Dropout",
        "ELU", "Eltwise", "EuclideanLoss", "FcRistretto", "Flatten", "HingeLoss", "InnerProduct", "Interp", "LRN",
        "Permute", "Pooling", "PReLU", "ReLU", "ReLU6", "Reduction", "Reshape", "Scale", "ShuffleChannel", "Sigmoid",
        "Silence", "Slice", "Softmax", "SoftmaxWithLoss", "Split", "TanH", "Threshold", "Tile", "Upsample",
    }
)  # fmt: skip
"""Types that give finite values for finite values, as long as these are not near the greatest float32."""


def stays_finite(net: NetSpec, weights: Sequence[Blobs]) -> bool:
    """Whether all values are numbers if what is fed is: all weights are, and all layers are of types known to be tame.

    Args:
        net: the net.
        weights: the blobs of each layer, as ``fit_weights`` gives them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return all(
            (layer.type in _TAME or layer.type in FED_TYPES or _is_tame(layer, blobs))
            and all(np.isfinite(np.sum(blob)) for blob in blobs)
            for layer, blobs in zip(net.layers, weights, strict=True)
        )


def _is_tame(layer: LayerSpec, blobs: Blobs) -> bool:
    """A BatchNorm takes the root of its variances, which are sums of squares unless somebody changed them."""
    return layer.type == "BatchNorm" and len(blobs) == 3 and bool(np.all(blobs[1] * np.sign(blobs[2][0]) >= 0))

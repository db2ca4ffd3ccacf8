"""The weights of a layer as its formats round them."""

from __future__ import annotations

import numpy as np

from ristretto.caffe.netspec import LayerSpec
from ristretto.caffe.parameters import Blobs
from ristretto.errors import FormatError
from ristretto.numerics.formats import Format
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding


def rounded_blobs(
    layer: LayerSpec, blobs: Blobs, formats: LayerFormats, rounding: Rounding, rng: np.random.Generator
) -> Blobs:
    """Blobs with the parameters rounded: the first in the format of the weights, the second in that of the bias.

    A Scale whose factors are a bottom has its bias alone. The mean and the variance of a BatchNorm are both weights,
    as hardware stores them: divided by the third blob, which is 1 from then on.

    Raises:
        NetError: a format by channel does not fit.
    """
    roles: tuple[Format | None, ...] = (formats.params, formats.bias)
    if layer.type == "Scale" and len(layer.inputs) == 2:
        roles = (formats.bias,)
    elif layer.type == "BatchNorm" and len(blobs) == 3 and formats.params is not None:
        roles, blobs = (formats.params, formats.params), _divided(blobs)
    given = (*roles, *(None for _ in blobs))
    try:
        return tuple(
            blob if fmt is None else fmt.quantize(blob, rounding, rng) for blob, fmt in zip(blobs, given, strict=False)
        )
    except FormatError as error:
        raise layer.view.error(error.what, cure=error.cure, field="quantization_param") from error


def _divided(blobs: Blobs) -> Blobs:
    """Mean and variance themselves; a factor of 0 stands for sums over nothing (batch_norm_layer.cpp)."""
    mean, variance, factor = blobs
    scale = np.float32(0.0) if factor[0] == 0.0 else np.float32(1.0) / factor[0]
    return mean * scale, variance * scale, np.ones_like(factor)

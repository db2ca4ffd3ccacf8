"""What the prototxt says of each layer type: parameters, shapes, weight shapes. Importing registers them."""

from ristretto.caffe.catalogue import (
    activation,
    classification,
    combining,
    constants,
    convolution,
    detection,
    inner_product,
    losses,
    normalization,
    pooling,
    rearranging,
    recurrent,
    reduction,
    resizing,
    scaling,
)

__all__ = [
    "activation",
    "classification",
    "combining",
    "constants",
    "convolution",
    "detection",
    "inner_product",
    "losses",
    "normalization",
    "pooling",
    "rearranging",
    "recurrent",
    "reduction",
    "resizing",
    "scaling",
]

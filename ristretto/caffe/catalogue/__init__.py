"""What Caffe's file says of each layer type: parameters, shapes, weight shapes. Importing it registers them all."""

from ristretto.caffe.catalogue import (
    activation,
    classification,
    combining,
    constants,
    convolution,
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

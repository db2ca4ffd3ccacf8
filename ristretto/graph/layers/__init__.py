"""One module per family of layers, each emitting ONNX nodes. Importing this registers them all."""

from ristretto.graph.layers import (
    activation,
    classification,
    combining,
    constants,
    convolution,
    detection,
    inner_product,
    losses,
    lrn_ristretto,
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
    "lrn_ristretto",
    "normalization",
    "pooling",
    "rearranging",
    "recurrent",
    "reduction",
    "resizing",
    "scaling",
]

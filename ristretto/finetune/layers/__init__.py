"""One module per family of layers, each computing them with torch. Importing this registers them all."""

from ristretto.finetune.layers import (
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
    "resizing",
    "scaling",
]

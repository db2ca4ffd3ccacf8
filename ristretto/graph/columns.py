"""A convolution on codes as a product of matrices: integer convolutions give no more than eight bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.graph.nodes import NodeList

FEW_CHANNELS = 64
"""With fewer, copying the inputs of all taps beside each other takes longer than a product of floats."""

_END = np.iinfo(np.int64).max


def emit_columns(nodes: NodeList, codes: str, zero: str, taps: tuple[int, int], given: Mapping[str, Any]) -> str:
    """Append the copying of what each output is made of.

    Args:
        nodes: the model.
        codes: (images, height, width, channels).
        zero: the code of the value 0, beyond the borders.
        taps: the kernel's height and width.
        given: the attributes of the convolution.

    Returns:
        the name of (images, height, width, taps * channels): for each output its inputs, row by row.
    """
    top, left, bottom, right = given.get("pads", [0] * 4)
    if any((top, left, bottom, right)):
        codes = nodes.op("Pad", codes, nodes.ints([0, top, left, 0, 0, bottom, right, 0]), zero)
    strides = given.get("strides", [1, 1])
    for axis, count, stride in ((2, taps[1], strides[1]), (1, taps[0], strides[0])):
        if count == stride == 1:
            continue
        parts = [
            nodes.op("Slice", codes, *map(nodes.ints, ([first], [first - count + 1 or _END], [axis], [stride])))
            for first in range(count)
        ]
        codes = parts[0] if count == 1 else nodes.op("Concat", *parts, axis=3)
    return codes


def as_matrix(weights: NDArray[Any]) -> NDArray[Any]:
    """Weights (outputs, channels, height, width) as (height * width * channels, outputs)."""
    return np.ascontiguousarray(weights.transpose(2, 3, 1, 0).reshape(-1, len(weights)))

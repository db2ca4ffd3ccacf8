"""A convolution on codes as a product of matrices: integer convolutions give no more than eight bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.graph.nodes import NodeList

FEW_CHANNELS, FEW_PRODUCTS = 32, 64
"""With fewer channels copying the inputs of all taps beside each other takes longer than a product of floats; with
fewer products per output there is nothing to gain."""


def pays(codes: NDArray[np.int8], given: Mapping[str, Any]) -> bool:
    """Whether a convolution can be a product of matrices of integers that is faster than one of floats.

    Args:
        codes: the weights, (outputs, channels, height, width) or of any other shape, which is none.
        given: the attributes of the convolution.
    """
    if codes.ndim != 4 or codes.shape[1] < FEW_CHANNELS or codes[0].size < FEW_PRODUCTS:
        return False
    dense = all(step == 1 for step in given.get("dilations", [1]))
    return dense and given.get("group", 1) == 1 and "auto_pad" not in given


def emit_columns(
    nodes: NodeList,
    codes: str,
    zero: str,
    shape: tuple[int, int, int],
    taps: tuple[int, int],
    given: Mapping[str, Any],
) -> str:
    """Append the copying of what each output is made of.

    It is copied twice, the taps of a row beside each other and then the rows, since a copy of few bytes takes as long
    as one of many.

    Args:
        nodes: the model.
        codes: (images, height, width, channels).
        zero: the code of the value 0, beyond the borders.
        shape: height, width and channels.
        taps: the kernel's height and width.
        given: the attributes of the convolution.

    Returns:
        the name of (images, height, width, taps * channels): for each output its inputs, row by row.
    """
    high, wide, channels = shape
    top, left, bottom, right = given.get("pads", [0] * 4)
    down, across = given.get("strides", [1, 1])
    if taps == (1, 1) and (top, left, bottom, right, down, across) == (0, 0, 0, 0, 1, 1):
        return codes
    height, width = high + top + bottom, (wide + left + right - taps[1]) // across + 1
    # What lies to the left and right is copied from a row above or below, or from one more that nothing else reads.
    below = max(bottom, 1) if (left or right) and not top else bottom
    if top or below:
        codes = nodes.op("Pad", codes, nodes.ints([0, top, 0, 0, 0, below, 0, 0]), zero)
    outside = 0 if top else (height - bottom) * wide
    beside = np.arange(width)[:, None] * across + np.arange(taps[1]) - left
    inside = (beside >= 0) & (beside < wide)
    at = np.arange(height)[:, None, None] * wide + beside
    codes = _copied(nodes, codes, np.where(inside, at, outside), channels)
    rows = np.arange((height - taps[0]) // down + 1)[:, None, None] * down + np.arange(taps[0])
    return _copied(nodes, codes, rows * width + np.arange(width)[:, None], channels * taps[1])


def _copied(nodes: NodeList, codes: str, places: NDArray[np.int64], channels: int) -> str:
    """Append the copying of pixels beside each other.

    Args:
        nodes: the model.
        codes: (images, height, width, channels).
        places: for each row and column the pixels, counted row by row, that come there.
        channels: how many.

    Returns:
        the name of (images, rows, columns, pixels * channels).
    """
    rows, columns, pixels = places.shape
    flat = nodes.op("Reshape", codes, nodes.ints([0, -1, channels]))
    taken = nodes.op("Gather", flat, nodes.constant(places.reshape(-1, pixels), "places"), axis=1)
    return nodes.op("Reshape", taken, nodes.ints([0, rows, columns, pixels * channels]))


def as_matrix(weights: NDArray[Any]) -> NDArray[Any]:
    """Weights (outputs, channels, height, width) as (height * width * channels, outputs)."""
    return np.ascontiguousarray(weights.transpose(2, 3, 1, 0).reshape(-1, len(weights)))

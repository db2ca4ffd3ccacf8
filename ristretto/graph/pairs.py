"""Integer kernels that add up two products in 16 bits before they go on in 32, as those of processors without VNNI.

Such a kernel (AVX2's vpmaddubsw) multiplies inputs without sign with weights of eight bits with sign, and saturates the
sum of each two neighbours: it is exact where no such sum can leave 16 bits, which is so for nearly all trained weights.
Weights stored without sign go another way, that is exact and not as fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GREATEST = 255
"""The greatest code of an input."""

_LIMITS = (-(1 << 15), (1 << 15) - 1)


def stored_for_pairs(codes: NDArray[np.int8], greatest: int, *, grouped: bool = False) -> tuple[NDArray[Any], int]:
    """Weights as such a kernel multiplies them exactly, and what was added to them.

    Args:
        codes: weights (outputs, inputs) or (outputs, channels, height, width).
        greatest: the greatest code that an input has.
        grouped: whether the weights are those of a convolution in groups.

    Returns:
        int8 as they are, or uint8 with 128 added.
    """
    if pairs_fit(codes, greatest, grouped=grouped):
        return codes, 0
    return (codes.astype(np.int16) + 128).astype(np.uint8), 128


def pairs_fit(codes: NDArray[np.int8], greatest: int, *, grouped: bool = False) -> bool:
    """Whether the products of neighbours add up to no more than 16 bits hold, whatever the inputs up to one.

    Neighbours are two channels of a tap, the first of them even; where their number is odd, or which are added is up to
    the kernel (groups), any two weights of an output are taken for neighbours.
    """
    by_channel = codes.transpose(0, 2, 3, 1) if codes.ndim == 4 else codes
    if grouped or by_channel.shape[-1] % 2:
        ends = (np.sort(row, axis=None)[[0, 1, -2, -1]] for row in by_channel if row.size > 1)
        return all(neighbours_fit(pairs.reshape(2, 2), greatest) for pairs in ends)
    return all(neighbours_fit(row.reshape(-1, 2), greatest) for row in by_channel)


def neighbours_fit(pairs: NDArray[np.int8], greatest: int) -> bool:
    """The same for the weights (pairs, 2) of neighbours."""
    wide = pairs.astype(np.int32) * greatest
    least, most = np.minimum(wide, 0).sum(axis=1).min(initial=0), np.maximum(wide, 0).sum(axis=1).max(initial=0)
    return bool(_LIMITS[0] <= least and most <= _LIMITS[1])

"""Between which numbers the values of options lie, on the command line and in Python."""

from __future__ import annotations

from collections.abc import Mapping

MOST_BATCHES = 100_000_000
"""Batches of a score: more would not be done in a lifetime."""

_WIDTH = (1, 32)
_MOST = 2**31 - 1

WHOLE: Mapping[str, tuple[int, int]] = {
    "iterations": (1, MOST_BATCHES),
    "calibration_batches": (1, MOST_BATCHES),
    "rounding_images": (1, MOST_BATCHES),
    "bw_conv_params": _WIDTH,
    "bw_fc_params": _WIDTH,
    "bw_activations": _WIDTH,
    "min_bits": _WIDTH,
    "max_bits": _WIDTH,
    "exp_bits": (1, 8),
    "mant_bits": (0, 23),
    "threads": (0, 1024),
    "workers": (0, 1024),
    "cache_mb": (0, _MOST),
    "cache_disk_mb": (0, _MOST),
}
"""Whole numbers by the name of their option: the least and the greatest."""

PARTS: Mapping[str, tuple[float, float]] = {"percentile": (50, 100)}
"""The same for those that are none."""

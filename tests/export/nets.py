"""Quantized nets of the tests, made once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ristretto

MODELS = Path(__file__).resolve().parents[2] / "models"


_FOLDERS: list[TemporaryDirectory[str]] = []
"""Kept until the tests end; then they go."""


@cache
def quantized(net: str, **options: Any) -> tuple[Path, Path]:
    """The prototxt and the weights of a digits net: 8 bits, folded, unless the options say otherwise."""
    _FOLDERS.append(TemporaryDirectory(prefix="ristretto-test-"))
    folder = Path(_FOLDERS[-1].name)
    files = folder / "quantized.prototxt", folder / "quantized.caffemodel"
    fixed = options.get("trimming_mode", "dynamic_fixed_point") == "dynamic_fixed_point"
    widths = {"bw_conv_params": 8, "bw_fc_params": 8, "bw_activations": 8} if fixed else {"bw_activations": 8}
    ristretto.quantize(
        MODELS / net / "train_val.prototxt",
        MODELS / net / f"{net}.caffemodel",
        **{
            "model_quantized": files[0],
            "weights_quantized": files[1],
            "data_root": MODELS,
            "iterations": 1,
            "trimming_mode": "dynamic_fixed_point",
            "weight_rounding": "nearest",
            **widths,
            **options,
        },
    )
    return files

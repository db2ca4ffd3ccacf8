"""JSON reports of the digits nets, each made once."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from ristretto.cli.main import main
from tests.cli.runner import MODELS


def command(net: str, folder: Path) -> list[str]:
    """What quantizes a digits net on a few images, but for the mode."""
    model = MODELS / f"digits_{net}"
    files = ["--model", model / "train_val.prototxt", "--weights", model / f"digits_{net}.caffemodel"]
    more = ["--data-root", MODELS, "--iterations", 2, "--model_quantized", folder / "quantized.prototxt", "--quiet"]
    return ["quantize", *map(str, [*files, *more])]


@cache
def _text(net: str, flags: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        new = [f"{folder / flag}" if flag.endswith(".caffemodel") else flag for flag in flags]
        assert main([*command(net, folder), *new, "--report", str(folder / "report.json")]) == 0
        return (folder / "report.json").read_text()


def report_of(net: str, *flags: str) -> dict[str, Any]:
    """The report of a digits net with some flags; a fresh copy."""
    data: dict[str, Any] = json.loads(_text(net, flags))
    return data


LADDER = ("--trimming_mode", "dynamic_fixed_point")
CHANNELS = (*LADDER, "--bw_conv_params", "4", "--bw_fc_params", "4", "--bw_activations", "8", "--per_channel")
MIXED = (*LADDER, "--search", "mixed", "--fold", "--weights_quantized", "new.caffemodel", "--error_margin", "5")
MINIFLOAT = ("--trimming_mode", "minifloat", "--preset", "original")
POWERS = ("--trimming_mode", "integer_power_of_2_weights")

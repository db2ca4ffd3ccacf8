"""A CUDA device itself gives the CPU's scores; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.pipeline.device import find_device
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from ristretto.report.model import Scored
from tests.cli.runner import MODELS, ristretto

Capture = pytest.CaptureFixture[str]

_FOUND = find_device("0")
pytestmark = pytest.mark.skipif(_FOUND.number is None, reason=f"no CUDA device: {_FOUND.reason}")

FORMATS: dict[str, dict[str, Any]] = {
    "8/8": {"bw_conv_params": 8, "bw_fc_params": 8, "bw_activations": 8, "fold": True},
    "8/16": {"bw_conv_params": 8, "bw_fc_params": 8, "bw_activations": 16},
    "minifloat": {"trimming_mode": "minifloat", "exp_bits": 5, "mant_bits": 10},
    "powers of two": {"trimming_mode": "integer_power_of_2_weights", "bw_activations": 8},
}


def same(on_cpu: Scored, on_gpu: Scored) -> None:
    """Each image is judged alike; sums in float may end otherwise in their last bits."""
    assert on_cpu.images == on_gpu.images > 0
    assert np.array_equal(np.asarray(on_cpu.right), np.asarray(on_gpu.right))
    assert on_cpu.score == pytest.approx(on_gpu.score, abs=1e-6)


@pytest.mark.parametrize("name", ["digits_lenet", "digits_resnet"])
@pytest.mark.parametrize("setting", FORMATS)
def test_the_same_formats_and_the_same_answer_for_every_image(name: str, setting: str) -> None:
    folder = MODELS / name
    net, weights = folder / "train_val.prototxt", folder / f"{name}.caffemodel"
    options: dict[str, Any] = {"data_root": MODELS, "iterations": None, **FORMATS[setting]}
    on_cpu, on_gpu = (quantize(QuantizeOptions(net, (weights,), gpu=gpu, **options)) for gpu in ("", "0"))
    assert on_cpu.plan == on_gpu.plan
    same(on_cpu.baseline, on_gpu.baseline)
    same(on_cpu.combined, on_gpu.combined)


def test_the_command_runs_there_and_says_so(tmp_path: Path, capsys: Capture) -> None:
    folder = MODELS / "digits_lenet"
    weights, output = folder / "digits_lenet.caffemodel", tmp_path / "quantized.prototxt"
    net = ("--model", folder / "train_val.prototxt", "--weights", weights, "--data-root", MODELS)
    job = ("--trimming_mode", "dynamic_fixed_point", "--model_quantized", output, "--ladder", 8, "--iterations", 2)
    outcome = ristretto(capsys, "quantize", *net, *job, "--gpu", 0)
    assert outcome.status == 0
    assert "Use GPU with device ID 0" in outcome.err
    assert output.exists()


def test_a_device_that_is_not_there_is_one_line(capfd: Capture) -> None:
    device = find_device("1000")
    assert device.number is None
    assert "1000" in device.reason
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")

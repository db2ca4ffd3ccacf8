"""New weights: what is done to them, each switch, and what the report says that it brought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.weights import read_weights
from tests.cli.runner import MODELS, ristretto

Capture = pytest.CaptureFixture[str]

WIDTHS = ("--bw_conv_params", 4, "--bw_fc_params", 4, "--bw_activations", 6)


def job(capsys: Capture, folder: Path, *flags: object) -> tuple[dict[str, Any], str]:
    """Quantize the small ResNet with weights of its own; return the report and the log."""
    net = MODELS / "digits_resnet"
    outcome = ristretto(
        capsys, "quantize", "--model", net / "train_val.prototxt", "--weights", net / "digits_resnet.caffemodel",
        "--model_quantized", folder / "q.prototxt", "--weights_quantized", folder / "q.caffemodel",
        "--trimming_mode", "dynamic_fixed_point", "--iterations", 2, "--data-root", MODELS, *WIDTHS,
        "--report", folder / "r.json", *flags,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    return json.loads((folder / "r.json").read_text()), outcome.err


def names(report: dict[str, Any]) -> list[str]:
    return [step["name"] for step in report.get("steps", [])]


def test_new_weights_are_folded_compensated_and_corrected(capsys: Capture, tmp_path: Path) -> None:
    report, log = job(capsys, tmp_path)
    types = {layer.type for layer in build_net(read_prototxt(tmp_path / "q.prototxt")).layers}
    assert "BatchNorm" not in types
    assert names(report) == [
        "rounded to nearest, lengths by the maximum",
        "lengths by squared_error",
        "no sign where nothing is negative",
        "weights compensated",
        "biases corrected",
    ]
    decibels = {step["name"]: step["sqnr_db"] for step in report["steps"]}
    assert decibels["weights compensated"] > decibels["no sign where nothing is negative"] + 1
    assert f"{decibels['biases corrected']:.1f} dB: \tbiases corrected" in log


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--no-fold",), ("weights compensated", "biases corrected")),
        (("--no-bias_correction",), ("weights compensated",)),
        (("--weight_rounding", "nearest", "--bias_correction"), ("biases corrected",)),
        (("--weight_rounding", "nearest"), ()),
        (("--equalize",), ("channels equalized", "weights compensated", "biases corrected")),
        (("--preset", "original"), None),
        (("--dialect", "original"), ()),
    ],
)
def test_each_has_a_switch(
    capsys: Capture, tmp_path: Path, flags: tuple[str, ...], expected: tuple[str, ...] | None
) -> None:
    report, log = job(capsys, tmp_path, *flags)
    treatments = tuple(name for name in names(report) if name.split()[0] in ("channels", "weights", "biases"))
    assert treatments == (expected or ())
    assert (expected is None) == (names(report) == [])
    types = {layer.type for layer in build_net(read_prototxt(tmp_path / "q.prototxt")).layers}
    folded = "--no-fold" not in flags and "original" not in flags
    assert ("BatchNorm" in types) != folded
    assert ("Equalized" in log) == ("--equalize" in flags)


def test_bias_correction_alone_leaves_the_weights(capsys: Capture, tmp_path: Path) -> None:
    job(capsys, tmp_path, "--no-fold", "--weight_rounding", "nearest", "--bias_correction")
    before = read_weights([MODELS / "digits_resnet/digits_resnet.caffemodel"])
    after = read_weights([tmp_path / "q.caffemodel"])
    changed = 0
    for layer in before.layers:
        for number, (old, new) in enumerate(zip(layer.blobs or (), after.get(layer.name) or (), strict=True)):
            if not np.array_equal(old.ravel(), new.ravel()):
                assert number == 1
                changed += 1
    assert changed >= 1


def test_a_job_that_would_change_weights_asks_where_to_write_them(capsys: Capture, tmp_path: Path) -> None:
    net = MODELS / "digits_lenet"
    for flag in ("--equalize", "--bias_correction", "--fold"):
        outcome = ristretto(
            capsys, "quantize", "--model", net / "train_val.prototxt", "--weights", net / "digits_lenet.caffemodel",
            "--model_quantized", tmp_path / "q.prototxt", "--trimming_mode", "dynamic_fixed_point", flag,
        )  # fmt: skip
        assert outcome.status == 2
        assert f"{flag} changes the weights; say with --weights_quantized" in outcome.message

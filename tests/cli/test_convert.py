"""``ristretto convert`` through the program itself."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from ristretto.pipeline import caffe2onnx
from ristretto.version import VERSION
from tests.cli.runner import MODELS, ristretto

LENET = MODELS / "digits_lenet"
DEPLOY = ("--model", LENET / "deploy.prototxt", "--weights", LENET / "digits_lenet.caffemodel")
TRAIN_VAL = ("--model", LENET / "train_val.prototxt", "--weights", LENET / "digits_lenet.caffemodel")
Capture = pytest.CaptureFixture[str]


def test_says_what_was_written(capsys: Capture, tmp_path: Path) -> None:
    output = tmp_path / "net.onnx"
    outcome = ristretto(capsys, "convert", *DEPLOY, "--output", output)
    assert (outcome.status, outcome.err) == (0, "")
    first, *rest = outcome.out.splitlines()
    assert first.startswith(f"{output}: opset 17, ")
    assert rest == ["input data: N x 1 x 16 x 16", "output prob: N x 10"]
    assert onnx.load(output).producer_version == VERSION


def test_flags_reach_the_converter(capsys: Capture, tmp_path: Path) -> None:
    flags = ("--outputs", "conv1,accuracy", "--batch", 4, "--data_root", MODELS)
    outcome = ristretto(capsys, "convert", *TRAIN_VAL, "--output", tmp_path / "net.onnx", *flags)
    assert outcome.status == 0, outcome.err
    shapes = dict(line.split(": ") for line in outcome.out.splitlines()[1:])
    assert shapes["input data"] == "4 x 1 x 16 x 16"
    assert shapes["input label"] == "4"
    assert shapes["output accuracy"] == "scalar"
    assert shapes["output conv1"].startswith("4 x ")


def test_a_warning_is_one_line(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 } } }\n'
        'layer { name: "flat" type: "Reshape" bottom: "data" top: "out" reshape_param { shape { dim: 8 } } }\n'
    )
    outcome = ristretto(capsys, "convert", "--model", path, "--output", tmp_path / "net.onnx")
    assert outcome.status == 0
    assert outcome.message == "ristretto: warning: the batch stays 2: it is part of layer 'flat'"


def test_a_source_that_cannot_be_opened_and_tells_no_shape(capsys: Capture, tmp_path: Path) -> None:
    outcome = ristretto(capsys, "convert", *TRAIN_VAL, "--output", tmp_path / "net.onnx", "--data_root", tmp_path)
    assert outcome.status == 2
    assert "the source 'digits_data/test_lmdb' does not exist" in outcome.message
    assert not (tmp_path / "net.onnx").exists()


def test_a_missing_converter_is_named_with_its_cure(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caffe2onnx, "is_installed", lambda: False)
    outcome = ristretto(capsys, "convert", *DEPLOY, "--output", tmp_path / "net.onnx", "--converter", "caffe2onnx")
    assert outcome.status == 2
    assert outcome.message == (
        "ristretto: the converter caffe2onnx is not installed; run: pip install --no-deps caffe2onnx"
    )


def test_the_other_converter_takes_one_weights_file(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caffe2onnx, "is_installed", lambda: True)
    flags = ("--output", tmp_path / "net.onnx", "--converter", "caffe2onnx")
    outcome = ristretto(capsys, "convert", *DEPLOY[:2], *flags)
    assert outcome.status == 2
    assert outcome.message == ("ristretto: caffe2onnx takes one weights file, 0 are given; name one with --weights")


@pytest.mark.skipif(not caffe2onnx.is_installed(), reason=f"no caffe2onnx: {caffe2onnx.INSTALL}")
def test_the_other_converters_failure_is_one_line(capsys: Capture, tmp_path: Path) -> None:
    flags = ("--output", tmp_path / "net.onnx", "--converter", "caffe2onnx")
    outcome = ristretto(capsys, "convert", *TRAIN_VAL, *flags)
    assert outcome.status == 2
    assert outcome.message.endswith("caffe2onnx failed: ValueError: the caffe model has no input")


def test_an_output_that_cannot_be_written_is_found_first(capsys: Capture, tmp_path: Path) -> None:
    outcome = ristretto(capsys, "convert", *DEPLOY, "--output", tmp_path / "none" / "net.onnx")
    assert outcome.status == 2
    assert "cannot write: the folder does not exist" in outcome.message


def test_the_net_itself_is_not_overwritten(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes((LENET / "deploy.prototxt").read_bytes())
    outcome = ristretto(capsys, "convert", "--model", path, *DEPLOY[2:], "--output", path)
    assert outcome.status == 2
    assert "this file is an input too" in outcome.message

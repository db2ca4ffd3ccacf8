"""What helps a user to see what went wrong, or what was done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.runner import MODELS, ristretto

Capture = pytest.CaptureFixture[str]
LENET, RESNET = MODELS / "digits_lenet", MODELS / "digits_resnet"
TRAIN_VAL, WEIGHTS = LENET / "train_val.prototxt", LENET / "digits_lenet.caffemodel"
V1 = """\
name: "old"
input: "data" input_dim: 1 input_dim: 1 input_dim: 2 input_dim: 2
layers { name: "r" type: RELU bottom: "data" top: "y" }
"""


@pytest.mark.parametrize(
    ("right", "wrong", "meant", "error"),
    [
        ("num_output: 16", "num_outptu: 16", "num_output", "num_output must be at least 1"),
        ('top: "conv1"', 'topp: "conv1"', "top", "unknown bottom blob 'conv1'"),
        ("kernel_size: 5", "kernel_siez: 5", "kernel_size", "kernel"),
    ],
)
@pytest.mark.parametrize("command", ["quantize", "run", "inspect", "test", "convert"])
def test_a_misspelt_field_is_told_before_its_error(
    capsys: Capture, tmp_path: Path, command: str, right: str, wrong: str, meant: str, error: str
) -> None:
    net = tmp_path / "n.prototxt"
    text = TRAIN_VAL.read_text()
    assert right in text
    net.write_text(text.replace(right, wrong, 1))
    line = 1 + text[: text.index(right)].count("\n")
    more: dict[str, tuple[object, ...]] = {
        "quantize": ("--model_quantized", tmp_path / "q", "--trimming_mode", "dynamic_fixed_point"),
        "run": ("--outputs", tmp_path / "o.npz"),
        "convert": ("--output", tmp_path / "o.onnx"),
    }
    outcome = ristretto(
        capsys, command, "--model", net, "--weights", WEIGHTS, "--data-root", MODELS, *more.get(command, ())
    )
    first, *rest = outcome.err.splitlines()
    field = wrong.split(":")[0]
    assert first == (
        f"ristretto: warning: {net}:{line}: layer 'conv1': field '{field}' is not known and has no effect: "
        f"is '{meant}' meant?"
    )
    if outcome.status == 0:  # inspect goes on and says why shapes are not known
        assert error in outcome.out
    else:
        assert error in rest[-1]


def test_an_error_in_a_file_that_is_no_net_brings_no_hints(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text("{,}")
    formats = ("--formats", tmp_path / "f.json", "--output", tmp_path / "o")
    assert ristretto(capsys, "apply", "--model", TRAIN_VAL, *formats).err.count("\n") == 1


def test_inspect_tells_weights_of_another_net(capsys: Capture, tmp_path: Path) -> None:
    own = ristretto(capsys, "inspect", "--model", TRAIN_VAL, "--weights", WEIGHTS, "--data-root", MODELS)
    assert own.err == ""
    foreign = RESNET / "digits_resnet.caffemodel"
    flags = ("inspect", "--model", LENET / "deploy.prototxt", "--weights", foreign)
    outcome = ristretto(capsys, *flags)
    assert "layer 'conv1': blob 0 in the weights file has shape [16, 1, 3, 3]" in outcome.err
    data = json.loads(ristretto(capsys, *flags, "--json").out)
    assert [f"ristretto: warning: {text}" for text in data["warnings"]] == outcome.err.splitlines()
    net = tmp_path / "n.prototxt"
    net.write_text((LENET / "deploy.prototxt").read_text().replace('name: "', 'name: "my_'))
    outcome = ristretto(capsys, "inspect", "--model", net, "--weights", foreign)
    assert outcome.err == (
        f"ristretto: warning: {foreign}: no layer has the name of one of the net's: "
        "do the weights belong to another net?\n"
    )


def test_apply_and_upgrade_say_what_was_done(capsys: Capture, tmp_path: Path) -> None:
    formats, output = tmp_path / "f.json", tmp_path / "o.prototxt"
    formats.write_text('{"layers": {"conv1": {"in": {"bw": 8, "fl": 1}}}}')
    apply = ("apply", "--model", TRAIN_VAL, "--formats", formats, "--output", output)
    assert ristretto(capsys, *apply).out == f"{output}: formats of 1 layer written\n"
    formats.write_text('{"layers": {}}')
    assert ristretto(capsys, *apply).out == f"{output}: no formats to write, the net as it was\n"
    old, weights = tmp_path / "old.prototxt", tmp_path / "w.caffemodel"
    old.write_text(V1)
    upgrade = ("upgrade", "--model", old, "--output", output)
    assert ristretto(capsys, *upgrade).out == f"{output}: net brought to today's format\n"
    assert ristretto(capsys, "upgrade", "--model", TRAIN_VAL, "--output", output).out == (
        f"{output}: net in today's format already, copied\n"
    )
    outcome = ristretto(capsys, *upgrade, "--weights", WEIGHTS, "--output-weights", weights)
    assert outcome.out == (
        f"{output}: net brought to today's format; {weights}: weights in today's format already, copied\n"
    )
    solver = tmp_path / "solver.prototxt"
    solver.write_text('net: "n.prototxt"\nsolver_type: ADAM\n')
    outcome = ristretto(capsys, "upgrade", "--model", solver, "--output", output)
    assert outcome.out == f"{output}: solver brought to today's format\n"

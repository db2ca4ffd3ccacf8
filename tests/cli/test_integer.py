"""``ristretto test --arithmetic integer``: the table, the verdict and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.runner import MODELS, Outcome, ristretto

LENET = MODELS / "digits_lenet"
WEIGHTS = ("--weights", LENET / "digits_lenet.caffemodel")
ROOT = ("--data-root", MODELS)
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def quantized(capsys: Capture, tmp_path: Path) -> Path:
    output = tmp_path / "q.prototxt"
    widths = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8, "--iterations", 1)
    model = ("--model", LENET / "train_val.prototxt", "--model_quantized", output)
    outcome = ristretto(capsys, "quantize", *model, *WEIGHTS, *ROOT, *widths, "--trimming_mode", "dynamic_fixed_point")
    assert outcome.status == 0, outcome.err
    return output


def score(capsys: Capture, model: Path, *more: object) -> Outcome:
    outcome = ristretto(capsys, "test", "--model", model, *WEIGHTS, *ROOT, "--iterations", 1, *more)
    assert outcome.status == 0, outcome.err
    return outcome


def table(outcome: Outcome) -> dict[str, list[str]]:
    """The cells of each layer's row."""
    lines = outcome.err.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("layer "))
    heading = "layer acc bits worst seen asked overflows in sat % out sat % SQNR dB float32 differs"
    assert " ".join(lines[start].split()) == heading
    return {line.split()[0]: line.split()[1:] for line in lines[start + 1 : -1]}


def test_table_verdict_and_report(capsys: Capture, quantized: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    outcome = score(capsys, quantized, "--arithmetic", "integer", "--report", report)
    rows = table(outcome)
    data = json.loads(report.read_text())
    assert data["arithmetic"] == "integer"
    layers = data["integer_layers"]
    assert list(rows) == list(layers)
    assert len(rows) == data["quantized_layers"]
    for name, cells in rows.items():
        bits = layers[name]["accumulator_bits"]
        assert cells[:4] == [*map(str, (bits["needed"], bits["observed"], bits["asked"])), "0"]
        assert bits["observed"] <= bits["needed"] <= 32 == bits["asked"]
        assert cells[-1] == "never"
        assert layers[name]["float32_proved"]
        assert layers[name]["float32_differs"] == layers[name]["overflows"] == 0
        lost = layers[name]["sqnr_db"]
        assert float(cells[-2]) == (float("inf") if lost is None else pytest.approx(lost, abs=0.06))
        assert 0 <= layers[name]["outputs_saturated"] < layers[name]["outputs"]
    outputs = sum(layer["outputs"] for layer in layers.values())
    assert outcome.err.splitlines()[-1] == (
        f"The float32 simulation equals the integer arithmetic at all {outputs} outputs "
        f"({len(layers)} of {len(layers)} layers: for any input)."
    )
    assert outcome.out == score(capsys, quantized).out


@pytest.mark.parametrize("overflow", ["saturate", "wrap", "report"])
def test_overflows_are_counted_and_warned_of(capsys: Capture, quantized: Path, overflow: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    flags = ("--arithmetic", "integer", "--accumulator_bits", 10, "--overflow", overflow, "--report", report)
    outcome = score(capsys, quantized, *flags)
    data = json.loads(report.read_text())
    over = {name for name, layer in data["integer_layers"].items() if layer["overflows"]}
    assert over
    assert {name for name, cells in table(outcome).items() if cells[3] != "0"} == over
    assert any("overflow the accumulator of 10 bits" in warning for warning in data["warnings"])
    assert (outcome.out == score(capsys, quantized).out) == (overflow == "report")


def test_run_warns_of_overflows(capsys: Capture, quantized: Path, tmp_path: Path) -> None:
    weights = ("--weights", LENET / "digits_lenet.caffemodel", "--data-root", MODELS, "--outputs", tmp_path / "o.npz")
    flags = ("--model", quantized, *weights, "--arithmetic", "integer", "--accumulator_bits")
    assert "sums in" in ristretto(capsys, "run", *flags, 10, "--overflow", "report").err
    assert ristretto(capsys, "run", *flags, 32).err == ""


def test_a_float_net_has_no_table(capsys: Capture, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    outcome = score(capsys, LENET / "train_val.prototxt", "--arithmetic", "integer", "--report", report)
    assert outcome.err.splitlines()[-1].startswith("No layer was computed on integers")
    assert json.loads(report.read_text())["integer_layers"] == {}


def test_float32_has_no_table(capsys: Capture, quantized: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    outcome = score(capsys, quantized, "--report", report)
    assert "differs" not in outcome.err
    data = json.loads(report.read_text())
    assert data["arithmetic"] == "float32"
    assert "integer_layers" not in data


def test_a_layer_in_floating_point_is_told(capsys: Capture, quantized: Path) -> None:
    text = quantized.read_text()
    at = text.index("quantization_param {") + len("quantization_param {")
    quantized.write_text(text[:at] + ' float_format_layer_in: "half"' + text[at:])
    flags = ("--model", quantized, *WEIGHTS, *ROOT, "--iterations", 1, "--arithmetic", "integer")
    outcome = ristretto(capsys, "test", *flags)
    assert outcome.status != 0
    assert "its input is in floating point, half" in outcome.message
    assert "--arithmetic float32" in outcome.message

"""Every command through the program itself, on the nets that the project ships."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.textproto import parse
from ristretto.cli.gflags import switches_to_click
from ristretto.cli.main import _COMMANDS, gflags_to_click
from tests.cli.runner import MODELS, ristretto

LENET = MODELS / "digits_lenet"
RESNET = MODELS / "digits_resnet"
NET = ("--model", LENET / "train_val.prototxt", "--weights", LENET / "digits_lenet.caffemodel")
DEPLOY = ("--model", LENET / "deploy.prototxt", "--weights", LENET / "digits_lenet.caffemodel")
ROOT = ("--data-root", MODELS)
Capture = pytest.CaptureFixture[str]


def quantize(capsys: Capture, folder: Path, *more: object, net: tuple[object, ...] = NET) -> Path:
    output = folder / "quantized.prototxt"
    mode = ("--trimming_mode", "dynamic_fixed_point")
    outcome = ristretto(capsys, "quantize", *net, "--model_quantized", output, *mode, *ROOT, *more)
    assert outcome.status == 0, outcome.err
    return output


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_has_help_with_an_example(capsys: Capture, command: str) -> None:
    outcome = ristretto(capsys, command, "--help")
    assert outcome.status == 0
    assert "Example:" in outcome.out
    example = outcome.out.split("Example:\n")[1].split("\n\n")[0]
    assert example.splitlines()[0].startswith(f"    ristretto {command}")
    assert all(line.endswith("\\") for line in example.splitlines()[:-1])


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`ristretto {command}`" in (MODELS.parent / "README.md").read_text()


def test_quantize_writes_net_and_report(capsys: Capture, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    output = quantize(capsys, tmp_path, "--iterations", "all", "--error_margin", 1, "--report", report)
    data = json.loads(report.read_text())
    assert data["schema"] == 1
    assert data["baseline"]["score"] == pytest.approx(0.985)
    assert data["baseline"]["images"] == 600
    assert set(data["ladders"]) == {"conv", "fc", "activations"}
    assert data["margin_met"] == (data["drop_pct"] <= 1 + 1e-9)
    document = parse(output.read_bytes())
    layers = [layer for layer in document.root.all("layer") if layer.first("quantization_param")]
    assert len(layers) == len(data["layers"]) == 4
    bw = int(layers[0].first("quantization_param").first("bw_params").text)
    assert bw == data["ladders"]["conv"]["chosen"] == data["layers"]["conv1"]["params"]["bw"]
    # what the report claims is what a second command finds
    outcome = ristretto(capsys, "test", "--model", output, *NET[2:], *ROOT, "--iterations", "all", "--report", report)
    assert outcome.status == 0
    again = json.loads(report.read_text())
    assert again["score"] == data["combined"]["score"]
    assert again["quantized_layers"] == 4


def test_the_same_job_gives_the_same_files(capsys: Capture, tmp_path: Path) -> None:
    texts = []
    for name, threads in (("a", 1), ("b", 2)):
        folder = tmp_path / name
        folder.mkdir()
        report = folder / "report.json"
        output = quantize(capsys, folder, "--iterations", 3, "--report", report, "--threads", threads)
        data = re.sub(r'"seconds": [\d.]+', "", report.read_text())
        texts.append((output.read_bytes(), data))
    assert texts[0] == texts[1]


def test_fixed_widths_are_not_searched(capsys: Capture, tmp_path: Path) -> None:
    output = tmp_path / "q.prototxt"
    widths = ("--bw_conv_params", 6, "--bw_fc_params", 5, "--bw_activations", 7)
    mode = ("--trimming_mode", "dynamic_fixed_point")
    outcome = ristretto(capsys, "quantize", *NET, *ROOT, "--model_quantized", output, *mode, *widths, "--iterations", 2)
    assert outcome.err.count("Running for 2 iterations.") == 2
    assert "6bit CONV weights as asked: not searched." in outcome.err
    assert re.findall(r"bw_params: (\d)", output.read_text()) == ["6", "6", "5", "5"]
    assert "bw_layer_in: 7" in output.read_text()


def test_residual_net_with_in_place_layers_keeps_its_accuracy(capsys: Capture, tmp_path: Path) -> None:
    net = ("--model", RESNET / "train_val.prototxt", "--weights", RESNET / "digits_resnet.caffemodel")
    report = tmp_path / "r.json"
    widths = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)
    quantize(capsys, tmp_path, "--iterations", "all", "--report", report, *widths, net=net)
    data = json.loads(report.read_text())
    assert data["baseline"]["score"] == pytest.approx(0.99167, abs=1e-4)
    assert data["combined"]["score"] >= 0.98


def test_also_writes_the_same_formats_elsewhere(capsys: Capture, tmp_path: Path) -> None:
    deploy = tmp_path / "deploy.prototxt"
    quantize(capsys, tmp_path, "--iterations", 2, "--also", f"{LENET / 'deploy.prototxt'}={deploy}")
    assert deploy.read_text().count("quantization_param {") == 4
    assert deploy.read_text().startswith((LENET / "deploy.prototxt").read_text()[:60])


def test_strict_tells_a_missed_margin(capsys: Capture, tmp_path: Path) -> None:
    output = tmp_path / "q.prototxt"
    hopeless = ("--bw_conv_params", 1, "--bw_activations", 2, "--bw_fc_params", 1, "--error_margin", 0.1)
    mode = ("--trimming_mode", "dynamic_fixed_point", "--iterations", 2)
    arguments = ("quantize", *NET, *ROOT, "--model_quantized", output, *mode, *hopeless)
    assert ristretto(capsys, *arguments).status == 0
    outcome = ristretto(capsys, *arguments, "--strict")
    assert outcome.status == 3
    assert "the combined net misses the margin: it drops" in outcome.err
    assert outcome.out.endswith("; the margin of 0.1 points is missed\n")
    assert output.exists()


def test_wrapping_around_is_told(capsys: Capture, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    quantize(capsys, tmp_path, "--iterations", 13, "--report", report, "--bw_conv_params", 8, "--bw_fc_params", 8)
    data = json.loads(report.read_text())
    assert data["source_images"] == 600
    assert any(text.startswith("650 images were asked for, the TEST source holds 600") for text in data["warnings"])


def test_a_loss_for_a_score_is_warned_of(capsys: Capture, tmp_path: Path) -> None:
    output = tmp_path / "q.prototxt"
    mode = ("--trimming_mode", "dynamic_fixed_point", "--iterations", 1, "--score", "loss")
    outcome = ristretto(capsys, "quantize", *NET, *ROOT, "--model_quantized", output, *mode)
    assert "the score 'loss' is a loss: a smaller one is better" in outcome.err


def test_run_from_npz_and_from_own_data_agree(capsys: Capture, tmp_path: Path) -> None:
    batch, probabilities = tmp_path / "batch.npz", tmp_path / "prob.npz"
    outcome = ristretto(capsys, "run", *NET, *ROOT, "--outputs", batch, "--blobs", "data,label,ip2", "--batch", 3)
    assert outcome.status == 0, outcome.err
    own = np.load(batch)
    assert own["data"].shape == (50, 1, 16, 16)
    outcome = ristretto(capsys, "run", *DEPLOY, "--inputs", batch, "--outputs", probabilities, "--blobs", "ip2,prob")
    assert outcome.status == 0, outcome.err
    fed = np.load(probabilities)
    np.testing.assert_allclose(fed["ip2"], own["ip2"], rtol=1e-4, atol=1e-4)
    assert (fed["prob"].argmax(axis=1) == own["label"]).mean() > 0.9
    np.testing.assert_allclose(fed["prob"].sum(axis=1), 1, rtol=1e-5)


def test_run_saves_all_blobs(capsys: Capture, tmp_path: Path) -> None:
    output = tmp_path / "all.npz"
    outcome = ristretto(capsys, "run", *NET, *ROOT, "--outputs", output, "--blobs", "all", "--phase", "TRAIN")
    assert outcome.status == 0, outcome.err
    assert {"data", "label", "conv1", "loss"} <= set(np.load(output).files)


def test_apply_with_no_layers_gives_the_input_back(capsys: Capture, tmp_path: Path) -> None:
    formats, output = tmp_path / "f.json", tmp_path / "o.prototxt"
    formats.write_text('{"layers": {}}')
    source = LENET / "train_val.prototxt"
    assert ristretto(capsys, "apply", "--model", source, "--formats", formats, "--output", output).status == 0
    assert output.read_bytes() == source.read_bytes()


def test_apply_writes_a_reports_formats(capsys: Capture, tmp_path: Path) -> None:
    report, output = tmp_path / "r.json", tmp_path / "o.prototxt"
    quantized = quantize(capsys, tmp_path, "--iterations", 2, "--report", report)
    source = LENET / "train_val.prototxt"
    outcome = ristretto(capsys, "apply", "--model", source, "--formats", report, "--output", output)
    assert outcome.status == 0
    assert output.read_bytes() == quantized.read_bytes()


def test_apply_names_layers_that_are_not_there(capsys: Capture, tmp_path: Path) -> None:
    formats, output = tmp_path / "f.json", tmp_path / "o.prototxt"
    formats.write_text('{"layers": {"conv9": {"in": {"bw": 8, "fl": 1}}, "conv1": {"in": {"bw": 8, "fl": 1}}}}')
    outcome = ristretto(capsys, "apply", "--model", LENET / "deploy.prototxt", "--formats", formats, "--output", output)
    assert outcome.status == 0
    assert "has no layer 'conv9' that could be quantized" in outcome.err


def test_upgrade_brings_an_old_net_to_todays_form(capsys: Capture, tmp_path: Path) -> None:
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text(
        'input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4\nlayers { name: "r" type: RELU '
        'bottom: "x" top: "y" }\n'
    )
    assert ristretto(capsys, "upgrade", "--model", old, "--output", new).status == 0
    output = tmp_path / "o.npz"
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    outcome = ristretto(capsys, "run", "--model", new, "--inputs", tmp_path / "x.npz", "--outputs", output)
    assert outcome.status == 0, outcome.err
    np.testing.assert_array_equal(np.load(output)["y"], np.maximum(x, 0))


def test_upgrade_of_a_solver(capsys: Capture, tmp_path: Path) -> None:
    old, new = tmp_path / "solver.prototxt", tmp_path / "new.prototxt"
    old.write_text('net: "n.prototxt"  # the net\nsolver_type: ADAM\n')
    assert ristretto(capsys, "upgrade", "--model", old, "--output", new).status == 0
    assert new.read_text() == 'net: "n.prototxt"  # the net\ntype: "Adam"\n'


def test_inspect_counts(capsys: Capture) -> None:
    outcome = ristretto(capsys, "inspect", *DEPLOY)
    assert outcome.status == 0
    assert "13,962 parameters" in outcome.out
    facts = json.loads(ristretto(capsys, "inspect", *DEPLOY, "--json").out)
    first = next(layer for layer in facts["layers"] if layer["name"] == "conv1")
    assert first["outputs"] == [[1, 16, 12, 12]]
    assert first["macs"] == 16 * 12 * 12 * 25
    assert first["blobs"][0]["shape"] == [16, 1, 5, 5]


def test_demo(capsys: Capture, tmp_path: Path) -> None:
    outcome = ristretto(capsys, "demo", "--output", tmp_path / "d")
    assert outcome.status == 0, outcome.err
    written = {path.name for path in (tmp_path / "d").iterdir()}
    assert written == {"quantized.prototxt", "deploy_quantized.prototxt", "report.json", "report.html"}


def test_the_nets_of_the_demo_to_try_things_on(capsys: Capture, tmp_path: Path) -> None:
    outcome = ristretto(capsys, "demo", "--copy", tmp_path / "d")
    nets = [tmp_path / "d" / name / "train_val.prototxt" for name in ("digits_lenet", "digits_resnet")]
    assert (outcome.status, outcome.out) == (0, f"{nets[0]}\n{nets[1]}\n"), outcome.err
    words = ("--weights", nets[0].with_name("digits_lenet.caffemodel"), "--data-root", tmp_path / "d")
    assert ristretto(capsys, "test", "--model", nets[0], *words, "--iterations", 1).status == 0
    nets[0].write_text("changed")
    outcome = ristretto(capsys, "demo", "--copy", tmp_path / "d")
    assert (outcome.status, nets[0].read_text()) == (2, "changed"), outcome.out


@pytest.mark.parametrize("style", ["-{0}={1}", "--{0}={1}", "-{0} {1}", "--{0} {1}"])
def test_gflags_spellings(capsys: Capture, tmp_path: Path, style: str) -> None:
    output = tmp_path / "q.prototxt"
    flags = {
        "model": NET[1],
        "weights": NET[3],
        "model_quantized": output,
        "trimming-mode": "dynamic_fixed_point",
        "data_root": MODELS,
        "iterations": 1,
        "error-margin": 99,
        "gpu": "all",
    }
    words = [word for name, value in flags.items() for word in style.format(name, value).split(" ")]
    outcome = ristretto(capsys, "quantize", *words)
    assert outcome.status == 0, outcome.err
    assert "--gpu=all was asked for" in outcome.err


def test_negative_numbers_are_no_flags() -> None:
    assert gflags_to_click(["-seed", "-3", "-h", "--", "-model"]) == ["--seed", "-3", "-h", "--", "-model"]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("--fast=true", "--fast"),
        ("--fast=T --fold=1", "--fast --fold"),
        ("--fast=false --seed 1", "--seed 1"),
        ("--fast --nofast", ""),
        ("--fast=no --fast", "--fast"),
        ("--keep-zero --keep_zero=0", ""),
        ("--nofold --fold=no --no-fold --no_fold=yes", "--no-fold --no-fold --no-fold --no-fold"),
        ("--no_fold=false --nonsense --nofast=true", "--fold --nonsense --nofast=true"),
        ("--noscore --model=noscore", "--no-score --model=noscore"),
        ("-- --fast=true", "-- --fast=true"),
    ],
)
def test_switches_as_gflags_has_them(given: str, taken: str) -> None:
    switches = {
        "fast": ("--fast", ""),
        "fold": ("--fold", "--no-fold"),
        "no_fold": ("--no-fold", "--fold"),
        "keep_zero": ("--keep_zero", ""),
        "no_score": ("--no-score", ""),
    }
    assert switches_to_click(given.split(), switches) == taken.split()


def test_a_switch_is_true_or_false(capsys: Capture, tmp_path: Path) -> None:
    words = ("inspect", *NET[:2])
    assert ristretto(capsys, *words, "--json=true").out == ristretto(capsys, *words, "-json").out
    assert ristretto(capsys, *words, "--nojson").out == ristretto(capsys, *words).out
    outcome = ristretto(capsys, *words, "--json=maybe")
    assert (outcome.status, outcome.message) == (2, "ristretto: --json cannot be 'maybe'; it is true or false")


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_half_written(tmp_path: Path) -> None:
    output = tmp_path / "q.prototxt"
    output.write_text("the old content")
    command = [sys.executable, "-m", "ristretto", "quantize", *map(str, (*NET, *ROOT)), "--model_quantized"]
    command += [str(output), "--trimming_mode", "dynamic_fixed_point", "--iterations", "2000"]
    command += ["--report", str(tmp_path / "r.json")]
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # a test run in the background ignores Ctrl-C, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(0.3)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == (-number if number == signal.SIGKILL else 130)
        assert b"Traceback" not in err
        assert output.read_text() == "the old content"
        assert [path.name for path in tmp_path.iterdir()] == ["q.prototxt"]


def test_input_fields_stay_as_they_are(capsys: Capture, tmp_path: Path) -> None:
    """A net that names its inputs the old way is quantized and keeps them."""
    old, output = tmp_path / "old.prototxt", tmp_path / "q.prototxt"
    text = (LENET / "deploy.prototxt").read_text()
    start, end = text.index("layer {"), text.index("# 16x16 -> 12x12")
    head = 'input: "data"  # gray\ninput_dim: 50 input_dim: 1 input_dim: 16 input_dim: 16\n'
    old.write_text(text[:start] + head + text[end:])
    batch = tmp_path / "batch.npz"
    assert ristretto(capsys, "run", *NET, *ROOT, "--outputs", batch, "--blobs", "data").status == 0
    flags = ("--trimming_mode", "dynamic_fixed_point", "--inputs", batch, "--model_quantized", output)
    outcome = ristretto(capsys, "quantize", "--model", old, *NET[2:], *flags)
    assert outcome.status == 0, outcome.err
    assert head in output.read_text()
    assert output.read_text().count("quantization_param {") == 4

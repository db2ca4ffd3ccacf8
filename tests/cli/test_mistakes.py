"""A user's mistakes: exit status 2 and one line that says what, where and how to mend it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.runner import MODELS, ristretto

Capture = pytest.CaptureFixture[str]
LENET = MODELS / "digits_lenet"
PROTOTXT, WEIGHTS = LENET / "train_val.prototxt", LENET / "digits_lenet.caffemodel"
MODE = ("--trimming_mode", "dynamic_fixed_point", "--data-root", MODELS, "--iterations", 1)


def mistake(capsys: Capture, *arguments: object) -> str:
    outcome = ristretto(capsys, *arguments)
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    assert outcome.message.startswith("ristretto: ")
    return outcome.message.removeprefix("ristretto: ")


def quantize(capsys: Capture, folder: Path, model: Path = PROTOTXT, weights: object = WEIGHTS, *more: object) -> str:
    target = folder / "q.prototxt"
    message = mistake(
        capsys, "quantize", "--model", model, "--weights", weights, "--model_quantized", target, *MODE, *more
    )
    assert not target.exists()
    return message


def test_missing_files(capsys: Capture, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    cannot = "cannot read the prototxt: No such file or directory; check the path given"
    assert quantize(capsys, tmp_path, gone) == f"{gone}: {cannot}"
    assert quantize(capsys, tmp_path, PROTOTXT, gone).startswith(f"{gone}: cannot read the weights: No such file")


def test_flags(capsys: Capture, tmp_path: Path) -> None:
    message = mistake(capsys, "quantize", "--modle", PROTOTXT)
    assert "--modle" in message
    assert "--model" in message.split("--modle", 1)[1]
    assert message.endswith("see ristretto quantize --help")
    assert "--model_quantized" in mistake(capsys, "quantize", "--model", PROTOTXT, "--weights", WEIGHTS)
    assert "neither a number of batches from 1 to 100000000 nor all" in quantize(
        capsys, tmp_path, PROTOTXT, WEIGHTS, "--iterations", "0"
    )
    assert mistake(capsys, "quantise").startswith("No such command 'quantise'")


def test_outputs_are_checked_before_the_job(capsys: Capture, tmp_path: Path) -> None:
    flags = ("--model", PROTOTXT, "--weights", WEIGHTS, *MODE)
    target = tmp_path / "no" / "q.prototxt"
    message = mistake(capsys, "quantize", *flags, "--model_quantized", target)
    assert message == f"{target}: cannot write: the folder does not exist; make {target.parent} first"
    message = mistake(capsys, "quantize", *flags, "--model_quantized", tmp_path)
    assert message == f"{tmp_path}: this is a folder, a file is to be written; give a file name"
    report = tmp_path / "no" / "r.json"
    assert str(report) in quantize(capsys, tmp_path, PROTOTXT, WEIGHTS, "--report", report)


def test_swapped_model_and_weights(capsys: Capture, tmp_path: Path) -> None:
    assert str(WEIGHTS) in quantize(capsys, tmp_path, WEIGHTS, PROTOTXT)
    assert quantize(capsys, tmp_path, PROTOTXT, PROTOTXT).startswith(
        f"{PROTOTXT}: this is a prototxt, not a weights file"
    )


def test_truncated_files(capsys: Capture, tmp_path: Path) -> None:
    net, weights = tmp_path / "t.prototxt", tmp_path / "t.caffemodel"
    net.write_bytes(PROTOTXT.read_bytes().rstrip()[:-1])
    weights.write_bytes(WEIGHTS.read_bytes()[:-40])
    assert "is never closed; add the matching '}'" in quantize(capsys, tmp_path, net)
    assert "damaged or no weights file" in quantize(capsys, tmp_path, PROTOTXT, weights)


def test_weights_of_another_net(capsys: Capture, tmp_path: Path) -> None:
    other = MODELS / "digits_resnet" / "digits_resnet.caffemodel"
    message = quantize(capsys, tmp_path, PROTOTXT, other)
    assert "no weights for " in message or "in the weights file has shape" in message


def test_a_shape_that_does_not_fit_names_both(capsys: Capture, tmp_path: Path) -> None:
    net = tmp_path / "n.prototxt"
    net.write_text(PROTOTXT.read_text().replace("num_output: 16", "num_output: 17", 1))
    message = quantize(capsys, tmp_path, net)
    assert (
        "layer 'conv1': blob 0 in the weights file has shape [16, 1, 5, 5], the layer expects [17, 1, 5, 5]" in message
    )


def test_missing_source_says_where_it_looked(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--model", PROTOTXT, "--weights", WEIGHTS, "--model_quantized", tmp_path / "q", "--trimming_mode")
    message = mistake(capsys, "quantize", *flags, "dynamic_fixed_point")
    assert "the source 'digits_data/test_lmdb' does not exist: looked for" in message
    assert "--data-root" in message


def test_a_quantized_net_fed_in_again(capsys: Capture, tmp_path: Path) -> None:
    first = tmp_path / "first.prototxt"
    flags = ("--model", PROTOTXT, "--weights", WEIGHTS, "--model_quantized", first, *MODE)
    assert ristretto(capsys, "quantize", *flags).status == 0
    message = quantize(capsys, tmp_path, first)
    assert message.endswith("has no Convolution or InnerProduct layer; it is quantized already: give the float net")


def test_a_net_without_data(capsys: Capture, tmp_path: Path) -> None:
    message = quantize(capsys, tmp_path, LENET / "deploy.prototxt")
    assert "layer 'data': layers of type Input have no data of their own; give arrays for data with --inputs" in message


def test_a_solver_is_no_net(capsys: Capture, tmp_path: Path) -> None:
    solver = tmp_path / "solver.prototxt"
    solver.write_text('net: "train_val.prototxt"\nbase_lr: 0.01\n')
    assert "the net has no layer in phase TEST; is this a solver, or a net of another phase?" in quantize(
        capsys, tmp_path, solver
    )


def test_unknown_layers_are_named_together(capsys: Capture, tmp_path: Path) -> None:
    net = tmp_path / "n.prototxt"
    text = PROTOTXT.read_text().replace('type: "Pooling"', 'type: "Poolign"')
    net.write_text(text)
    message = quantize(capsys, tmp_path, net)
    assert "unknown layer type 'Poolign'; the nearest known type is 'Pooling'" in message
    net.write_text(text.replace('type: "ReLU"', 'type: "Warp"'))
    message = quantize(capsys, tmp_path, net)
    assert "2 unknown layer types: 'Poolign'" in message
    assert "'Warp'" in message


def test_wiring(capsys: Capture, tmp_path: Path) -> None:
    net = tmp_path / "n.prototxt"
    net.write_text('layer { name: "r" type: "ReLU" bottom: "nothing" top: "y" }\n')
    message = mistake(capsys, "run", "--model", net, "--outputs", tmp_path / "o.npz")
    assert message.startswith(f"{net}:1:")
    assert "layer 'r': unknown bottom blob 'nothing'; " in message


def test_score_of_an_unknown_blob(capsys: Capture, tmp_path: Path) -> None:
    message = quantize(capsys, tmp_path, PROTOTXT, WEIGHTS, "--score", "acuracy")
    assert "there is no blob 'acuracy' to score; the net's outputs are accuracy, loss" in message


def test_npz(capsys: Capture, tmp_path: Path) -> None:
    inputs = tmp_path / "x.npz"
    flags = ("--model", LENET / "deploy.prototxt", "--weights", WEIGHTS, "--outputs", tmp_path / "o.npz")
    np.savez(inputs, image=np.zeros((1, 1, 16, 16)))
    message = mistake(capsys, "run", *flags, "--inputs", inputs)
    assert message.startswith(f"{inputs}: no array for blob 'data'; ")
    np.savez(inputs, data=np.zeros((1, 1, 4, 4)))
    assert "does not fit a bottom of shape (1, 1, 4, 4)" in mistake(capsys, "run", *flags, "--inputs", inputs)
    inputs.write_text("no zip")
    assert "cannot read the arrays" in mistake(capsys, "run", *flags, "--inputs", inputs)


def test_formats_that_are_no_json(capsys: Capture, tmp_path: Path) -> None:
    formats = tmp_path / "f.json"
    formats.write_text("{,}")
    output = tmp_path / "o.prototxt"
    message = mistake(capsys, "apply", "--model", PROTOTXT, "--formats", formats, "--output", output)
    assert message == f"{formats}:1:2: this is no JSON"


def test_debug_shows_where(capsys: Capture, tmp_path: Path) -> None:
    outcome = ristretto(capsys, "inspect", "--debug", "--model", tmp_path / "gone")
    assert outcome.status == 2
    assert "Traceback" in outcome.err


def test_a_net_that_computes_no_score(capsys: Capture, tmp_path: Path) -> None:
    inputs = tmp_path / "x.npz"
    np.savez(inputs, data=np.zeros((3, 1, 16, 16)))
    message = mistake(capsys, "test", "--model", LENET / "deploy.prototxt", "--weights", WEIGHTS, "--inputs", inputs)
    assert "the net computes no score: blob 'prob' is none; name an accuracy with --score" in message


def test_results_never_go_over_inputs_or_each_other(capsys: Capture, tmp_path: Path) -> None:
    net, weights = tmp_path / "net.prototxt", tmp_path / "w.caffemodel"
    net.write_bytes(PROTOTXT.read_bytes())
    weights.write_bytes(WEIGHTS.read_bytes())
    job = ("quantize", "--model", net, "--weights", weights, *MODE, "--model_quantized")
    lost, both = "this file is an input too: it would be lost", "two results would go into this one file"
    assert lost in mistake(capsys, *job, weights)
    assert lost in mistake(capsys, *job, tmp_path / "." / "net.prototxt")
    other = tmp_path / "z.prototxt"
    assert both in mistake(capsys, *job, other, "--report", other)
    assert both in mistake(capsys, *job, other, "--also", f"{LENET / 'deploy.prototxt'}={other}")
    assert lost in mistake(capsys, "run", "--model", net, "--weights", weights, "--outputs", weights)
    assert lost in mistake(capsys, "upgrade", "--model", net, "--output", net)
    assert weights.read_bytes() == WEIGHTS.read_bytes()
    assert net.read_bytes() == PROTOTXT.read_bytes()
    assert not other.exists()


def test_results_never_go_over_inputs_however_they_are_spelled(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.prototxt").write_bytes(PROTOTXT.read_bytes())
    (tmp_path / "w.caffemodel").write_bytes(WEIGHTS.read_bytes())
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    net = ("--model", "net.prototxt", "--weights", "w.caffemodel")
    lost, both = "this file is an input too: it would be lost", "two results would go into this one file"
    for output in ("net.prototxt", tmp_path / "net.prototxt", "real/../net.prototxt", "./w.caffemodel"):
        assert lost in mistake(capsys, "quantize", *net, *MODE, "--model_quantized", output)
        assert lost in mistake(capsys, "test", *net, "--report", output)
    for output in (tmp_path / "q", "real/../q"):
        assert both in mistake(capsys, "quantize", *net, *MODE, "--model_quantized", "q", "--report", output)
    outputs = ("--model_quantized", "real/q", "--report", "folder/q")
    assert both in mistake(capsys, "quantize", *net, *MODE, *outputs)
    assert (tmp_path / "net.prototxt").read_bytes() == PROTOTXT.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "net.prototxt", "real", "w.caffemodel"]


def test_labels_that_no_class_has(capsys: Capture, tmp_path: Path) -> None:
    inputs = tmp_path / "x.npz"
    np.savez(inputs, data=np.zeros((3, 1, 16, 16)), label=np.array([0, 9, 10]))
    message = mistake(capsys, "test", "--model", PROTOTXT, "--weights", WEIGHTS, "--inputs", inputs)
    assert "label 10 of image 2 of batch 0 in blob 'label', the net has 10 classes; labels count from 0 to 9" in message


def test_a_net_without_train_data_names_the_cure(capsys: Capture, tmp_path: Path) -> None:
    net = tmp_path / "n.prototxt"
    text = PROTOTXT.read_text()
    start = text.index("layer {")
    net.write_text(text[:start] + text[text.index("layer {", start + 5) :])
    message = quantize(capsys, tmp_path, net)
    assert "the net of phase TRAIN, on whose data the ranges are measured, cannot be built" in message
    assert "--calibration_phase TEST" in message
    flags = ("--model", net, "--weights", WEIGHTS, "--model_quantized", tmp_path / "q", *MODE)
    assert ristretto(capsys, "quantize", *flags, "--calibration_phase", "TEST").status == 0


def test_formats_with_strange_or_double_keys(capsys: Capture, tmp_path: Path) -> None:
    formats, output = tmp_path / "f.json", tmp_path / "o.prototxt"
    apply = ("apply", "--model", PROTOTXT, "--formats", formats, "--output", output)
    formats.write_text('{"layers": {"conv1": {"weights": {"bw": 8, "fl": 1}}}}')
    assert "layer 'conv1': 'weights' is no part of a layer; a layer has in, out, params" in mistake(capsys, *apply)
    formats.write_text('{"layers": {"a": {}, "a": {}}}')
    assert "'a' is given twice; keep one of them" in mistake(capsys, *apply)
    formats.write_text('{"layers": {"nobody": {"in": {"bw": 8, "fl": 1}}}}')
    assert "none of the layers of the formats file is in this prototxt" in mistake(capsys, *apply)
    assert not output.exists()


def test_run_flags(capsys: Capture, tmp_path: Path) -> None:
    job = ("run", "--model", PROTOTXT, "--weights", WEIGHTS, "--outputs", tmp_path / "o.npz", "--data-root", MODELS)
    assert mistake(capsys, *job, "--blobs", ",") == "--blobs names no blob; write --blobs conv1,prob or --blobs all"
    message = mistake(capsys, *job, "--batch", 99999999)
    assert "there is no batch number 99999999: the source holds 600 images, 12 batches; use 0 to 11" in message


def test_a_binary_file_for_a_net(capsys: Capture, tmp_path: Path) -> None:
    message = quantize(capsys, tmp_path, WEIGHTS, WEIGHTS)
    assert "this is a binary file, not a prototxt; are --model and --weights swapped" in message

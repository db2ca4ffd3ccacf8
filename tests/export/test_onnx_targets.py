"""``ristretto export`` to ONNX: what onnxruntime computes with its default options, as a user gets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from ristretto.export.measure import pieces
from ristretto.pipeline.kernels import exact_integer_kernels
from ristretto.version import VERSION
from tests.cli.runner import Outcome, ristretto
from tests.export.nets import MODELS, quantized
from tests.golden.shared import SHARED, needs_shared

Capture = pytest.CaptureFixture[str]
WIDTHS = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)

NETS: dict[str, dict[str, Any]] = {
    "digits_lenet": {},
    "digits_resnet": {},
    "digits_lenet by channel": {"per_channel": True, "bw_conv_params": 4},
    "digits_lenet powers of two": {"trimming_mode": "integer_power_of_2_weights"},
    "digits_resnet sums and averages": {"other_layers": ("Eltwise", "Pooling"), "bw_activations": 6},
    "digits_resnet not folded": {"fold": False},
    "digits_resnet original": {"preset": "original", "fold": True},
}

needs_exact_kernels = pytest.mark.skipif(
    not exact_integer_kernels(), reason="this processor's kernels for 8 bits are not exact (no VNNI)"
)


def flags_of(net: str, **options: Any) -> tuple[object, ...]:
    """Flags that name a quantized net and its data."""
    model, weights = quantized(net, **options)
    return ("--model", model, "--weights", weights, "--data-root", MODELS)


def exported(capsys: Capture, net: tuple[object, ...], target: str, output: Path, *flags: object) -> Outcome:
    outcome = ristretto(capsys, "export", *net, "--target", target, "--output", output, *flags)
    assert outcome.status == 0, outcome.err
    return outcome


def integer_outputs(capsys: Capture, net: tuple[object, ...], blob: str, output: Path) -> dict[str, np.ndarray]:
    flags = ("--arithmetic", "integer", "--blobs", f"data,{blob}", "--outputs", output)
    outcome = ristretto(capsys, "run", *net, *flags)
    assert outcome.status == 0, outcome.err
    return dict(np.load(output))


@needs_exact_kernels
@pytest.mark.parametrize("target", ["onnx-int8", "qcdq"])
@pytest.mark.parametrize("name", NETS)
def test_equal_to_integer_arithmetic(capsys: Capture, tmp_path: Path, name: str, target: str) -> None:
    net, _, _ = name.partition(" ")
    flags, blob = flags_of(net, **NETS[name]), {"digits_lenet": "ip2", "digits_resnet": "fc10"}[net]
    outcome = exported(capsys, flags, target, tmp_path / "out", "--images", 200)
    assert "agreement: 2000 values of 200 images, all equal to integer arithmetic" in outcome.out
    run = integer_outputs(capsys, flags, blob, tmp_path / "run.npz")
    session = ort.InferenceSession(tmp_path / "out" / "net.onnx", providers=["CPUExecutionProvider"])
    for images in (run["data"], run["data"][:7]):
        (result,) = session.run([blob], {"data": images})
        np.testing.assert_array_equal(result, run[blob][: len(images)])


@needs_exact_kernels
def test_the_report(capsys: Capture, tmp_path: Path) -> None:
    flags = flags_of("digits_lenet")
    outcome = exported(capsys, flags, "onnx-int8", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    size = (tmp_path / "out" / "net.onnx").stat().st_size
    assert (report["target"], report["version"], report["bytes"]) == ("onnx-int8", VERSION, size)
    assert report["bytes"] < 0.5 * report["float_bytes"]
    assert report["outputs"] == {"ip2": ["N", 10]}
    assert [layer["way"] for layer in report["layers"]] == ["integer", "integer", "integer", "float"]
    assert report["layers"][3]["reason"] == "its output has 24 bits"
    assert report["kernels"]["operations"]["QLinearConv"] == 2
    assert report["kernels"]["products"] == 4
    assert report["agreement"] == {"images": 100, "values": 1000, "differing": 0, "largest": 0.0}
    assert report["speed"]["images"] == 100
    assert report["speed"]["seconds"] > 0
    lines = outcome.out.splitlines()
    assert lines[:3] == [f"{tmp_path / 'out'}: onnx-int8", "input data: N x 1 x 16 x 16", "output ip2: N x 10"]
    assert f"size: {size} bytes, " in outcome.out


@needs_exact_kernels
def test_all_layers_of_the_original_rules_are_integer(capsys: Capture, tmp_path: Path) -> None:
    flags = flags_of("digits_resnet", preset="original", fold=True)
    exported(capsys, flags, "onnx-int8", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {layer["way"] for layer in report["layers"]} == {"integer"}
    assert report["kernels"]["products"] == len(report["layers"]) == 9
    assert report["agreement"]["differing"] == 0


def test_a_clip_tells_of_narrow_formats(capsys: Capture, tmp_path: Path) -> None:
    flags = flags_of("digits_lenet", bw_conv_params=4, bw_fc_params=4, bw_activations=6)
    outcome = exported(capsys, flags, "qcdq", tmp_path / "out")
    assert "all equal to integer arithmetic" in outcome.out
    model = onnx.load(tmp_path / "out" / "net.onnx")
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    clips = [node for node in model.graph.node if node.op_type == "Clip"]
    ends = [tuple(int(constants[name]) for name in node.input[1:]) for node in clips]
    assert ends.count((-8, 7)) == 4  # the weights
    assert set(ends) == {(-8, 7), (0, 63), (-32, 31)}


def test_16_bits_are_stored_as_such(capsys: Capture, tmp_path: Path) -> None:
    flags = flags_of("digits_lenet", bw_activations=12)
    outcome = exported(capsys, flags, "qcdq", tmp_path / "out")
    model = onnx.load(tmp_path / "out" / "net.onnx")
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 21)]
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.UINT16 in types
    assert "agreement: " in outcome.out


def test_qonnx_says_every_rounding(capsys: Capture, tmp_path: Path) -> None:
    flags = flags_of("digits_lenet")
    outcome = exported(capsys, flags, "qonnx", tmp_path / "out")
    assert "16 Quant nodes" in outcome.out
    model = onnx.load(tmp_path / "out" / "net.onnx")
    assert {item.domain for item in model.opset_import} == {"", "qonnx.custom_op.general"}
    shapes = {info.name for info in model.graph.value_info}
    assert {name for node in model.graph.node for name in node.output} <= shapes | {"ip2"}


def test_without_images_it_says_so(capsys: Capture, tmp_path: Path) -> None:
    folder, deploy, weights = MODELS / "digits_lenet", tmp_path / "deploy.prototxt", "digits_lenet.caffemodel"
    made = ("--model_quantized", tmp_path / "q.prototxt", "--also", f"{folder / 'deploy.prototxt'}={deploy}")
    data = ("--data-root", MODELS, "--iterations", 1, "--quiet", "--trimming_mode", "dynamic_fixed_point", *WIDTHS)
    net = ("--model", folder / "train_val.prototxt", "--weights", folder / weights)
    assert ristretto(capsys, "quantize", *net, *made, *data).status == 0
    outcome = exported(capsys, ("--model", deploy, "--weights", folder / weights), "onnx-int8", tmp_path / "out")
    assert "not compared with integer arithmetic, there are no images" in outcome.message
    assert json.loads((tmp_path / "out" / "report.json").read_text())["agreement"] is None


def mistake(capsys: Capture, net: tuple[object, ...], target: str, output: Path, *flags: object) -> str:
    outcome = ristretto(capsys, "export", *net, "--target", target, "--output", output, *flags)
    assert (outcome.status, outcome.out) == (2, "")
    assert not list(output.parent.glob(".*")), "something is left behind"
    return outcome.message


def test_mistakes_name_the_layer(capsys: Capture, tmp_path: Path) -> None:
    given, model = flags_of("digits_lenet"), tmp_path / "net.prototxt"
    text = Path(str(given[1])).read_text()
    flags = ("--model", model, *given[2:])
    output = tmp_path / "out"
    model.write_text(text.replace("bw_params: 8", 'bw_params: 8\n    float_format_layer_in: "half"', 1))
    said = mistake(capsys, flags, "qonnx", output)
    assert "layer 'conv1': target qonnx cannot hold its input: floating point, half; give it a fixed point" in said
    assert "layer 'conv1': target onnx-int8 cannot hold its input" in mistake(capsys, flags, "onnx-int8", output)
    model.write_text(text.replace("bw_layer_in: 8", "bw_layer_in: 28", 1))
    assert "28 bits, <28, 7>" in mistake(capsys, flags, "qcdq", output)
    model.write_text(text.replace("bw_params: 8", "bw_params: 8\n    float_layer_out: true", 1))
    assert "its output is float; give it a format" in mistake(capsys, flags, "onnx-int8", output)
    model.write_text(text)
    assert "no blob 'ip9'" in mistake(capsys, flags, "onnx-int8", output, "--blobs", "ip9")
    rounded = mistake(capsys, flags, "qonnx", output, "--rounding", "half_away")
    assert "layer 'conv1': it rounds half_away, and QONNX's Quant is written for half_even" in rounded
    output.mkdir()
    (output / "mine").touch()
    assert "not empty" in mistake(capsys, flags, "onnx-int8", output)


def test_another_rounding_is_exact_too(capsys: Capture, tmp_path: Path) -> None:
    flags = flags_of("digits_lenet")
    outcome = exported(capsys, flags, "onnx-int8", tmp_path / "out", "--rounding", "half_away")
    assert "all equal to integer arithmetic" in outcome.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["layers"][0]["reason"] == "it rounds half_away, QuantizeLinear half_even"


@needs_shared
@needs_exact_kernels
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "weights", "images", "products"),
    [
        ("cifar10_quick/train_test.prototxt", "cifar10_quick/cifar10_quick_iter_5000.caffemodel", 300, 3),
        ("cifar10_resnet20/train_test.prototxt", "cifar10_resnet20/resnet20.caffemodel", 200, 13),
        ("squeezenet_v1.0/train_val.prototxt", "squeezenet_v1.0/squeezenet_v1.0.caffemodel", 20, 25),
    ],
    ids=["quick", "resnet20", "squeezenet"],
)
def test_real_nets(
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    weights: str,
    images: int,
    products: int,
) -> None:
    monkeypatch.chdir(SHARED)
    quantize = ("--model", Path("models", model), "--weights", Path("models", weights), "--iterations", 1, *WIDTHS)
    made = ("--model_quantized", tmp_path / "q.prototxt", "--trimming_mode", "dynamic_fixed_point", "--quiet")
    fold = ("--weights_quantized", tmp_path / "q.caffemodel")
    assert ristretto(capsys, "quantize", *quantize, *made, *fold).status == 0
    net = ("--model", tmp_path / "q.prototxt", "--weights", tmp_path / "q.caffemodel")
    exported(capsys, net, "onnx-int8", tmp_path / "out", "--images", images)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["agreement"]["images"] == images
    assert report["agreement"]["differing"] == 0
    assert report["kernels"]["products"] >= products
    assert report["bytes"] < 0.3 * report["float_bytes"]


def test_a_fixed_batch(capsys: Capture, tmp_path: Path) -> None:
    outcome = exported(capsys, flags_of("digits_lenet"), "onnx-int8", tmp_path / "out", "--batch", 3)
    assert "input data: 3 x 1 x 16 x 16" in outcome.out
    assert "agreement: 30 values of 3 images" in outcome.out


def test_random_rounding_is_refused(capsys: Capture, tmp_path: Path) -> None:
    said = mistake(capsys, flags_of("digits_lenet"), "onnx-int8", tmp_path / "out", "--rounding", "stochastic")
    assert "layer 'conv1': it rounds stochastic, which no model can repeat; choose another rounding" in said


def test_many_images_come_in_parts_of_one_size() -> None:
    batch = {"data": np.zeros((60, 3, 300, 300), np.float32), "label": np.zeros(60, np.float32)}
    parts = pieces(batch)
    assert [len(part["label"]) for part in parts] == [15] * 4
    assert len(pieces({"data": np.zeros((60, 3, 30, 30), np.float32)})) == 1

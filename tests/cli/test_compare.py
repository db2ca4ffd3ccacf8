"""``ristretto compare`` through the program itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ristretto.pipeline.compare import compare as compare_nets
from ristretto.pipeline.evaluate import NetOptions
from tests.cli.runner import MODELS, Outcome, ristretto

Capture = pytest.CaptureFixture[str]
LENET = MODELS / "digits_lenet" / "train_val.prototxt", MODELS / "digits_lenet" / "digits_lenet.caffemodel"
RESNET = MODELS / "digits_resnet" / "train_val.prototxt", MODELS / "digits_resnet" / "digits_resnet.caffemodel"
VALUES = {"bw": 8, "fl": 3}
FORMATS: dict[str, dict[str, Any]] = {
    "conv1": {"in": VALUES, "out": VALUES, "params": {"bw": 8, "fl": 6}},
    "conv2": {"in": VALUES, "out": VALUES, "params": {"bw": 2, "fl": 0}},
    "ip2": {"in": VALUES, "params": {"bw": 8, "fl": 6}, "bias": None},
}


def compare(capsys: Capture, *more: object, net: tuple[Path, Path] = LENET) -> Outcome:
    flags = ("--model", net[0], "--weights", net[1], "--data-root", MODELS)
    return ristretto(capsys, "compare", *flags, *more)


@pytest.fixture
def quantized(capsys: Capture, tmp_path: Path) -> Path:
    (tmp_path / "formats.json").write_text(json.dumps({"layers": FORMATS}))
    target = tmp_path / "quantized.prototxt"
    flags = ("--model", LENET[0], "--formats", tmp_path / "formats.json", "--output", target)
    assert ristretto(capsys, "apply", *flags).status == 0
    return target


def test_table_names_the_layer_to_blame(capsys: Capture, quantized: Path) -> None:
    outcome = compare(capsys, "--against", quantized, "--images", 20)
    assert (outcome.status, outcome.err) == (0, "")
    title, heads, *rows, last = outcome.out.splitlines()
    assert title == f"{quantized} against {LENET[0]}, 20 images"
    assert heads.split()[:5] == ["layer", "type", "in", "out", "weights"]
    assert [row.split()[0] for row in rows] == [
        *("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "ip1", "relu3", "drop1", "ip2"),
    ]
    conv2 = next(row for row in rows if row.startswith("conv2"))
    assert conv2.split()[1:8] == ["ConvolutionRistretto", "<8,", "3>", "<8,", "3>", "<2,", "0>"]
    worst = conv2.split()[-2]
    assert last.startswith(f"worst own error: conv2 ({worst} dB); the SQNR so far falls most at conv2 (by ")
    relu1 = next(row for row in rows if row.startswith("relu1"))
    assert relu1.split()[1:5] == ["ReLU", "-", "-", "-"]
    assert relu1.split()[-4:-1] == ["-", "-", "inf"]


def test_json_has_the_same_facts(capsys: Capture, quantized: Path) -> None:
    outcome = compare(capsys, "--against", quantized, "--images", 20, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    data = json.loads(outcome.out)
    found = compare_nets(NetOptions(*LENET[:1], (LENET[1],), data_root=MODELS), quantized, images=20)
    assert (data["first"], data["second"], data["images"]) == (str(LENET[0]), str(quantized), 20)
    assert data["worst_own"] == data["steepest_fall"] == {"name": "conv2", "top": "conv2"}
    assert len(data["layers"]) == len(found.layers)
    for entry, layer in zip(data["layers"], found.layers, strict=True):
        assert (entry["name"], entry["type"], entry["top"]) == (layer.name, layer.type, layer.top)
        assert (entry["position"], entry["folded"]) == (0, [])
        assert entry["range"] == [layer.low, layer.high]
        assert (float(entry["own_db"]), float(entry["so_far_db"])) == (layer.own_db, layer.so_far_db)
        assert entry["fall_db"] == layer.fall_db
        assert entry["input_saturated"] == layer.input_saturated
        assert entry["output_saturated"] == layer.output_saturated
        given = FORMATS.get(layer.name)
        assert entry["formats"] == (None if given is None else {"bias": given["params"]} | given)
    # Infinity is a result here, and JSON has no word for it.
    assert next(entry for entry in data["layers"] if entry["name"] == "relu1")["own_db"] == "inf"


def test_equal_nets(capsys: Capture) -> None:
    outcome = compare(capsys, "--against", LENET[0], "--images", 5)
    assert outcome.status == 0
    *_, last = outcome.out.splitlines()
    assert last == "the nets compute the same"
    data = json.loads(compare(capsys, "--against", LENET[0], "--images", 5, "--json").out)
    assert {entry["so_far_db"] for entry in data["layers"]} == {str(math.inf)}
    assert (data["worst_own"], data["steepest_fall"]) == (None, None)


def test_folded_nets_with_weights_of_their_own(capsys: Capture, tmp_path: Path) -> None:
    files = tmp_path / "f.prototxt", tmp_path / "f.caffemodel"
    net = ("--model", RESNET[0], "--weights", RESNET[1])
    assert ristretto(capsys, "fold", *net, "--output", files[0], "--output-weights", files[1]).status == 0
    more = ("--against", files[0], "--images", 5)
    outcome = compare(capsys, *more, "--against-weights", files[1], net=RESNET)
    assert outcome.status == 0
    assert "16 layers of the first net are folded into those before them" in outcome.out.splitlines()
    assert "only in" not in outcome.out
    outcome = compare(capsys, *more, net=RESNET)
    assert outcome.status == 2
    assert "the weights file holds 1 blobs for it, the layer needs 2" in outcome.message


def test_mistakes_are_one_line(capsys: Capture, tmp_path: Path) -> None:
    assert "--against" in compare(capsys).message
    assert "--images" in compare(capsys, "--against", LENET[0], "--images", 0).message
    assert "cannot read the prototxt" in compare(capsys, "--against", tmp_path / "no").message
    other = tmp_path / "other.prototxt"
    other.write_text(
        'layer { name: "x" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 16 dim: 16 } } }\n'
        'layer { name: "y" type: "ReLU" bottom: "data" top: "y" }\n'
    )
    outcome = compare(capsys, "--against", other)
    assert (outcome.status, outcome.out) == (2, "")
    wanted = f"ristretto: {other}: the net has no layer in common with {LENET[0]}; layers are matched by name: "
    assert outcome.message.startswith(wanted)

"""``ristretto export`` to Caffe's own files: quantized values, or integers, in a net that knows no formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from ristretto.dialects.fields import read_plan
from ristretto.graph.build import Simulation
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.feed import open_feed
from ristretto.pipeline.runner import Runner
from tests.cli.runner import Outcome, ristretto
from tests.export.nets import MODELS, quantized

Capture = pytest.CaptureFixture[str]

NETS: dict[str, dict[str, Any]] = {
    "digits_lenet": {},
    "digits_resnet": {},
    "digits_lenet by channel": {"per_channel": True, "bw_conv_params": 4},
    "digits_lenet powers of two": {"trimming_mode": "integer_power_of_2_weights"},
    "digits_lenet minifloat": {"trimming_mode": "minifloat"},
    "digits_resnet not folded": {"fold": False},
}
NAMES = {"digits_lenet": "ip2", "digits_resnet": "fc10"}


def export(capsys: Capture, name: str, target: str, output: Path) -> tuple[Path, Path, Outcome]:
    model, weights = quantized(name.partition(" ")[0], **NETS[name])
    flags = ("--model", model, "--weights", weights, "--data-root", MODELS, "--target", target, "--output", output)
    return model, weights, ristretto(capsys, "export", *flags)


def weights_only(model: Path, weights: Path, blob: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A blob of the quantized net with its activations left float, and what was fed."""
    net = build_net(read_prototxt(model))
    formats = {
        name: LayerFormats(params=own.params, bias=own.bias, rounding=own.rounding)
        for name, own in read_plan(net).layers.items()
    }
    batch = next(open_feed(net, inputs=None, data_root=MODELS, seed=0).batches())
    runner = Runner(net, read_weights((weights,)), [blob], simulation=Simulation(formats))
    return runner.run(batch)[0][blob], batch


@pytest.mark.parametrize("name", NETS)
def test_caffe_is_the_net_with_quantized_weights(capsys: Capture, tmp_path: Path, name: str) -> None:
    model, weights, outcome = export(capsys, name, "caffe", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    blob = NAMES[name.partition(" ")[0]]
    expected, batch = weights_only(model, weights, blob)
    np.savez(tmp_path / "in.npz", **batch)
    plain = ("--model", tmp_path / "out" / "net.prototxt", "--weights", tmp_path / "out" / "net.caffemodel")
    npz = ("--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz", "--blobs", blob)
    assert ristretto(capsys, "run", *plain, *npz).status == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")[blob], expected)


def test_the_prototxt_is_plain_and_keeps_its_comments(capsys: Capture, tmp_path: Path) -> None:
    model, _, outcome = export(capsys, "digits_resnet", "caffe", tmp_path / "out")
    assert outcome.out.splitlines()[-1] == "9 layers with quantized weights in net.prototxt, net.caffemodel"
    text = (tmp_path / "out" / "net.prototxt").read_text()
    assert "quantization_param" not in text
    assert "Ristretto" not in text
    comments = [line for line in model.read_text().splitlines() if line.lstrip().startswith("#")]
    assert comments
    assert [line for line in text.splitlines() if line.lstrip().startswith("#")] == comments
    kept = (line.replace("ConvolutionRistretto", "Convolution") for line in model.read_text().splitlines())
    assert set(text.splitlines()) <= {line.replace("FcRistretto", "InnerProduct") for line in kept}


@pytest.mark.parametrize("name", [name for name in NETS if "minifloat" not in name])
def test_integers_scaled_back_are_the_quantized_weights(capsys: Capture, tmp_path: Path, name: str) -> None:
    model, _, outcome = export(capsys, name, "caffe-integer", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    export(capsys, name, "caffe", tmp_path / "values")
    values = read_weights((tmp_path / "values" / "net.caffemodel",))
    found = read_weights((tmp_path / "out" / "net.caffemodel",))
    told = json.loads((tmp_path / "out" / "integers.json").read_text())["layers"]
    stored = {layer.name for layer in found.layers if layer.blobs}
    assert set(told) == set(read_plan(build_net(read_prototxt(model))).layers) & stored
    for layer, scales in told.items():
        codes, rounded = found.get(layer), values.get(layer)
        assert codes is not None
        assert rounded is not None
        np.testing.assert_array_equal(codes[0], np.round(codes[0]))
        lengths = np.reshape(scales["blobs"][0]["fl"], (-1, *(1,) * (codes[0].ndim - 1)))
        np.testing.assert_array_equal(np.ldexp(codes[0], -lengths), rounded[0])
        if len(codes) > 1:
            accumulator = np.ravel(scales["blobs"][1]["fl"])
            np.testing.assert_array_equal(accumulator, np.ravel(scales["blobs"][0]["fl"]) + scales["input"]["fl"])
            expected = np.round(np.ldexp(rounded[1].astype(np.float64), accumulator))
            np.testing.assert_array_equal(codes[1], expected)


def test_integers_give_the_sums_of_an_accelerator(capsys: Capture, tmp_path: Path) -> None:
    """What the docs tell a user to do: codes in, integer net, one rounding shift."""
    _, _, outcome = export(capsys, "digits_lenet", "caffe-integer", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    model, weights = quantized("digits_lenet")
    flags = ("--data-root", MODELS, "--blobs", "data,conv1", "--outputs", tmp_path / "q.npz", "--arithmetic", "integer")
    assert ristretto(capsys, "run", "--model", model, "--weights", weights, *flags).status == 0
    run = np.load(tmp_path / "q.npz")
    told = json.loads((tmp_path / "out" / "integers.json").read_text())["layers"]["conv1"]
    low, high = (-(2.0**7), 2.0**7 - 1) if told["input"]["signed"] else (0, 2.0**8 - 1)
    codes = np.clip(np.round(np.ldexp(run["data"], told["input"]["fl"])), low, high).astype(np.float32)
    np.savez(tmp_path / "in.npz", data=codes, label=np.zeros(len(codes), np.float32))
    plain = ("--model", tmp_path / "out" / "net.prototxt", "--weights", tmp_path / "out" / "net.caffemodel")
    sums = ("--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "sums.npz", "--blobs", "conv1")
    assert ristretto(capsys, "run", *plain, *sums).status == 0
    shift = told["blobs"][1]["fl"] - told["output"]["fl"]
    assert not told["output"]["signed"]
    output = np.clip(np.round(np.ldexp(np.load(tmp_path / "sums.npz")["conv1"].astype(np.float64), -shift)), 0, 255)
    np.testing.assert_array_equal(np.ldexp(output, -told["output"]["fl"]), run["conv1"])


def test_mistakes(capsys: Capture, tmp_path: Path) -> None:
    outcome = export(capsys, "digits_lenet minifloat", "caffe-integer", tmp_path / "out")[2]
    assert outcome.status == 2
    assert "layer 'conv1'" in outcome.message
    assert "give it fixed point formats, or use --target caffe" in outcome.message
    assert "--arithmetic" not in outcome.message
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    outcome = export(capsys, "digits_lenet", "caffe", tmp_path / "out")[2]
    assert (outcome.status, [path.name for path in (tmp_path / "out").iterdir()]) == (2, ["mine"])


def test_force_replaces_an_older_export(capsys: Capture, tmp_path: Path) -> None:
    model, weights = quantized("digits_lenet")
    flags = ("--model", model, "--weights", weights, "--data-root", MODELS, "--output", tmp_path / "out")
    assert ristretto(capsys, "export", *flags, "--target", "caffe-integer").status == 0
    assert ristretto(capsys, "export", *flags, "--target", "caffe").status == 2
    assert ristretto(capsys, "export", *flags, "--target", "caffe", "--force").status == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["net.caffemodel", "net.prototxt"]


def test_a_shared_parameter_has_one_value(capsys: Capture, tmp_path: Path) -> None:
    text = 'name: "twins"\nlayer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }\n'
    fields = "bw_layer_in: 8 fl_layer_in: 4 bw_layer_out: 8 fl_layer_out: 4 bw_params: 8 fl_params: {} "
    for name, bottom, fl in (("a", "x", 6), ("b", "a", 3)):
        text += (
            f'layer {{ name: "{name}" type: "FcRistretto" bottom: "{bottom}" top: "{name}" param {{ name: "w" }} '
            "inner_product_param { num_output: 4 bias_term: false } "
            f"quantization_param {{ {fields.format(fl)} }} }}\n"
        )
    model, weights = tmp_path / "twins.prototxt", tmp_path / "twins.caffemodel"
    model.write_text(text)
    rng = np.random.default_rng(0)
    blob = rng.standard_normal((4, 4)).astype(np.float32)
    write_caffemodel(weights, "twins", [LayerWeights("a", "InnerProduct", (blob,))])
    flags = ("--model", model, "--weights", weights, "--target", "caffe", "--output", tmp_path / "out")
    outcome = ristretto(capsys, "export", *flags)
    assert outcome.status == 2
    assert "layer 'b': it shares the parameter 'w' with layer 'a' and stores it otherwise" in outcome.message
    model.write_text(text.replace("fl_params: 3", "fl_params: 6"))
    assert ristretto(capsys, "export", *flags).status == 0
    layer, other = read_weights((tmp_path / "out" / "net.caffemodel",)).layers
    np.testing.assert_array_equal(layer.blobs[0], other.blobs[0])
    formats = read_plan(build_net(read_prototxt(model))).layers["a"].params
    assert formats is not None
    np.testing.assert_array_equal(layer.blobs[0], formats.quantize(blob))
    assert layer.type == "InnerProduct"

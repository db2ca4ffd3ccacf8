"""Whole nets in float64. The cases of tests/layers run every layer type in both arithmetics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import ristretto
from ristretto.caffe.weights import LayerWeights, write_caffemodel
from ristretto.errors import NetError
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.pipeline import plugins
from ristretto.pipeline.plugins import registrations_undone_on_error
from tests.cli.runner import MODELS
from tests.cli.runner import ristretto as program

RESNET = MODELS / "digits_resnet"

WIDE = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 64 dim: 9 dim: 9 } } }
layer {
  name: "conv" type: "ConvolutionRistretto" bottom: "x" top: "y"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 stride: 2 }
  quantization_param {
    bw_layer_in: 16 fl_layer_in: 12 bw_params: 16 fl_params: 14
    bw_layer_out: 32 fl_layer_out: 26 bw_bias: 32 fl_bias: 26
  }
}
"""


def test_sums_of_16_bit_products_are_exact(tmp_path: Path) -> None:
    """32 bits and more: float32 rounds them, float64 does not; against whole numbers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 64, 9, 9)).astype(np.float32)
    weights = rng.normal(0, 0.1, (5, 64, 3, 3)).astype(np.float32)
    bias = rng.normal(size=5).astype(np.float32)
    (tmp_path / "net.prototxt").write_text(WIDE)
    write_caffemodel(tmp_path / "w.caffemodel", "n", [LayerWeights("conv", "", (weights, bias))])
    np.savez(tmp_path / "x.npz", x=x)
    codes = np.pad(DynamicFixedPoint(16, 12).encode(x), ((0, 0), (0, 0), (1, 1), (1, 1)))
    kernel = DynamicFixedPoint(16, 14).encode(weights)
    windows = np.lib.stride_tricks.sliding_window_view(codes, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    sums = np.einsum("nchwij,ocij->nohw", windows, kernel) + DynamicFixedPoint(32, 26).encode(bias)[:, None, None]
    exact = np.clip(sums, -(2**31), 2**31 - 1) / 2.0**26
    found = {
        arithmetic: ristretto.run(
            tmp_path / "net.prototxt", tmp_path / "w.caffemodel", inputs=tmp_path / "x.npz", arithmetic=arithmetic
        )["y"]
        for arithmetic in (Arithmetic.FLOAT32, Arithmetic.FLOAT64)
    }
    assert np.abs(sums).max() > 2**25
    np.testing.assert_array_equal(found[Arithmetic.FLOAT64], exact)
    assert (found[Arithmetic.FLOAT32] != exact).mean() > 0.1


def test_the_program_saves_float64_and_scores(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    net = ("--model", RESNET / "train_val.prototxt", "--weights", RESNET / "digits_resnet.caffemodel")
    double = ("--data-root", MODELS, "--arithmetic", "float64")
    outcome = program(capsys, "run", *net, *double, "--outputs", tmp_path / "o.npz", "--blobs", "all")
    assert outcome.status == 0, outcome.err
    saved = np.load(tmp_path / "o.npz")
    plain = ristretto.run(net[1], net[3], ("all",), data_root=MODELS)
    assert set(saved.files) == set(plain)
    for name in saved.files:
        assert saved[name].dtype == np.float64
        np.testing.assert_allclose(plain[name], saved[name], atol=1e-5 * max(1.0, float(np.abs(saved[name]).max())))
    assert np.abs(plain["loss"] - saved["loss"]) > 0
    scores = [
        program(capsys, "test", *net, "--data-root", MODELS, "--iterations", 2, *more).out.splitlines()[0]
        for more in ((), ("--arithmetic", "float64"))
    ]
    assert scores[0] == scores[1]


def test_scores_are_float64() -> None:
    """A loss and an accuracy of the same images: what comes after the seventh digit differs."""
    net = RESNET / "train_val.prototxt", RESNET / "digits_resnet.caffemodel"
    single, double = (
        ristretto.evaluate(*net, 1, data_root=MODELS, arithmetic=arithmetic)
        for arithmetic in (Arithmetic.FLOAT32, Arithmetic.FLOAT64)
    )
    assert double.arithmetic == "float64"
    (loss, *_), (exact, *_) = single.scored.outputs["loss"], double.scored.outputs["loss"]
    assert loss == pytest.approx(float(np.float32(loss)), rel=1e-14)
    assert exact != pytest.approx(float(np.float32(exact)), rel=1e-12)
    assert loss == pytest.approx(exact, rel=1e-5)
    assert single.scored.outputs["accuracy"] == double.scored.outputs["accuracy"]


PLUGIN = """
import numpy as np
import onnx
from ristretto.plugin import LayerContext, LayerShapes, emits, shape_rule


@shape_rule("Doubled")
def doubled_shapes(layer, inputs):
    return LayerShapes((inputs[0],))


@emits("Doubled")
def doubled(context: LayerContext) -> list[str]:
    like = context.op("Shape", context.inputs[0])
    thirds = context.op("ConstantOfShape", like, value=onnx.numpy_helper.from_array(np.float32([1 / 3])))
    zeros = context.op("ConstantOfShape", like)
    return [context.op("Add", context.op("Mul", context.inputs[0], thirds), zeros)]


@shape_rule("Enlarged")
def enlarged_shapes(layer, inputs):
    return LayerShapes((inputs[0],))


@emits("Enlarged")
def enlarged(context: LayerContext) -> list[str]:
    return [context.op("Resize", context.inputs[0], "", context.nodes.floats([1.0, 1.0, 1.0, 1.0]))]
"""


def plugged(folder: Path, type_name: str, arithmetic: Arithmetic) -> np.ndarray:
    (folder / "mine.py").write_text(PLUGIN)
    (folder / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }\n'
        f'layer {{ name: "block/of/mine" type: "{type_name}" bottom: "x" top: "y" }}\n'
    )
    np.savez(folder / "x.npz", x=np.ones((1, 2, 4, 4), np.float32))
    options = {"inputs": folder / "x.npz", "plugins": [folder / "mine.py"], "arithmetic": arithmetic}
    return ristretto.run(folder / "net.prototxt", **options)["y"]


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a plug-in registers is taken away again."""
    monkeypatch.setattr(plugins, "_loaded", {})
    with suppress(_UndoError), registrations_undone_on_error():
        yield
        raise _UndoError


class _UndoError(Exception):
    pass


@pytest.mark.usefixtures("unplugged")
def test_constants_that_a_plug_in_makes_become_float64(tmp_path: Path) -> None:
    top = plugged(tmp_path, "Doubled", Arithmetic.FLOAT64)
    assert top.dtype == np.float64
    np.testing.assert_array_equal(top, np.full((1, 2, 4, 4), np.float64(np.float32(1 / 3))))


@pytest.mark.usefixtures("unplugged")
def test_a_layer_without_a_float64_form_is_named(tmp_path: Path) -> None:
    assert plugged(tmp_path, "Enlarged", Arithmetic.FLOAT32).dtype == np.float32
    with pytest.raises(NetError, match=r"^layer 'block/of/mine': onnxruntime does not take the net: .*Resize"):
        plugged(tmp_path, "Enlarged", Arithmetic.FLOAT64)


def test_infinite_values_go_through_average_pooling(tmp_path: Path) -> None:
    """Each window alone is infinite, as in float32."""
    (tmp_path / "net.prototxt").write_text(
        """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 5 dim: 5 } } }
layer { name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
"""
    )
    x = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
    x[0, 0, 0, 0] = np.inf
    np.savez(tmp_path / "x.npz", x=x)
    single, double = (
        ristretto.run(tmp_path / "net.prototxt", inputs=tmp_path / "x.npz", arithmetic=arithmetic)["y"]
        for arithmetic in (Arithmetic.FLOAT32, Arithmetic.FLOAT64)
    )
    assert np.isinf(double).sum() == 1
    np.testing.assert_array_equal(double, single)

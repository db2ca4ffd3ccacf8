"""Whole nets in float64. The cases of tests/layers run every layer type in both arithmetics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ristretto
from ristretto.caffe.weights import LayerWeights, write_caffemodel
from ristretto.errors import NetError
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.formats import DynamicFixedPoint
from tests.cli.runner import MODELS
from tests.cli.runner import ristretto as program

RESNET = MODELS / "digits_resnet"

WIDE = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 64 dim: 9 dim: 9 } } }
layer {
  name: "conv" type: "ConvolutionRistretto" bottom: "x" top: "y"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 stride: 2 group: %d }
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
    (tmp_path / "net.prototxt").write_text(WIDE % 1)
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


def test_a_layer_without_a_float64_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(
        """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 8 dim: 8 } } }
layer { name: "r" type: "Input" top: "r" input_param { shape { dim: 1 dim: 5 } } }
layer {
  name: "regions" type: "ROIPooling" bottom: "x" bottom: "r" top: "y" roi_pooling_param { pooled_h: 2 pooled_w: 2 }
}
"""
    )
    np.savez(tmp_path / "x.npz", x=np.ones((1, 2, 8, 8), np.float32), r=np.float32([[0, 0, 0, 4, 4]]))
    with pytest.raises(NetError, match="layer 'regions': the layer cannot be computed in float64: onnxruntime has no"):
        ristretto.run(tmp_path / "net.prototxt", inputs=tmp_path / "x.npz", arithmetic=Arithmetic.FLOAT64)

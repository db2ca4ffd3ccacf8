"""Integer arithmetic on real nets, and on the single layers of the original's CPU build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.weights import read_weights
from ristretto.dialects.fields import read_formats
from ristretto.errors import NetError
from ristretto.numerics.arithmetic import Accumulator, Arithmetic, Overflow
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.integer import bias_codes, requantize, weight_codes
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.evaluate import NetOptions, evaluate, run
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from tests.golden.shared import SHARED, cases, needs_shared

pytestmark = needs_shared

LENET = ("lenet_mnist/train_test.prototxt", "lenet_mnist/lenet_iter_10000.caffemodel")
NETS = [
    LENET,
    ("cifar10_quick/train_test.prototxt", "cifar10_quick/cifar10_quick_iter_5000.caffemodel"),
    ("cifar10_resnet20/train_test_own_blobs.prototxt", "cifar10_resnet20/resnet20.caffemodel"),
]


@pytest.fixture(autouse=True)
def _in_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHARED)


def quantized(folder: Path, net: tuple[str, str], params: int, activations: int) -> NetOptions:
    """A net quantized at given widths, to be run; BatchNorm is folded, since it would be computed in floats."""
    model, weights = (SHARED / "models" / name for name in net)
    written, folded = folder / "q.prototxt", folder / "q.caffemodel"
    options = QuantizeOptions(
        model,
        (weights,),
        written,
        bw_conv_params=params,
        bw_fc_params=params,
        bw_activations=activations,
        iterations=1,
        calibration_batches=2,
        threads=1,
        fold=True,
        weight_rounding="nearest",
        weights_quantized=folded,
    )
    quantize(options)
    return NetOptions(written, (folded,), threads=1)


@pytest.mark.parametrize("net", NETS, ids=lambda net: net[0].split("/")[0])
def test_at_8_bits_float32_is_the_integer_arithmetic(net: tuple[str, str], tmp_path: Path) -> None:
    """Every value of the net, bit for bit, in two batches; and no accumulator needs the bits it has."""
    floats = quantized(tmp_path, net, 8, 8)
    integers = replace(floats, arithmetic=Arithmetic.INTEGER)
    for batch in (0, 1):
        simulated, exact = run(floats, ("all",), batch), run(integers, ("all",), batch)
        for blob, values in exact.items():
            np.testing.assert_array_equal(values, simulated[blob], err_msg=blob)
    layers = evaluate(integers, 1).integer_layers
    assert len(layers) >= 4
    assert all(layer.proved or layer.differing == 0 for layer in layers)
    assert all((layer.bits_observed or 99) <= layer.bits_needed <= 24 for layer in layers)
    assert all(layer.overflows == 0 and layer.outputs for layer in layers)


def test_a_narrow_accumulator_shows(tmp_path: Path) -> None:
    """The check above can fail: bits that the sums need are taken away."""
    options = replace(quantized(tmp_path, LENET, 8, 8), arithmetic=Arithmetic.INTEGER)
    before = evaluate(options, 1)
    needs = max(layer.bits_observed or 0 for layer in before.integer_layers)
    for overflow in Overflow:
        narrow = replace(options, accumulator=Accumulator(needs - 3, overflow))
        after = evaluate(narrow, 1)
        over = [layer for layer in after.integer_layers if layer.overflows]
        assert over
        assert any("overflow the accumulator" in warning for warning in after.warnings)
        assert all(not layer.proved for layer in over)
        if overflow is Overflow.WRAP:
            assert any(layer.differing for layer in over)
        if overflow is Overflow.REPORT:
            assert after.scored.outputs == before.scored.outputs


def layer_of(net: NetSpec, name: str) -> int:
    return next(number for number, layer in enumerate(net.layers) if layer.name == name)


def expected(options: NetOptions, name: str, bottom: NDArray[np.float32]) -> tuple[NDArray[np.float32], LayerFormats]:
    """A layer's output from its rounded input, in int64: a 5 x 5 convolution or a product."""
    net = build_net(read_prototxt(options.model))
    number = layer_of(net, name)
    formats = read_formats(net.layers[number])
    shapes = infer_shapes(net, {"data": (len(bottom), 1, 28, 28), "label": (len(bottom),)})
    weights, bias = fit_weights(net, shapes, read_weights(options.weights))[number]
    given, stored, params = formats.input, formats.output, formats.params
    assert isinstance(given, DynamicFixedPoint)
    assert isinstance(stored, DynamicFixedPoint)
    assert isinstance(params, DynamicFixedPoint)
    assert formats.bias is not None
    x = given.encode(bottom)
    np.testing.assert_array_equal(given.decode(x), bottom)
    w, _ = weight_codes(params.quantize(weights), params)
    fl = given.fl + params.fl
    added = bias_codes(formats.bias.quantize(bias), (fl,), Rounding.HALF_EVEN)
    if w.ndim == 4:
        windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))
        sums = np.einsum("nchwij,ocij->nohw", windows, w) + added[:, None, None]
    else:
        sums = x.reshape(len(x), -1) @ w.T + added
    codes = requantize(sums, fl - stored.fl, stored, Rounding.HALF_EVEN)
    return stored.decode(codes).astype(np.float32), formats


@pytest.mark.parametrize("params", [8, 16])
def test_activations_of_16_bits_are_exact(params: int, tmp_path: Path) -> None:
    """A convolution and an inner product of LeNet against int64; float32 alone is not exact there.

    With weights of 16 bits as well an accumulator of 32 bits is too narrow.
    """
    wide = Accumulator(48)
    options = replace(quantized(tmp_path, LENET, params, 16), arithmetic=Arithmetic.INTEGER, accumulator=wide)
    simulated = run(replace(options, arithmetic=Arithmetic.FLOAT32), ("pool1", "conv2", "ip1", "ip2"))
    values = run(options, ("pool1", "conv2", "ip1", "ip2"))
    differs = 0
    for name, bottom in (("conv2", "pool1"), ("ip2", "ip1")):
        wanted, formats = expected(options, name, values[bottom])
        assert isinstance(formats.input, DynamicFixedPoint)
        assert formats.input.bw == 16
        np.testing.assert_array_equal(values[name], wanted)
        differs += int(np.sum(simulated[name] != wanted))
    assert differs > 0 or params == 8
    layers = {layer.name: layer for layer in evaluate(replace(options, accumulator=Accumulator()), 1).integer_layers}
    assert (layers["conv2"].overflows > 0) == (params == 16)


FLOAT = {"q_conv_minifloat_10_5", "q_conv_dfp_params_only", "q_fc_pow2", "q_conv_pow2"}
"""Layers that are no integers: in floating point, or with activations of 32 bits where nothing is set."""


@pytest.mark.parametrize("case", cases("golden/layers/q_*"), ids=lambda path: path.name)
def test_layers_of_the_original(case: Path) -> None:
    """Bit for bit up to 8 bits; at 16 the original's sums are rounded, and by one step at most off."""
    outputs = np.load(case / "outputs.npz")
    options = NetOptions(
        case / "net.prototxt",
        (case / "net.caffemodel",),
        inputs=case / "inputs.npz",
        rounding=Rounding.HALF_AWAY,
        arithmetic=Arithmetic.INTEGER,
    )
    if case.name in FLOAT:
        with pytest.raises(NetError, match="integer arithmetic cannot compute this layer"):
            run(options)
        return
    values = run(options, tuple(outputs.files))
    for blob in outputs.files:
        if case.name == "q_conv_dfp_neg_fl":
            check_coarse_accumulator(options, values, outputs[blob])
            continue
        limit = 2.0**-11 if case.name == "q_conv_dfp_16" else 0.0
        np.testing.assert_allclose(values[blob], outputs[blob], rtol=0, atol=limit)
        assert np.mean(values[blob] != outputs[blob]) < 0.01


def check_coarse_accumulator(
    options: NetOptions, values: Mapping[str, NDArray[np.float32]], outputs: NDArray[np.float32]
) -> None:
    """Inputs in steps of 2 make an accumulator in steps of 1/32; the bias, in 1/64, is rounded there, and shows."""
    differing = values["y"] != outputs
    assert 0 < differing.mean() < 0.01
    assert np.abs(values["y"] - outputs).max() == 4.0
    net = build_net(read_prototxt(options.model))
    bias = fit_weights(net, infer_shapes(net, {}), read_weights(options.weights))[1][1]
    formats = read_formats(net.layers[1])
    assert isinstance(formats.params, DynamicFixedPoint)
    assert isinstance(formats.input, DynamicFixedPoint)
    stored = formats.params.quantize(bias, Rounding.HALF_AWAY)
    off = stored % 2.0 ** -(formats.input.fl + formats.params.fl) != 0
    assert not differing[:, ~off].any()

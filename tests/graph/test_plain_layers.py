"""Layers that keep their type and have formats: what is rounded, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from ristretto.caffe.net import build_net
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.dialects.fields import read_plan
from ristretto.errors import NetError
from ristretto.graph.build import Simulation, build
from ristretto.numerics.formats import NAMED, ChannelFixedPoint, DynamicFixedPoint, Format, PowerOfTwo
from tests.layers.harness import run_model

RNG = np.random.default_rng(7)
X = RNG.normal(0, 2, (2, 3, 4, 4)).astype(np.float32)
IN, OUT = DynamicFixedPoint(6, 3), DynamicFixedPoint(7, 4)
EDGES = "bw_layer_in: 6 fl_layer_in: 3 bw_layer_out: 7 fl_layer_out: 4"
PARAMS, BIAS = DynamicFixedPoint(5, 3), DynamicFixedPoint(6, 2)

Blobs = tuple[np.ndarray, ...]


def run(layers: str, blobs: dict[str, Blobs], *outputs: str) -> list[np.ndarray]:
    """The blobs of a net whose input is X."""
    head = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }\n'
    net = build_net(parse(head + layers, "q.prototxt"))
    weights = [blobs.get(layer.name, ()) for layer in net.layers]
    wanted = [net.finals[name] for name in outputs]
    built = build(
        net, infer_shapes(net, {}), weights, outputs=wanted, simulation=Simulation(read_plan(net).layers)
    )  # fmt: skip
    return run_model(built, {"x": X})


def layer(kind: str, fields: str, more: str = "", bottoms: str = 'bottom: "x"') -> str:
    return f'layer {{ name: "l" type: "{kind}" {bottoms} top: "y" {more} quantization_param {{ {fields} }} }}'


def channels(values: np.ndarray) -> np.ndarray:
    return values.reshape(1, 3, 1, 1)


def test_a_relu_rounds_what_it_reads_and_makes() -> None:
    y = run(layer("ReLU", EDGES, "relu_param { negative_slope: 0.3 }"), {}, "y")[0]
    x = IN.quantize(X)
    expected = OUT.quantize(np.where(x > 0, x, np.float32(0.3) * x))
    np.testing.assert_array_equal(y, expected)
    assert (y != OUT.quantize(np.where(X > 0, X, np.float32(0.3) * X))).any()


def test_what_is_not_set_is_float_and_others_see_the_float_bottom() -> None:
    """The layer reads a rounded copy: a second reader of the same blob finds it as it was."""
    text = layer("AbsVal", "bw_layer_in: 3 fl_layer_in: 1") + 'layer { name: "p" type: "Power" bottom: "x" top: "p" }'
    y, p = run(text, {}, "y", "p")
    np.testing.assert_array_equal(y, np.abs(DynamicFixedPoint(3, 1).quantize(X)))
    np.testing.assert_array_equal(p, X)


def test_a_layer_in_place_reads_the_copy_too() -> None:
    text = (
        'layer { name: "l" type: "AbsVal" bottom: "x" top: "x" quantization_param { bw_layer_in: 3 fl_layer_in: 1 } }'
    )
    np.testing.assert_array_equal(run(text, {}, "x")[0], np.abs(DynamicFixedPoint(3, 1).quantize(X)))


def test_all_bottoms_of_an_eltwise_are_rounded() -> None:
    text = 'layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { scale: 0.7 } }' + layer(
        "Eltwise", EDGES, bottoms='bottom: "x" bottom: "p"'
    )
    y, p = run(text, {}, "y", "p")
    np.testing.assert_array_equal(y, OUT.quantize(IN.quantize(X) + IN.quantize(p)))


@pytest.mark.parametrize("fmt", [NAMED["half"], NAMED["bfloat16"], NAMED["fp8_e4m3"]], ids=str)
def test_a_named_format_all_over(fmt: Format) -> None:
    gamma, beta = RNG.normal(size=(2, 3)).astype(np.float32)
    text = layer("Scale", f'precision: MINIFLOAT float_format: "{fmt}"', "scale_param { bias_term: true }")
    x, rounded = fmt.quantize(X), fmt.quantize(np.stack([gamma, beta]))
    product = x * channels(rounded[0]) + channels(rounded[1])
    np.testing.assert_array_equal(run(text, {"l": (gamma, beta)}, "y")[0], fmt.quantize(product))


def test_scale_factors_are_weights_and_its_summand_is_the_bias() -> None:
    gamma, beta = RNG.normal(size=(2, 3)).astype(np.float32)
    fields = "bw_params: 5 fl_params: 3 bw_bias: 6 fl_bias: 2"
    y = run(layer("Scale", fields, "scale_param { bias_term: true }"), {"l": (gamma, beta)}, "y")[0]
    np.testing.assert_array_equal(y, X * channels(PARAMS.quantize(gamma)) + channels(BIAS.quantize(beta)))


def test_a_scale_by_a_second_bottom_has_a_bias_alone() -> None:
    beta = RNG.normal(size=3).astype(np.float32)
    text = 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { global_pooling: true } }'
    text += 'layer { name: "f" type: "Flatten" bottom: "p" top: "f" flatten_param { axis: 1 } }'
    fields = "bw_params: 5 fl_params: 3 bw_bias: 6 fl_bias: 2"
    more = "scale_param { axis: 0 bias_term: true }"
    y, f = run(
        text + layer("Scale", fields, more, 'bottom: "x" bottom: "f"'), {"l": (beta.repeat(2).reshape(2, 3),)}, "y", "f"
    )
    stored = BIAS.quantize(beta.repeat(2).reshape(2, 3))[:, :, None, None]
    np.testing.assert_array_equal(y, X * f[:, :, None, None] + stored)


def test_prelu_slopes_are_weights() -> None:
    slopes = RNG.normal(size=3).astype(np.float32)
    fields = "precision: INTEGER_POWER_OF_2_WEIGHTS exp_min: -4 exp_max: 0 keep_zero: true"
    y = run(layer("PReLU", fields), {"l": (slopes,)}, "y")[0]
    rounded = PowerOfTwo(-4, 0, keep_zero=True).quantize(slopes)
    np.testing.assert_array_equal(y, np.where(X > 0, X, X * channels(rounded)))


@pytest.mark.parametrize("factor", [999.98, 1.0, 0.0])
def test_mean_and_variance_are_rounded_as_hardware_stores_them(factor: float) -> None:
    """Divided by the factor of the third blob; a net without formats for them keeps its blobs."""
    mean, variance = RNG.normal(size=3), RNG.uniform(0.3, 3, 3)
    blobs = tuple(np.asarray(blob, np.float32) for blob in (mean * factor, variance * factor, [factor]))
    y = run(layer("BatchNorm", "bw_params: 5 fl_params: 3"), {"l": blobs}, "y")[0]
    if factor == 0:
        mean, variance = np.zeros(3), np.zeros(3)
    mean, variance = (PARAMS.quantize(each.astype(np.float32)) for each in (mean, variance))
    expected = (X - channels(mean)) / np.sqrt(channels(variance) + np.float32(1e-5))
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    alone = run(layer("BatchNorm", "bw_layer_in: 6 fl_layer_in: 3"), {"l": blobs}, "y")[0]
    same = run('layer { name: "l" type: "BatchNorm" bottom: "x" top: "y" }', {"l": blobs}, "y")[0]
    assert (alone != same).any()
    assert factor == 0 or (y != same).any()


def test_the_places_of_maxima_are_not_rounded() -> None:
    text = (
        'layer { name: "l" type: "Pooling" bottom: "x" top: "y" top: "m" pooling_param { kernel_size: 2 stride: 2 } '
        "quantization_param { bw_layer_out: 3 fl_layer_out: 1 } }"
    )
    y, mask = run(text, {}, "y", "m")
    windows = X.reshape(2, 3, 2, 2, 2, 2)
    np.testing.assert_array_equal(y, DynamicFixedPoint(3, 1).quantize(windows.max(axis=(3, 5))))
    assert mask.max() > DynamicFixedPoint(3, 1).max
    np.testing.assert_array_equal(
        np.take_along_axis(X.reshape(2, 3, 16), mask.reshape(2, 3, 4).astype(int), 2),
        windows.max(axis=(3, 5)).reshape(2, 3, 4),
    )


def test_weights_by_channel_in_a_convolution() -> None:
    weights = (RNG.normal(size=(2, 3, 1, 1)) * np.array([1, 50])[:, None, None, None]).astype(np.float32)
    fmt = ChannelFixedPoint(5, (3, -2))
    text = (
        'layer { name: "l" type: "ConvolutionRistretto" bottom: "x" top: "y" '
        "convolution_param { num_output: 2 kernel_size: 1 bias_term: false } "
        "quantization_param { float_layer_in: true float_layer_out: true bw_params: 5 fl_params_channel: [3, -2] } }"
    )
    y = run(text, {"l": (weights,)}, "y")[0]
    expected = np.einsum("nchw,oc->nohw", X, fmt.quantize(weights)[:, :, 0, 0])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(NetError) as caught:
        run(text.replace("[3, -2]", "[3, -2, 1]"), {"l": (weights,)}, "y")
    place = "q.prototxt:2:156: layer 'l': "
    assert str(caught.value) == place + "3 fractional lengths for 2 channels; give one a channel"

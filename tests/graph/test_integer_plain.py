"""Plain layers beside integer arithmetic: the exact value, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from ristretto.caffe.net import build_net
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.errors import NetError
from ristretto.graph.build import Simulation, build
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.formats import NAMED, DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from tests.layers.harness import run_model

Array = NDArray[np.float32]

RNG = np.random.default_rng(11)
FINE, COARSE = DynamicFixedPoint(24, 20), DynamicFixedPoint(24, 4)
"""Grids so far apart that a float32 cannot hold a sum of the two."""
X = FINE.quantize(RNG.uniform(-8, 8, (2, 3, 7, 6)).astype(np.float32))
Y = COARSE.quantize(RNG.uniform(-(2**19), 2**19, X.shape).astype(np.float32))
OUT = DynamicFixedPoint(24, 4)
SHAPE = "shape { dim: 2 dim: 3 dim: 7 dim: 6 }"
HEAD = "\n".join(
    f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ {SHAPE} }} }}' for name in ("x", "y")
)


def run(
    layer: str,
    formats: LayerFormats,
    blobs: tuple[Array, ...] = (),
    rounding: Rounding = Rounding.TRUNCATE,
    arithmetic: Arithmetic = Arithmetic.INTEGER,
    bottoms: str = 'bottom: "x" bottom: "y"',
) -> Array:
    net = build_net(parse(f'{HEAD} layer {{ name: "l" {bottoms} top: "t" {layer} }}', "p.prototxt"))
    simulation = Simulation({"l": formats}, rounding, arithmetic=arithmetic)
    weights = [blobs if spec.name == "l" else () for spec in net.layers]
    built = build(net, infer_shapes(net, {}), weights, outputs=[net.finals["t"]], simulation=simulation)
    return run_model(built, {"x": X, "y": Y})[0]


def exactly(values: NDArray[np.object_], fmt: DynamicFixedPoint) -> Array:
    """Fractions cut off to a format."""
    codes = [min(max((value * Fraction(2) ** fmt.fl) // 1, fmt.min_code), fmt.max_code) for value in values.ravel()]
    return np.ldexp(np.array(codes, np.float64), -fmt.fl).astype(np.float32).reshape(values.shape)


def fractions(values: Array) -> NDArray[np.object_]:
    return np.array([Fraction(float(value)) for value in values.ravel()], object).reshape(values.shape)


def formats(given: DynamicFixedPoint | None = None, out: DynamicFixedPoint = OUT) -> LayerFormats:
    return LayerFormats(given, out, in_place=False)


SUMS: list[tuple[str, Callable[[NDArray[np.object_], NDArray[np.object_]], NDArray[np.object_]]]] = [
    ("", lambda x, y: x + y),
    ("coeff: 1 coeff: -1", lambda x, y: x - y),
    ("coeff: 0.5 coeff: -0.25", lambda x, y: x / 2 - y / 4),
    ("coeff: 3 coeff: 1", lambda x, y: 3 * x + y),
]


@pytest.mark.parametrize(("fields", "sums"), SUMS, ids=[item[0] for item in SUMS])
def test_a_sum_of_two_grids_is_rounded_once(fields: str, sums: Callable[..., NDArray[np.object_]]) -> None:
    """Where the layer has no input format: a wide accumulator. Float32 rounds the sum and then cuts it off."""
    layer = f'type: "Eltwise" eltwise_param {{ {fields} }}'
    wanted = exactly(sums(fractions(X), fractions(Y)), OUT)
    np.testing.assert_array_equal(run(layer, formats()), wanted)
    assert (run(layer, formats(), arithmetic=Arithmetic.FLOAT32) != wanted).any()


def test_a_narrow_alu_rounds_its_inputs_first() -> None:
    given = DynamicFixedPoint(22, 2)
    wanted = exactly(sum(fractions(given.quantize(value, Rounding.TRUNCATE)) for value in (X, Y)), OUT)
    np.testing.assert_array_equal(run('type: "Eltwise"', formats(given)), wanted)
    assert (run('type: "Eltwise"', formats()) != wanted).any()


def test_a_product_is_exact() -> None:
    wanted = exactly(fractions(X) * fractions(X), FINE)
    layer = 'type: "Eltwise" eltwise_param { operation: PROD }'
    same = 'bottom: "x" bottom: "x"'
    np.testing.assert_array_equal(run(layer, formats(out=FINE), bottoms=same), wanted)


def averages(kernel: int, stride: int, pad: int) -> NDArray[np.object_]:
    """By Caffe's loops: the divisor counts padding, and not what is beyond it."""
    exact, result = fractions(X), []
    sizes = X.shape[2:]
    windows = [-(-(size + 2 * pad - kernel) // stride) + 1 for size in sizes]
    windows = [n - (pad > 0 and (n - 1) * stride >= size + pad) for n, size in zip(windows, sizes, strict=True)]
    for i, j in np.ndindex(*windows):
        (top, left) = (i * stride - pad, j * stride - pad)
        bottom, right = (min(start + kernel, size + pad) for start, size in zip((top, left), sizes, strict=True))
        part = exact[:, :, max(top, 0) : bottom, max(left, 0) : right]
        result.append(part.sum(axis=(2, 3)) / ((bottom - top) * (right - left)))
    return np.stack(result, -1).reshape(*X.shape[:2], *windows)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(3, 2, 0), (3, 1, 1), (2, 2, 1), (3, 2, 1), (5, 3, 2), (4, 4, 0)]
)
def test_an_average_is_an_exact_sum_divided_once(kernel: int, stride: int, pad: int) -> None:
    layer = f'type: "Pooling" pooling_param {{ pool: AVE kernel_size: {kernel} stride: {stride} pad: {pad} }}'
    wanted = exactly(averages(kernel, stride, pad), FINE)
    np.testing.assert_array_equal(run(layer, formats(out=FINE), bottoms='bottom: "x"'), wanted)


def test_the_average_of_a_whole_image() -> None:
    layer = 'type: "Pooling" pooling_param { pool: AVE global_pooling: true }'
    wanted = exactly(fractions(X).sum(axis=(2, 3), keepdims=True) / 42, FINE)
    np.testing.assert_array_equal(run(layer, formats(out=FINE), bottoms='bottom: "x"'), wanted)


def test_factors_and_summands_of_a_scale() -> None:
    params = DynamicFixedPoint(16, 12)
    factors, summands = (params.quantize(RNG.normal(0, 1, 3).astype(np.float32)) for _ in range(2))
    along = (1, 3, 1, 1)
    wanted = exactly(fractions(X) * fractions(factors).reshape(along) + fractions(summands).reshape(along), FINE)
    layer = 'type: "Scale" scale_param { bias_term: true }'
    got = run(layer, formats(out=FINE), (factors, summands), bottoms='bottom: "x"')
    np.testing.assert_array_equal(got, wanted)
    assert (run(layer, formats(out=FINE), (factors, summands), bottoms='bottom: "x"', arithmetic=Arithmetic.FLOAT32)
            != wanted).any()  # fmt: skip


@pytest.mark.parametrize("layer", ['type: "ReLU" relu_param { negative_slope: 0.3 }', 'type: "PReLU"'])
def test_two_slopes(layer: str) -> None:
    slope = np.float32(0.3)
    blobs = (np.full(3, slope),) if "PReLU" in layer else ()
    exact = fractions(X)
    wanted = exactly(np.where(X > 0, exact, exact * Fraction(float(slope))), FINE)
    np.testing.assert_array_equal(run(layer, formats(out=FINE), blobs, bottoms='bottom: "x"'), wanted)


PARAMS = DynamicFixedPoint(8, 4)
OTHERS: list[tuple[str, tuple[Array, ...]]] = [
    ('type: "BatchNorm"', tuple(np.float32(blob) for blob in ([0.5, 1, -2], [1, 2, 3], [1]))),
    ('type: "Bias"', (np.ones(3, np.float32),)),
    ('type: "Power" power_param { power: 2 scale: 0.5 shift: 1 }', ()),
    ('type: "Exp"', ()),
    ('type: "Sigmoid"', ()),
    ('type: "TanH"', ()),
    ('type: "ELU"', ()),
    ('type: "BNLL"', ()),
    ('type: "Swish"', ()),
    ('type: "Softmax"', ()),
    ('type: "AbsVal"', ()),
    ('type: "ReLU"', ()),
    ('type: "ReLU6" relu6_param { negative_slope: 0.1 }', ()),
    ('type: "Clip" clip_param { min: -1 max: 2 }', ()),
    ('type: "Threshold"', ()),
    ('type: "Concat"', ()),
    ('type: "LRN"', ()),
    ('type: "MVN"', ()),
    ('type: "Reduction" reduction_param { operation: ASUM axis: 2 }', ()),
    ('type: "Reduction" reduction_param { operation: MEAN axis: 2 }', ()),
    ('type: "Reduction" reduction_param { operation: SUMSQ axis: 1 }', ()),
    ('type: "Pooling" pooling_param { kernel_size: 2 }', ()),
    ('type: "SPP" spp_param { pyramid_height: 2 pool: AVE }', ()),
]


@pytest.mark.parametrize(("layer", "blobs"), OTHERS, ids=[item[0][6:30] for item in OTHERS])
def test_others_run_and_are_as_near_as_their_format(layer: str, blobs: tuple[Array, ...]) -> None:
    """In float64 or in float32: on the grid, and within a step of the float32 simulation."""
    out = DynamicFixedPoint(16, 8)
    got = run(layer, formats(out=out), blobs, bottoms='bottom: "x"')
    simulated = run(layer, formats(out=out), blobs, bottoms='bottom: "x"', arithmetic=Arithmetic.FLOAT32)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(out.quantize(got), got)
    assert np.abs(got - simulated).max() <= out.step
    assert np.mean(got != simulated) < 0.02


def test_floating_point_is_refused_in_plain_layers_too() -> None:
    with pytest.raises(NetError, match="its output is in floating point, half"):
        run('type: "Eltwise"', LayerFormats(None, NAMED["half"], in_place=False))

"""Single quantized layers of the original's CPU build, computed again with nothing but numpy and the formats.

The convolution is a plain matrix product over copied windows. With at most 8 bits a product and a sum of 54 of them are
exact in float32, so the order of the additions cannot matter and the outputs have to be equal bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from ristretto.caffe.weights import read_weights
from ristretto.numerics.formats import DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.rounding import Rounding

LAYERS = Path(__file__).resolve().parents[3] / "shared" / "golden" / "layers"
pytestmark = pytest.mark.skipif(not LAYERS.is_dir(), reason=f"no golden layers: {LAYERS} is not there")

NEARLY_FLOAT = DynamicFixedPoint(32, 16)
"""What the schema's defaults stand for: a group of which the prototxt says nothing is still rounded, to this."""


def convolution(x: np.ndarray, weights: np.ndarray, bias: np.ndarray, pad: int = 0) -> np.ndarray:
    """x (n, c, h, w) and weights (m, c, kh, kw) to (n, m, oh, ow), in the dtype of x."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, weights.shape[2:], axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    columns = windows.reshape(*windows.shape[:3], -1)
    product = columns @ weights.reshape(len(weights), -1).T
    return (product + bias).transpose(0, 3, 1, 2)


def padded_convolution(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return convolution(x, weights, bias, pad=1)


def deconvolution(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Stride 2, pad 1, weights (c, m, k, k): the convolution of x spread out by zeros with the kernels turned round."""
    spread = np.zeros((*x.shape[:2], 2 * x.shape[2] - 1, 2 * x.shape[3] - 1), x.dtype)
    spread[:, :, ::2, ::2] = x
    turned = weights[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    return convolution(spread, np.ascontiguousarray(turned), bias, pad=weights.shape[2] - 1 - 1)


def inner_product(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return x @ weights.T + bias


Compute = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    name: str
    compute: Compute
    into: Format
    params: Format
    out: Format


def fixed(bw: int, *fls: int) -> tuple[DynamicFixedPoint, DynamicFixedPoint, DynamicFixedPoint]:
    into, params, out = (DynamicFixedPoint(bw, fl) for fl in fls)
    return into, params, out


BIT_EQUAL = [
    Case("q_conv_dfp888", padded_convolution, *fixed(8, 5, 7, 4)),
    Case("q_conv_dfp_bias_saturates", convolution, *fixed(8, 5, 9, 4)),
    Case("q_conv_dfp_neg_fl", convolution, *fixed(8, -1, 6, -2)),
    Case("q_conv_dfp_nobias", convolution, *fixed(8, 5, 7, 4)),
    Case("q_conv_dfp_2bit_w", convolution, DynamicFixedPoint(8, 5), DynamicFixedPoint(2, 1), DynamicFixedPoint(8, 4)),
    Case("q_deconv_dfp888", deconvolution, *fixed(8, 5, 7, 4)),
    Case("q_fc_dfp888", inner_product, *fixed(8, 5, 7, 3)),
]
WITHIN_ONE_STEP = [
    Case("q_conv_dfp_16", convolution, *fixed(16, 12, 14, 11)),
    Case("q_conv_dfp_act_only", convolution, DynamicFixedPoint(8, 5), NEARLY_FLOAT, DynamicFixedPoint(8, 4)),
    Case("q_conv_dfp_params_only", convolution, NEARLY_FLOAT, DynamicFixedPoint(8, 7), NEARLY_FLOAT),
]


def load(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The input x, weights, bias (zero where the layer has none) and the expected y of a case."""
    with np.load(LAYERS / name / "inputs.npz") as given, np.load(LAYERS / name / "outputs.npz") as wanted:
        x, y = given["x"], wanted["y"]
    weights, *rest = read_weights([LAYERS / name / "net.caffemodel"]).get("l") or ()
    return x, weights, rest[0] if rest else np.zeros(1, np.float32), y


def computed(case: Case, rounding: Rounding = Rounding.HALF_AWAY) -> tuple[np.ndarray, np.ndarray]:
    """Our output of a case and the original's."""
    x, weights, bias, expected = load(case.name)
    rounded = (case.into.quantize(x, rounding), *(case.params.quantize(blob, rounding) for blob in (weights, bias)))
    return case.out.quantize(case.compute(*rounded), rounding), expected


@pytest.mark.parametrize("case", BIT_EQUAL, ids=lambda case: case.name)
def test_bit_equal_at_8_bits(case: Case) -> None:
    found, expected = computed(case)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("case", WITHIN_ONE_STEP, ids=lambda case: case.name)
def test_within_one_step_where_the_order_of_additions_matters(case: Case) -> None:
    found, expected = computed(case)
    assert isinstance(case.out, DynamicFixedPoint)
    assert np.abs(found - expected).max() <= case.out.step
    assert np.mean(found == expected) > 0.75


def test_minifloat_but_for_the_order_of_additions() -> None:
    """The original's CPU loop stops at the first zero it meets; this case has none, so all of it was rounded."""
    fmt = Minifloat(exp_bits=5, mant_bits=10)
    found, expected = computed(Case("q_conv_minifloat_10_5", convolution, fmt, fmt, fmt))
    assert all(np.all(blob != 0) for blob in load("q_conv_minifloat_10_5")[:3])
    np.testing.assert_array_equal(fmt.quantize(expected), expected)
    apart = found != expected
    assert apart.mean() < 0.01
    np.testing.assert_allclose(found, expected, rtol=2.0**-10, atol=0)


def test_power_of_two_weights() -> None:
    """The bias is float; the CPU build leaves the activations float too, unlike what is documented."""
    x, weights, bias, expected = load("q_fc_pow2")
    rounded = PowerOfTwo(-6, 0).quantize(weights.astype(np.float64), Rounding.HALF_AWAY)
    np.testing.assert_allclose(inner_product(x.astype(np.float64), rounded, bias), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(inner_product(x, weights, bias) - expected).max() > 0.1


def test_the_rounding_at_ties_shows() -> None:
    """The checks above can fail: the GPU's rounding gives other values."""
    found, expected = computed(BIT_EQUAL[0], Rounding.HALF_EVEN)
    assert np.any(found != expected)

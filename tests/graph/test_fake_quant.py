"""The ONNX form of every format is bit-equal to the numpy reference."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from ristretto.graph.double import in_double
from ristretto.graph.fake_quant import emit_quantize
from ristretto.graph.nodes import OPSET, NodeList
from ristretto.numerics.formats import NAMED, ChannelFixedPoint, DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.rounding import Rounding
from ristretto.runtime.session import Session
from tests.numerics.strategies import any_minifloats, fixed_points, powers, variants
from tests.numerics.test_minifloat import DTYPES, all_codes, around, every_16_bits, same_bits

ROUNDINGS = [Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.TRUNCATE]


def run_nodes(x: np.ndarray, fmt: Format, rounding: Rounding, seed: int = 0) -> np.ndarray:
    """The nodes of a format on values of either float type, in that type."""
    double = x.dtype == np.float64
    nodes = NodeList(double=double)
    result = emit_quantize(nodes, "x", fmt, rounding, seed)
    graph = helper.make_graph(
        nodes.nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None)],
        nodes.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    model = in_double(model) if double else model
    return Session(model.SerializeToString(), threads=1).run({"x": x}, [result])[result]


def interesting(fmt: Format) -> np.ndarray:
    """Random values of all sizes, the format's ends, and points on and next to its grid and its ties."""
    rng = np.random.default_rng(3)
    spread = rng.normal(size=4000) * np.exp2(rng.uniform(-12, 12, 4000))
    ends = [fmt.min, fmt.max, 2 * fmt.max, 0.0, -0.0]
    points = [spread, ends]
    if isinstance(fmt, DynamicFixedPoint):
        halves = np.arange(-600, 601) * fmt.step / 2
        points += [halves, np.nextafter(halves.astype(np.float32), np.float32(np.inf)), -halves]
    else:
        halves = np.ldexp(1 + np.arange(64) / 64, np.arange(-20, 20)[:, None]).ravel()
        points += [halves, -halves, np.nextafter(halves.astype(np.float32), np.float32(0))]
    return np.concatenate([np.asarray(part, np.float64) for part in points]).astype(np.float32)


FORMATS: list[Format] = [
    DynamicFixedPoint(8, 5),
    DynamicFixedPoint(8, -2),
    DynamicFixedPoint(2, 1),
    DynamicFixedPoint(1, 0),
    DynamicFixedPoint(8, 8, signed=False),
    DynamicFixedPoint(16, 11),
    DynamicFixedPoint(32, 16),
    DynamicFixedPoint(8, 140),
    Minifloat(5, 10),
    Minifloat(4, 3),
    Minifloat(5, 2),
    Minifloat(8, 7),
    Minifloat(4, 0),
    PowerOfTwo(-8, -1),
    PowerOfTwo(-6, 0, keep_zero=True),
    *NAMED.values(),
]


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda rounding: rounding.value)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_equals_the_reference(fmt: Format, rounding: Rounding) -> None:
    x = interesting(fmt)
    np.testing.assert_array_equal(run_nodes(x, fmt, rounding), fmt.quantize(x, rounding))


SMALL: list[Format] = [
    *(DynamicFixedPoint(bw, fl, signed) for bw in (1, 2, 4, 8) for fl in (-3, 0, 5, 140) for signed in (True, False)),
    *(fmt for widths in ((1, 2), (2, 0), (3, 0), (4, 3), (5, 2), (2, 5)) for fmt in variants(*widths)),
    *(PowerOfTwo(-8, -1, keep_zero) for keep_zero in (False, True)),
    PowerOfTwo(-3, 4),
    PowerOfTwo(-126, 127, keep_zero=True),
    PowerOfTwo(0, 0),
]


def signless(x: np.ndarray) -> np.ndarray:
    """Zero has no sign in fixed point."""
    return np.where(x == 0, np.float32(0), x)


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda rounding: rounding.value)
def test_bits_at_all_patterns_of_16_bits_in_small_formats(rounding: Rounding) -> None:
    """With NaN, infinities, subnormals and, in floating point, the sign of zero."""
    x = every_16_bits()
    for fmt in SMALL:
        actual, wanted = run_nodes(x, fmt, rounding), fmt.quantize(x, rounding)
        if not isinstance(fmt, Minifloat):
            actual, wanted = signless(actual), signless(wanted)
        same_bits(actual, wanted)


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda rounding: rounding.value)
@pytest.mark.parametrize("name", NAMED)
def test_bits_of_named_formats(name: str, rounding: Rounding) -> None:
    """On the grid, between its points and next to both, and at all patterns of 16 bits."""
    dtype = DTYPES[name]
    x = np.concatenate([around(all_codes(dtype).view(dtype).astype(np.float32)), every_16_bits()])
    same_bits(run_nodes(x, NAMED[name], rounding), NAMED[name].quantize(x, rounding))


@settings(max_examples=40, deadline=None)
@given(st.one_of(fixed_points(), any_minifloats(), powers()), st.sampled_from(ROUNDINGS), st.integers(0, 2**32))
def test_equals_the_reference_for_any_format(fmt: Format, rounding: Rounding, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2**32, 3000, np.uint32).view(np.float32)
    x = bits[np.isfinite(bits)]
    np.testing.assert_array_equal(run_nodes(x, fmt, rounding), fmt.quantize(x, rounding))


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda rounding: rounding.value)
def test_equals_the_reference_in_float64(rounding: Rounding) -> None:
    """Next to every tie by one bit of float64, and beyond all that float32 holds."""
    rng = np.random.default_rng(5)
    for fmt in (*FORMATS, *SMALL, DynamicFixedPoint(32, 31), DynamicFixedPoint(25, 0), DynamicFixedPoint(32, 0, False)):
        with np.errstate(over="ignore"):
            x = interesting(fmt).astype(np.float64)
        spread = rng.normal(size=2000) * np.exp2(rng.uniform(-40, 40, 2000))
        rare = [np.nan, np.inf, -np.inf, 1e300, -1e300, 1e-300, 5e-324]
        x = np.concatenate([x, np.nextafter(x, np.inf), np.nextafter(x, -np.inf), spread, rare])
        np.testing.assert_array_equal(run_nodes(x, fmt, rounding), fmt.quantize(x, rounding))


@pytest.mark.parametrize("bw", [26, 32])
def test_wide_formats_have_their_own_ends_in_float64(bw: int) -> None:
    """float32 has no such greatest code: there the bound is the power of two above it."""
    fmt, most = DynamicFixedPoint(bw, 0), float(2 ** (bw - 1) - 1)
    x = np.array([most - 1, most, most + 1, 4 * most])
    np.testing.assert_array_equal(run_nodes(x, fmt, Rounding.HALF_EVEN), [most - 1, most, most, most])
    assert run_nodes(x.astype(np.float32), fmt, Rounding.HALF_EVEN)[-1] == most + 1


def test_stochastic_rounds_to_a_neighbour_and_keeps_the_mean() -> None:
    fmt = DynamicFixedPoint(8, 4)
    x = np.full(100_000, 0.77, np.float32)
    result = run_nodes(x, fmt, Rounding.STOCHASTIC, seed=5)
    assert set(np.unique(result)) == {np.float32(0.75), np.float32(0.8125)}
    assert abs(result.mean() - 0.77) < 0.0005  # five standard errors
    np.testing.assert_array_equal(result, run_nodes(x, fmt, Rounding.STOCHASTIC, seed=5))


@pytest.mark.parametrize(
    ("fmt", "neighbours", "value"),
    [
        (NAMED["half"], (-3 * 2.0**-24, -2 * 2.0**-24), -2.3 * 2.0**-24),
        (Minifloat(4, 2), (-1.5, -1.25), -1.3),
        (PowerOfTwo(-3, 3), (-2.0, -1.0), -1.3),
        (PowerOfTwo(-3, 3, keep_zero=True), (-8.0,), -100.0),
    ],
    ids=str,
)
def test_stochastic_in_other_formats(fmt: Format, neighbours: tuple[float, ...], value: float) -> None:
    """The mean is kept; for powers of two that of the logarithm. Zero stays where the format has one."""
    result = run_nodes(np.full(100_000, value, np.float32), fmt, Rounding.STOCHASTIC, seed=3).astype(np.float64)
    assert tuple(np.unique(result)) == neighbours
    if len(neighbours) == 2:
        kept = -np.exp2(np.log2(-result).mean()) if isinstance(fmt, PowerOfTwo) else result.mean()
        assert kept == pytest.approx(value, rel=0.008)  # five standard errors
    zero = run_nodes(np.zeros(10, np.float32), fmt, Rounding.STOCHASTIC)
    np.testing.assert_array_equal(zero, fmt.quantize(np.zeros(10, np.float32)))


def test_formats_by_channel_are_for_weights() -> None:
    with pytest.raises(TypeError, match="is a format of weights"):
        emit_quantize(NodeList(), "x", ChannelFixedPoint(8, (3, 4)), Rounding.HALF_EVEN)

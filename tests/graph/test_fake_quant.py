"""The ONNX form of every format is bit-equal to the numpy reference."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from ristretto.graph.fake_quant import emit_quantize
from ristretto.graph.nodes import OPSET, NodeList
from ristretto.numerics.formats import DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.rounding import Rounding
from ristretto.runtime.session import Session
from tests.numerics.strategies import fixed_points, minifloats, powers

ROUNDINGS = [Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.TRUNCATE]


def run_nodes(x: np.ndarray, fmt: Format, rounding: Rounding, seed: int = 0) -> np.ndarray:
    nodes = NodeList()
    result = emit_quantize(nodes, "x", fmt, rounding, seed)
    graph = helper.make_graph(
        nodes.nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None)],
        nodes.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
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
]


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda rounding: rounding.value)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_equals_the_reference(fmt: Format, rounding: Rounding) -> None:
    x = interesting(fmt)
    np.testing.assert_array_equal(run_nodes(x, fmt, rounding), fmt.quantize(x, rounding))


@settings(max_examples=40, deadline=None)
@given(st.one_of(fixed_points(), minifloats(), powers()), st.sampled_from(ROUNDINGS), st.integers(0, 2**32))
def test_equals_the_reference_for_any_format(fmt: Format, rounding: Rounding, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2**32, 3000, np.uint32).view(np.float32)
    x = bits[np.isfinite(bits)]
    np.testing.assert_array_equal(run_nodes(x, fmt, rounding), fmt.quantize(x, rounding))


def test_stochastic_rounds_to_a_neighbour_and_keeps_the_mean() -> None:
    fmt = DynamicFixedPoint(8, 4)
    x = np.full(100_000, 0.77, np.float32)
    result = run_nodes(x, fmt, Rounding.STOCHASTIC, seed=5)
    assert set(np.unique(result)) == {np.float32(0.75), np.float32(0.8125)}
    assert abs(result.mean() - 0.77) < 0.0005  # five standard errors
    np.testing.assert_array_equal(result, run_nodes(x, fmt, Rounding.STOCHASTIC, seed=5))

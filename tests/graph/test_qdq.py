"""Models for others compute what the simulation does: run by onnxruntime with its default options, or as QONNX says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from ristretto.caffe.net import build_net
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.graph.build import BuiltNet, Simulation, build
from ristretto.graph.kernels import emit_fixed_point
from ristretto.graph.marked import Marks
from ristretto.graph.nodes import NodeList
from ristretto.graph.qdq import QdqWriter
from ristretto.graph.qonnx import QUANT_DOMAIN, write_quant
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.kernels import exact_integer_kernels
from ristretto.runtime.session import Session
from ristretto.runtime.stock import StockSession
from tests.graph.test_kernels import BATCH, SIDE, chain, fixed, layer

needs_exact_kernels = pytest.mark.skipif(
    not exact_integer_kernels(), reason="this processor's kernels for 8 bits are not exact (no VNNI)"
)


def int8() -> Marks:
    return Marks(QdqWriter(centred=True))


def qcdq() -> Marks:
    return Marks(QdqWriter(widest=16), weights_bw=16, proved=False, clipped_weights=True)


WRITERS = pytest.mark.parametrize("make", [int8, qcdq])
Make = Callable[[], Marks]


def written(emit: Callable[[NodeList, str], str], marks: Marks) -> bytes:
    """A model of a few nodes from ``x`` to ``y``, its marks written out."""
    nodes = NodeList()
    output = emit(nodes, "x")
    marks.write(nodes, [output], marks)
    graph = helper.make_graph(
        nodes.nodes,
        "marks",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 2, None, None])],
        nodes.initializers,
    )
    opsets = [helper.make_opsetid("", marks.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def values_for(fmt: DynamicFixedPoint, seed: int) -> np.ndarray:
    """Ties, ends, what lies beyond them, and anything between."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(2 * fmt.min_code - 4, 2 * fmt.max_code + 4, 64) / 2
    codes[:6] = fmt.min_code, fmt.max_code, fmt.max_code + 0.5, fmt.min_code - 0.5, -0.5, 0.5
    codes[32:] += rng.uniform(-0.5, 0.5, 32)
    return np.ldexp(codes, -fmt.fl).astype(np.float32).reshape(1, 2, 4, 8)


def stock(model: bytes, x: np.ndarray) -> np.ndarray:
    (result,) = StockSession(model).run({"x": x}).values()
    return result


formats = st.builds(DynamicFixedPoint, st.integers(1, 24), st.integers(-12, 20), st.booleans())
narrow = st.builds(DynamicFixedPoint, st.integers(2, 8), st.integers(-2, 9), st.booleans())


@WRITERS
@settings(max_examples=60, deadline=None)
@given(fmt=formats, seed=st.integers(0, 99))
def test_one_rounding(make: Make, fmt: DynamicFixedPoint, seed: int) -> None:
    x = values_for(fmt, seed)
    model = written(lambda nodes, value: emit_fixed_point(nodes, value, fmt), make())
    np.testing.assert_array_equal(stock(model, x), fmt.quantize(x))


BETWEEN: dict[str, tuple[Callable[[NodeList, str], str], Callable[[np.ndarray], np.ndarray]]] = {
    "nothing": (lambda nodes, value: value, lambda x: x),
    "Relu": (lambda nodes, value: nodes.op("Relu", value), lambda x: np.maximum(x, np.float32(0))),
    "Transpose": (lambda nodes, value: nodes.op("Transpose", value, perm=[0, 1, 3, 2]), lambda x: x.swapaxes(2, 3)),
    "MaxPool": (
        lambda nodes, value: nodes.op("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2]),
        lambda x: x.reshape(1, 2, 2, 2, 4, 2).max(axis=(3, 5)),
    ),
    "AveragePool": (
        lambda nodes, value: nodes.op("AveragePool", value, kernel_shape=[2, 4], strides=[2, 4]),
        lambda x: x.reshape(1, 2, 2, 2, 2, 4).mean(axis=(3, 5), dtype=np.float64).astype(np.float32),
    ),
    "LeakyRelu": (
        lambda nodes, value: nodes.op("LeakyRelu", value, alpha=0.25),
        lambda x: np.where(x < 0, x * np.float32(0.25), x),
    ),
}


@WRITERS
@pytest.mark.parametrize("between", BETWEEN)
@settings(max_examples=25, deadline=None)
@given(first=narrow, second=narrow, seed=st.integers(0, 99))
def test_two_roundings_stay_two(
    make: Make, between: str, first: DynamicFixedPoint, second: DynamicFixedPoint, seed: int
) -> None:
    """onnxruntime likes to merge them, and to compute what lies between on codes."""
    emit, compute = BETWEEN[between]

    def nodes_of(nodes: NodeList, value: str) -> str:
        return emit_fixed_point(nodes, emit(nodes, emit_fixed_point(nodes, value, first)), second)

    x = values_for(first, seed)
    expected = second.quantize(compute(first.quantize(x)))
    np.testing.assert_array_equal(stock(written(nodes_of, make()), x), expected)


@WRITERS
@pytest.mark.parametrize("op_type", ["Add", "Mul", "Max"])
@settings(max_examples=40, deadline=None)
@given(first=narrow, second=narrow, total=narrow, seed=st.integers(0, 99))
def test_two_operands(
    make: Make,
    op_type: str,
    first: DynamicFixedPoint,
    second: DynamicFixedPoint,
    total: DynamicFixedPoint,
    seed: int,
) -> None:
    def nodes_of(nodes: NodeList, value: str) -> str:
        turned = nodes.op("Neg", value)
        parts = emit_fixed_point(nodes, value, first), emit_fixed_point(nodes, turned, second)
        return emit_fixed_point(nodes, nodes.op(op_type, *parts), total)

    x = values_for(first, seed)
    compute = {"Add": np.add, "Mul": np.multiply, "Max": np.maximum}[op_type]
    expected = total.quantize(compute(first.quantize(x), second.quantize(-x)))
    np.testing.assert_array_equal(stock(written(nodes_of, make()), x), expected)


def net_text(channels: int) -> str:
    """The chain of the other kernels' test, and layers whose integer kernels are not exact, or are none."""
    more = layer("t", "ReLU", "f", "relu_param { negative_slope: 0.125 }", top="t")
    more += layer("u", "Pooling", "t", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }")
    more += layer("v", "Deconvolution", "u", "convolution_param { num_output: 3 kernel_size: 2 stride: 2 }")
    more += layer("w", "Sigmoid", "v")
    return chain(channels) + more


LINEAR = "abcdefghv"


@st.composite
def whole_formats(draw: st.DrawFn, widths: st.SearchStrategy[int], channels: int = 0) -> LayerFormats:
    inputs, outputs = draw(fixed(widths)), draw(fixed(widths | st.just(24)))
    params = draw(fixed(st.integers(2, 8)).filter(lambda fmt: fmt.signed))
    bias = DynamicFixedPoint(32, min(inputs.fl + params.fl, 28))
    if channels and draw(st.booleans()):
        fls = tuple(params.fl + draw(st.integers(0, 3)) for _ in range(channels))
        return LayerFormats(inputs, outputs, ChannelFixedPoint(params.bw, fls), bias, in_place=draw(st.booleans()))
    return LayerFormats(inputs, outputs, params, bias, in_place=draw(st.booleans()))


@st.composite
def net_formats(draw: st.DrawFn) -> tuple[int, dict[str, LayerFormats]]:
    channels = draw(st.sampled_from([4, 16, 32]))
    widths = draw(st.sampled_from([st.just(8), st.integers(3, 8), st.integers(3, 14)]))
    found = {name: draw(whole_formats(widths, channels if name in "abcdef" else 0)) for name in LINEAR}
    for name in draw(st.sets(st.sampled_from("spqtuj"))):
        found[name] = LayerFormats(draw(st.none() | fixed(widths)), draw(fixed(widths)), in_place=False)
    return channels, found


def built(text: str, simulation: Simulation, values: list[str], seed: int, marks: Marks | None = None) -> BuiltNet:
    net = build_net(parse(text, "net.prototxt"))
    rng = np.random.default_rng(seed)
    shapes = infer_shapes(net, {})
    blobs = [
        tuple(
            (rng.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 4))).astype(np.float32)
            for shape in item.blobs
        )
        for item in shapes.layers
    ]
    finals = [net.finals[value] for value in values]
    return build(net, shapes, blobs, outputs=finals, simulation=simulation, marks=marks)


def by_order(model: BuiltNet, results: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [results[name] for name in model.fetches.values()]


@needs_exact_kernels
@WRITERS
@settings(max_examples=20, deadline=None)
@given(drawn=net_formats(), seed=st.integers(0, 1000), wanted=st.sampled_from([["y", "w"], ["h", "v", "s", "a"]]))
def test_nets_equal_integer_arithmetic(
    make: Make, drawn: tuple[int, dict[str, LayerFormats]], seed: int, wanted: list[str]
) -> None:
    channels, found = drawn
    text = net_text(channels)
    simulation = Simulation(found, arithmetic=Arithmetic.INTEGER)
    x = np.random.default_rng(seed).standard_normal((BATCH, 5, SIDE, SIDE)).astype(np.float32) * 2
    plain = built(text, simulation, wanted, seed)
    expected = by_order(plain, Session(plain.model.SerializeToString()).run({"x": x}, [*plain.fetches.values()]))
    marks = make()
    model = built(text, simulation, wanted, seed, marks)
    mine = by_order(model, StockSession(model.model.SerializeToString()).run({"x": x}))
    for name, left, right in zip(wanted, mine, expected, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


@needs_exact_kernels
def test_layers_of_8_bits_become_integer_kernels() -> None:
    unsigned, signed = DynamicFixedPoint(8, 6, signed=False), DynamicFixedPoint(8, 5)
    params, bias = DynamicFixedPoint(8, 8), DynamicFixedPoint(32, 14)
    found = {name: LayerFormats(unsigned, unsigned, params, bias, in_place=False) for name in "bdefg"}
    found["a"] = LayerFormats(signed, unsigned, params, DynamicFixedPoint(32, 13), in_place=False)
    found["c"] = LayerFormats(unsigned, signed, params, bias, in_place=False)
    found["h"] = LayerFormats(unsigned, DynamicFixedPoint(24, 14), params, bias, in_place=False)
    found["s"] = LayerFormats(output=unsigned, in_place=False)
    simulation = Simulation(found, arithmetic=Arithmetic.INTEGER)
    model = built(chain(16), simulation, ["h"], 0, int8())
    session = StockSession(model.model.SerializeToString())
    types = [node.op_type for node in onnx.load_from_string(session.optimized).graph.node]
    assert types.count("QLinearConv") == 6
    assert types.count("QGemm") == 2
    assert types.count("QLinearAdd") == 1
    assert not {"Conv", "FusedConv", "Gemm"} & set(types)
    weights = {tensor.data_type for tensor in model.model.graph.initializer if tensor.name.endswith("weight_codes")}
    assert weights == {TensorProto.INT8}


def test_signed_values_of_qcdq_have_the_zero_point_0() -> None:
    fmt = DynamicFixedPoint(5, 3)
    model = onnx.load_from_string(written(lambda nodes, value: emit_fixed_point(nodes, value, fmt), qcdq()))
    assert [node.op_type for node in model.graph.node] == ["QuantizeLinear", "Clip", "DequantizeLinear"]
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantize, clip, _ = model.graph.node
    assert constants[quantize.input[1]] == 0.125
    assert (constants[quantize.input[2]], constants[quantize.input[2]].dtype) == (0, np.int8)
    assert [int(constants[name]) for name in clip.input[1:]] == [-16, 15]


def test_16_bits_need_opset_21() -> None:
    marks = qcdq()
    written(lambda nodes, value: emit_fixed_point(nodes, value, DynamicFixedPoint(12, 4)), marks)
    assert marks.opset == 21
    small = qcdq()
    written(lambda nodes, value: emit_fixed_point(nodes, value, DynamicFixedPoint(8, 4)), small)
    assert small.opset == 17


class Quant(OpRun):
    """QONNX's Quant as its specification has it (rounding mode ROUND)."""

    op_domain = QUANT_DOMAIN

    def _run(self, x, scale, zeropt, bitwidth, signed=None, narrow=None, rounding_mode=None):  # type: ignore[no-untyped-def]
        assert (narrow, rounding_mode) == (0, "ROUND")
        least = -(2.0 ** (bitwidth - 1)) if signed else 0.0
        most = 2.0 ** (bitwidth - 1) - 1 if signed else 2.0**bitwidth - 1
        codes = np.round(np.clip(np.float64(x) / scale + zeropt, least, most))
        return (((codes - zeropt) * scale).astype(np.float32),)


@settings(max_examples=12, deadline=None)
@given(drawn=net_formats(), seed=st.integers(0, 1000))
def test_quant_nodes_equal_the_simulation(drawn: tuple[int, dict[str, LayerFormats]], seed: int) -> None:
    _, found = drawn
    text = net_text(4)
    found = {name: fmt for name, fmt in found.items() if not isinstance(fmt.params, ChannelFixedPoint)}
    found["a"] = LayerFormats(
        DynamicFixedPoint(8, 5), DynamicFixedPoint(6, 3), ChannelFixedPoint(4, (3, 5, 4, 2)), in_place=False
    )
    simulation = Simulation(found)
    x = np.random.default_rng(seed).standard_normal((BATCH, 5, SIDE, SIDE)).astype(np.float32) * 2
    wanted = ["h", "w"]
    plain = built(text, simulation, wanted, seed)
    expected = by_order(plain, Session(plain.model.SerializeToString()).run({"x": x}, [*plain.fetches.values()]))
    model = built(text, simulation, wanted, seed, Marks(write_quant))
    quants = [node for node in model.model.graph.node if node.op_type == "Quant"]
    assert len(quants) >= 2 * len(found)
    names = list(model.fetches.values())
    mine = dict(zip(names, ReferenceEvaluator(model.model, new_ops=[Quant]).run(names, {"x": x}), strict=True))
    for left, right in zip(by_order(model, mine), expected, strict=True):
        # Averages and sigmoids are computed in another order there.
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-5)

"""Products of which two fit into 16 bits: which weights those are, and the order of channels that makes them so."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ristretto.caffe.net import build_net
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.graph.build import BuiltNet, Simulation, build
from ristretto.graph.columns import as_matrix, emit_columns
from ristretto.graph.kernels import Kernels
from ristretto.graph.nodes import OPSET, NodeList
from ristretto.graph.pairing import paired
from ristretto.graph.pairs import pairs_fit, stored_for_pairs
from ristretto.graph.probes import Probe, pair_probes, probes
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.kernels import exact_in_pairs
from ristretto.runtime.session import Session

Codes = NDArray[np.int8]

needs_exact_pairs = pytest.mark.skipif(
    not exact_in_pairs(), reason="this processor's kernels for 8 bits saturate in another way"
)


def saturated_sums(codes: Codes, inputs: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What a kernel computes that adds up two neighbours in 16 bits: codes (outputs, inputs)."""
    products = codes.astype(np.int64) * inputs
    if products.shape[1] % 2:
        products = np.pad(products, ((0, 0), (0, 1)))
    return np.clip(products.reshape(len(codes), -1, 2).sum(axis=2), -32768, 32767).sum(axis=1)


def random_codes(seed: int, shape: tuple[int, ...], spread: float) -> Codes:
    drawn = np.random.default_rng(seed).standard_normal(shape) * spread
    return np.clip(np.round(drawn), -128, 127).astype(np.int8)


@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(3, 6), (2, 4, 3, 3), (2, 5, 2, 2), (1, 1, 1, 1), (2, 7)]),
    spread=st.sampled_from([20, 45, 70]),
    greatest=st.sampled_from([127, 200, 255]),
)
def test_weights_that_fit_lose_nothing(seed: int, shape: tuple[int, ...], spread: float, greatest: int) -> None:
    codes = random_codes(seed, shape, spread)
    rows = (codes.transpose(0, 2, 3, 1) if codes.ndim == 4 else codes).reshape(len(codes), -1)
    worst = [np.where(rows[0] > 0, greatest, 0), np.where(rows[-1] < 0, greatest, 0)]
    rng = np.random.default_rng(seed)
    worst += [rng.choice([0, greatest], rows.shape[1]) for _ in range(20)]
    exact = all(np.array_equal(saturated_sums(rows, x), rows.astype(np.int64) @ x) for x in worst)
    if pairs_fit(codes, greatest):
        assert exact
        assert stored_for_pairs(codes, greatest) == (pytest.approx(codes), 0)
    else:
        stored, added = stored_for_pairs(codes, greatest)
        assert (stored.dtype, added) == (np.uint8, 128)
        np.testing.assert_array_equal(stored.astype(np.int16) - added, codes)


def test_the_limit() -> None:
    for first, second, fit in ((64, 64, True), (65, 64, False), (127, 1, True), (-64, -64, True), (-128, 0, True)):
        assert pairs_fit(np.array([[first, second]], np.int8), 255) is fit
    assert not pairs_fit(np.array([[-128, -1]], np.int8), 255)
    assert pairs_fit(np.array([[127, 127]], np.int8), 127)  # what is never negative has seven bits
    apart = np.zeros((1, 4, 1, 1), np.int8)
    apart[0, [1, 2]] = 100  # neighbours of other pairs
    assert pairs_fit(apart, 255)
    assert not pairs_fit(apart, 255, grouped=True)
    assert not pairs_fit(apart[:, :3], 255)  # of an odd number any two may meet


@given(seed=st.integers(0, 1000), channels=st.sampled_from([2, 8, 16, 32]), spread=st.sampled_from([15, 35, 60]))
def test_an_order_of_channels(seed: int, channels: int, spread: float) -> None:
    layers = [random_codes(seed + number, (channels, 9), spread) for number in range(2)]
    order = paired(layers)
    if order is None:
        return
    assert sorted(order) == list(range(channels))
    assert not all(pairs_fit(np.ascontiguousarray(codes.T), 255) for codes in layers)
    assert all(pairs_fit(np.ascontiguousarray(codes[order].T), 255) for codes in layers)


def test_two_large_weights_part() -> None:
    codes = np.full((6, 4), 10, np.int8)
    codes[[2, 3], 1] = 100
    order = paired([codes])
    assert order is not None
    assert 2 not in order.reshape(-1, 2)[np.any(order.reshape(-1, 2) == 3, axis=1)]
    assert paired([np.full((6, 4), 100, np.int8)]) is None
    assert paired([np.full((6, 4), 10, np.int8)]) is None


def weights_of(probe: Probe) -> tuple[Codes, int, float]:
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in probe.model.graph.initializer}
    codes = found["w"].astype(np.int64) - int(found["w_zero"])
    rows = codes.transpose(0, 2, 3, 1).reshape(len(codes), -1) if codes.ndim == 4 else codes
    if probe.model.graph.node[0].op_type == "MatMulIntegerToFloat":
        rows = rows.T
    return rows.astype(np.int8), int(found["x_zero"]), float(found["step"])


def answer(probe: Probe, order: list[int]) -> int:
    """What a kernel says that adds up in 16 bits the products next to each other in an order within four."""
    rows, offset, step = weights_of(probe)
    count = rows.shape[1] // len(order) * len(order)
    mixed = rows[:, :count].reshape(len(rows), -1, len(order))[:, :, order].reshape(len(rows), -1)
    rows = np.concatenate([mixed, rows[:, count:]], axis=1)
    total = saturated_sums(rows, np.full(rows.shape[1], 255))[0] - offset * rows[0].astype(np.int64).sum()
    return round(total / step) + 128


def stores_with_sign(probe: Probe) -> bool:
    return any(
        tensor.name == "w" and tensor.data_type == onnx.TensorProto.INT8 for tensor in probe.model.graph.initializer
    )


def test_probes_for_pairs_tell_which_products_are_added_up() -> None:
    signed = [probe for probe in pair_probes() if stores_with_sign(probe)]
    assert all(answer(probe, [0, 1, 2, 3]) == probe.expected for probe in signed)
    for order in ([0, 2, 1, 3], [0, 3, 1, 2]):
        assert any(abs(answer(probe, order) - probe.expected) > 10 for probe in signed)
    assert all(abs(answer(probe, [0, 1, 2, 3]) - probe.expected) > 10 for probe in probes())
    for probe in pair_probes():
        assert 0 <= probe.expected <= 255
        assert abs(probe.expected - 128) > 60


CHANNELS = 64

NET = f"""
input: "x" input_dim: 3 input_dim: 8 input_dim: 9 input_dim: 9
layer {{ name: "a" type: "Convolution" bottom: "x" top: "a"
  convolution_param {{ num_output: {CHANNELS} kernel_size: 3 pad: 1 }} }}
layer {{ name: "ra" type: "ReLU" bottom: "a" top: "a" }}
layer {{ name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param {{ num_output: {CHANNELS} kernel_size: 3 pad: 1 }} }}
layer {{ name: "rb" type: "ReLU" bottom: "b" top: "b" }}
layer {{ name: "c" type: "Convolution" bottom: "b" top: "c"
  convolution_param {{ num_output: {CHANNELS} kernel_h: 3 kernel_w: 1 pad_h: 1 }} }}
layer {{ name: "s" type: "Eltwise" bottom: "a" bottom: "c" top: "s" }}
layer {{ name: "rs" type: "ReLU" bottom: "s" top: "s" }}
layer {{ name: "d" type: "Convolution" bottom: "s" top: "d"
  convolution_param {{ num_output: {CHANNELS} kernel_size: 3 }} }}
layer {{ name: "rd" type: "ReLU" bottom: "d" top: "d" }}
layer {{ name: "p" type: "Pooling" bottom: "d" top: "p" pooling_param {{ pool: AVE global_pooling: true }} }}
layer {{ name: "y" type: "InnerProduct" bottom: "p" top: "y" inner_product_param {{ num_output: 7 }} }}
"""


def residual(kernels: Kernels, spread: float, large: int, seed: int, values: list[str]) -> BuiltNet:
    """A residual net of eight bits with weights of some spread, and pairs of large ones in each layer."""
    net = build_net(parse(NET, "net.prototxt"))
    shapes = infer_shapes(net, {})
    rng = np.random.default_rng(seed)
    blobs = []
    for item in shapes.layers:
        drawn = [np.round(rng.standard_normal(shape) * spread).astype(np.float32) for shape in item.blobs]
        for blob in drawn[:1]:
            for number in range(large if blob.shape[1] == CHANNELS and blob.ndim == 4 else 0):
                blob[number, 2 * number : 2 * number + 2] = 90
        blobs.append(tuple(np.ldexp(blob, -8).astype(np.float32) for blob in drawn))
    unsigned, wide = DynamicFixedPoint(8, 4, signed=False), DynamicFixedPoint(24, 12)
    params, bias = DynamicFixedPoint(8, 8), DynamicFixedPoint(32, 12)
    formats = {name: LayerFormats(unsigned, unsigned, params, bias, in_place=False) for name in "abdp"}
    formats["c"] = LayerFormats(unsigned, wide, params, bias, in_place=False)
    formats["s"] = LayerFormats(output=unsigned, in_place=False)
    formats["y"] = LayerFormats(unsigned, None, params, bias, in_place=False)
    wanted = [net.finals[value] for value in values]
    return build(net, shapes, blobs, outputs=wanted, simulation=Simulation(formats), kernels=kernels)


def outcome(built: BuiltNet, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    names = list(built.fetches.values())
    results = Session(built.model.SerializeToString(), threads=1, keep_layout=True).run({built.inputs["x"]: x}, names)
    return [results[name] for name in names]


@needs_exact_pairs
@settings(max_examples=25, deadline=None)
@given(
    spread=st.sampled_from([4, 12, 20]),
    large=st.sampled_from([0, 3, 32]),
    seed=st.integers(0, 1000),
    values=st.sampled_from([["y"], ["s", "y"], ["b", "y"], ["c", "y"]]),
)
def test_any_weights(spread: float, large: int, seed: int, values: list[str]) -> None:
    x = np.random.default_rng(seed).integers(0, 256, (3, 8, 9, 9)).astype(np.float32) / 16
    plain, quick = (outcome(residual(kernels, spread, large, seed, values), x) for kernels in ("plain", "pairs"))
    for made, expected in zip(quick, plain, strict=True):
        np.testing.assert_array_equal(made, expected)


def stored(built: BuiltNet) -> Counter[str]:
    """The types of the weights of integer operations."""
    types = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in built.model.graph.initializer}
    places = {"QLinearConv": 3, "MatMulIntegerToFloat": 1}
    nodes = [node for node in built.model.graph.node if node.op_type in places]
    return Counter(f"{node.op_type} {types[node.input[places[node.op_type]]]}" for node in nodes)


def test_large_weights_are_parted_where_nobody_sees_it() -> None:
    assert stored(residual("pairs", 4, 0, 0, ["y"])) == {"QLinearConv INT8": 3, "MatMulIntegerToFloat INT8": 1}
    assert stored(residual("pairs", 4, 3, 0, ["y"])) == {"QLinearConv INT8": 3, "MatMulIntegerToFloat INT8": 1}
    # What is fetched keeps its order; what is wider than eight bits is multiplied as floats then.
    asked = stored(residual("pairs", 4, 3, 0, ["a", "b", "s", "y"]))
    assert asked == {"QLinearConv INT8": 1, "QLinearConv UINT8": 2}
    assert stored(residual("integers", 4, 32, 0, ["y"])) == {"QLinearConv INT8": 3, "MatMulIntegerToFloat INT8": 1}


SMALL = """
layer {{ name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {{ num_output: 4 kernel_size: 1 }} }}
{}
layer {{ name: "b" type: "Convolution" bottom: "{}" top: "b" convolution_param {{ num_output: 3 kernel_size: 1 }} }}
layer {{ name: "rb" type: "ReLU" bottom: "b" top: "b" }}
"""


@pytest.mark.parametrize(
    ("between", "bottom", "moved"),
    [
        ("", "a", True),
        ('layer { name: "r" type: "ReLU" bottom: "a" top: "r" }', "r", True),
        ('layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { kernel_size: 2 } }', "p", True),
        ('layer { name: "n" type: "LRN" bottom: "a" top: "n" }', "n", False),
        ('layer { name: "s" type: "Eltwise" bottom: "a" bottom: "x" top: "s" }', "s", False),
        ('layer { name: "rx" type: "ReLU" bottom: "x" top: "rx" }\n'
         'layer { name: "s" type: "Eltwise" bottom: "a" bottom: "rx" top: "s" }', "s", False),
        ('layer { name: "v" type: "PReLU" bottom: "a" top: "v" }', "v", False),
    ],
)  # fmt: skip
def test_what_lies_between_may_tie_the_order(between: str, bottom: str, moved: bool) -> None:
    text = 'input: "x" input_dim: 2 input_dim: 4 input_dim: 4 input_dim: 4\n' + SMALL.format(between, bottom)
    net = build_net(parse(text, "net.prototxt"))
    shapes = infer_shapes(net, {})
    blobs = []
    for item, found in zip(net.layers, shapes.layers, strict=True):
        drawn = [np.ones(shape, np.float32) / 16 for shape in found.blobs]
        if item.name == "b":
            drawn[0][0, :2] = 91 / 128
        blobs.append(tuple(drawn))
    fmt, params = DynamicFixedPoint(8, 4, signed=False), DynamicFixedPoint(8, 7)
    formats = {name: LayerFormats(fmt, fmt, params, params, in_place=False) for name in "ab"}
    made = build(net, shapes, blobs, outputs=[net.finals["b"]], simulation=Simulation(formats), kernels="pairs")
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
    large = [value for value in constants.values() if value.shape == (3, 4, 1, 1)]
    assert any(not np.all(value[0, :2, 0, 0] > 0.5) for value in large) == moved


@given(
    taps=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    seed=st.integers(0, 100),
)
@example(taps=(1, 1), strides=(1, 1), pads=(0, 0, 0, 1), seed=0)  # borders at the sides alone need a row of zeros
@example(taps=(2, 3), strides=(2, 1), pads=(0, 1, 1, 2), seed=0)
@settings(max_examples=100, deadline=None)
def test_columns_times_matrix_is_the_convolution(
    taps: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (2, 6, 7, 3)).astype(np.uint8)
    weights = rng.integers(-9, 9, (5, 3, *taps)).astype(np.int8)
    nodes = NodeList()
    nodes.reserve("x")
    zero = nodes.constant(np.asarray(100, np.uint8))
    made = emit_columns(nodes, "x", zero, x.shape[1:], taps, {"pads": list(pads), "strides": list(strides)})
    shape = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes.nodes or [onnx.helper.make_node("Identity", ["x"], ["x_again"])],
        "columns",
        [shape("x", onnx.TensorProto.UINT8, x.shape)],
        [shape(made if made != "x" else "x_again", onnx.TensorProto.UINT8, None)],
        nodes.initializers,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8)
    name = graph.output[0].name
    columns = Session(model.SerializeToString(), threads=1).run({"x": x}, [name])[name].astype(np.int64)
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=100).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=(1, 2))[:, :: strides[0], :: strides[1]]
    expected = np.einsum("nhwcij,ocij->nhwo", windows, weights.astype(np.int64))
    np.testing.assert_array_equal(columns @ as_matrix(weights).astype(np.int64), expected)

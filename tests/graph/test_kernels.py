"""Faster kernels compute what plain nodes do, bit for bit: random nets and formats, every value of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ristretto.caffe.net import build_net
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.graph.build import BuiltNet, Simulation, build
from ristretto.graph.kernels import Kernels
from ristretto.graph.probes import probes
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.kernels import exact_integer_kernels
from ristretto.runtime.session import Session

FAST: tuple[Kernels, ...] = ("rounding", "pairs", "integers")
BATCH, SIDE = 3, 9


def layer(name: str, kind: str, bottoms: str, fields: str = "", top: str = "") -> str:
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top or name}" {fields} }}\n'


def conv(name: str, bottom: str, channels: int, kernel: int = 3, group: int = 1) -> str:
    size = f"num_output: {channels} kernel_size: {kernel} pad: {kernel // 2} group: {group}"
    return layer(name, "Convolution", bottom, f"convolution_param {{ {size} }}")


def chain(channels: int) -> str:
    """Everything that codes can flow through, a residual sum, branches, and an average that needs floats."""
    return (
        f'input: "x" input_dim: {BATCH} input_dim: 5 input_dim: {SIDE} input_dim: {SIDE}\n'
        + conv("a", "x", channels)
        + layer("ra", "ReLU", "a", top="a")
        + layer("p", "Pooling", "a", "pooling_param { kernel_size: 3 stride: 2 }")
        + conv("b", "p", channels)
        + layer("rb", "ReLU", "b", top="b")
        + conv("c", "b", channels)
        + layer("s", "Eltwise", "p c")
        + layer("rs", "ReLU", "s", top="s")
        + conv("d", "s", channels, 1)
        + conv("e", "s", channels, 3, channels)
        + layer("j", "Concat", "d e")
        + layer("k", "Clip", "j", "clip_param { min: 0 max: 2.5 }")
        + conv("f", "k", channels)
        + layer("q", "Pooling", "f", "pooling_param { pool: AVE kernel_size: 2 stride: 2 }")
        + layer("g", "InnerProduct", "q", "inner_product_param { num_output: 12 }")
        + layer("rg", "ReLU", "g", top="g")
        + layer("h", "InnerProduct", "g", "inner_product_param { num_output: 7 }")
        + layer("y", "Softmax", "h")
    )


def fixed(bits: st.SearchStrategy[int]) -> st.SearchStrategy[DynamicFixedPoint]:
    def of(bw: int) -> st.SearchStrategy[DynamicFixedPoint]:
        return st.builds(DynamicFixedPoint, st.just(bw), st.integers(bw - 5, bw + 1), st.booleans())

    return bits.flatmap(of)


WIDTHS = st.one_of(st.just(8), st.integers(2, 8), st.integers(9, 32))


def unsaturated(bw: int) -> st.SearchStrategy[DynamicFixedPoint]:
    return st.builds(DynamicFixedPoint, st.just(bw), st.integers(bw - 14, bw - 10))


FORMATS = fixed(WIDTHS)
FEW_BITS = fixed(st.integers(2, 8)) | st.integers(9, 16).flatmap(unsaturated)
"""Formats that leave values few bits: the ends of a wide one would have many."""


@st.composite
def layer_formats(draw: st.DrawFn, formats: st.SearchStrategy[DynamicFixedPoint], least: float) -> LayerFormats:
    """Formats of a layer; those of parameters reach to ``least`` at least."""
    inputs = draw(st.none() | formats)
    params = draw(st.none() | fixed(st.integers(2, 12)).filter(lambda fmt: fmt.signed and fmt.max >= least))
    bias = params
    if inputs is not None and params is not None and draw(st.booleans()):
        bias = DynamicFixedPoint(32, min(inputs.fl + params.fl, 28))
    return LayerFormats(inputs, draw(st.none() | formats), params, bias, in_place=draw(st.booleans()))


def dense(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 4))).astype(np.float32)


def sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Three halves, with a sign, for each output: sums of few bits stay sums of few bits through all layers."""
    blob = np.zeros((shape[0], int(np.prod(shape[1:]))), np.float32)
    for row in blob:
        row[rng.choice(len(row), min(3, len(row)), replace=False)] = rng.choice([-0.5, 0.5], min(3, len(row)))
    return blob.reshape(shape)


def built(
    net: NetSpec,
    formats: dict[str, LayerFormats],
    kernels: Kernels,
    values: list[str],
    seed: int,
    weights: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = dense,
) -> BuiltNet:
    rng = np.random.default_rng(seed)
    shapes = infer_shapes(net, {})
    blobs = [tuple(weights(rng, shape) for shape in item.blobs) for item in shapes.layers]
    return build(net, shapes, blobs, outputs=values, simulation=Simulation(formats), kernels=kernels)


def run(model: BuiltNet, x: np.ndarray, kernels: Kernels) -> dict[str, np.ndarray]:
    session = Session(model.model.SerializeToString(), threads=1, keep_layout=kernels != "plain")
    results = session.run({model.inputs["x"]: x}, list(model.fetches.values()))
    return {value: results[name] for value, name in model.fetches.items()}


def groups_of(net: NetSpec, apart: bool) -> list[list[str]]:
    """Values to fetch: these are made as floats too, others may stay as codes throughout."""
    values = [value for item in net.layers for value in item.outputs if item.type != "Input"]
    return [[net.finals["y"], value] for value in values[::4]] if apart else [values]


@settings(max_examples=40, deadline=None)
@given(
    channels=st.sampled_from([4, 16, 16, 32]),
    formats=st.dictionaries(st.sampled_from("abcdefgh"), layer_formats(FORMATS, 0.0), min_size=3),
    sums=st.none() | fixed(st.integers(4, 16)),
    seed=st.integers(0, 1000),
    apart=st.booleans(),
)
def test_any_formats(
    channels: int, formats: dict[str, LayerFormats], sums: DynamicFixedPoint | None, seed: int, apart: bool
) -> None:
    net = build_net(parse(chain(channels), "net.prototxt"))
    if sums is not None:
        formats = {**formats, "s": LayerFormats(output=sums, in_place=False)}
    x = np.random.default_rng(seed).standard_normal((BATCH, 5, SIDE, SIDE)).astype(np.float32) * 2
    for group in groups_of(net, apart):
        quick = {kernels: run(built(net, formats, kernels, group, seed), x, kernels) for kernels in FAST}
        for value in group:
            for kernels in FAST[1:]:
                np.testing.assert_array_equal(quick["rounding"][value], quick[kernels][value], err_msg=value)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.sampled_from([4, 16, 32]),
    formats=st.dictionaries(st.sampled_from("abcdefgh"), layer_formats(FEW_BITS, 0.5)),
    sums=st.none() | FEW_BITS,
    seed=st.integers(0, 1000),
    apart=st.booleans(),
)
def test_any_formats_where_the_order_of_sums_is_all_the_same(
    channels: int, formats: dict[str, LayerFormats], sums: DynamicFixedPoint | None, seed: int, apart: bool
) -> None:
    """Plain nodes may add up floats in another order, so that a sum, and any code made of it, is another by chance."""
    net = build_net(parse(chain(channels), "net.prototxt"))
    if sums is not None:
        formats = {**formats, "s": LayerFormats(output=sums, in_place=False)}
    x = np.random.default_rng(seed).integers(-16, 17, (BATCH, 5, SIDE, SIDE)).astype(np.float32) / 4
    for group in groups_of(net, apart):
        plain = run(built(net, formats, "plain", group, seed, sparse), x, "plain")
        for kernels in FAST:
            quick = run(built(net, formats, kernels, group, seed, sparse), x, kernels)
            for value in group:
                np.testing.assert_array_equal(quick[value], plain[value], err_msg=f"{kernels} {value}")


def at_8_bits(channels: int) -> tuple[NetSpec, dict[str, LayerFormats]]:
    """Formats as the recommended preset gives them: stored once, results of eight bits."""
    net = build_net(parse(chain(channels), "net.prototxt"))
    unsigned, signed = DynamicFixedPoint(8, 6, signed=False), DynamicFixedPoint(8, 5)
    params, bias = DynamicFixedPoint(8, 8), DynamicFixedPoint(32, 13)
    formats = {
        name: LayerFormats(signed if name == "a" else unsigned, unsigned, params, bias, in_place=False)
        for name in "abdefg"
    }
    formats["c"] = LayerFormats(unsigned, DynamicFixedPoint(24, 14), params, bias, in_place=False)
    formats["s"] = LayerFormats(output=unsigned, in_place=False)
    return net, formats


@pytest.mark.parametrize("channels", [16, 20])
def test_what_flows_as_codes(channels: int) -> None:
    net, formats = at_8_bits(channels)
    values = [net.finals["y"]]
    model = built(net, formats, "integers", values, 0).model
    kinds = Counter(node.op_type for node in model.graph.node)
    # b and f: c stays as wide as an accumulator, the others add up too few products to gain.
    assert kinds["QLinearConv"] == 2
    assert kinds["Conv"] == 4
    assert kinds["Round"] == 0
    x = np.random.default_rng(5).standard_normal((BATCH, 5, SIDE, SIDE)).astype(np.float32) * 2
    plain = run(built(net, formats, "plain", values, 0), x, "plain")
    for kernels in FAST:
        np.testing.assert_array_equal(run(built(net, formats, kernels, values, 0), x, kernels)["y"], plain["y"])


def test_ties_go_to_the_even_code_in_blocks() -> None:
    net = build_net(parse(chain(16), "net.prototxt"))
    fmt = DynamicFixedPoint(12, 9)
    formats = {"a": LayerFormats(output=fmt, in_place=False)}
    shapes = infer_shapes(net, {})
    blobs = [tuple(np.zeros(shape, np.float32) for shape in item.blobs) for item in shapes.layers]
    number = [item.name for item in net.layers].index("a")
    blobs[number][0][:, 0, 1, 1] = 1.0  # the first channel, as it is
    x = np.zeros((BATCH, 5, SIDE, SIDE), np.float32)
    points = np.arange(SIDE * SIDE) - 40
    x[0, 0] = (points.reshape(SIDE, SIDE) + 0.5) * fmt.step
    x[1, 0] = np.linspace(-6, 6, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    value = net.layers[number].outputs[0]
    model = build(
        net, shapes, blobs, outputs=[net.finals["p"], value], simulation=Simulation(formats), kernels="rounding"
    )
    made = run(model, x, "rounding")[value][:, 3]
    np.testing.assert_array_equal(made, fmt.quantize(x[:, 0], Rounding.HALF_EVEN))


def blocks(channels: int) -> str:
    """Two residual blocks, the second with a convolution on its shortcut; every sum is rounded once."""
    return (
        f'input: "x" input_dim: {BATCH} input_dim: 5 input_dim: {SIDE} input_dim: {SIDE}\n'
        + conv("a", "x", channels)
        + layer("ra", "ReLU", "a", top="a")
        + conv("b", "a", channels)
        + layer("rb", "ReLU", "b", top="b")
        + conv("c", "b", channels)
        + layer("s", "Eltwise", "a c")
        + layer("rs", "ReLU", "s", top="s")
        + conv("p", "s", channels * 2, 1)
        + conv("d", "s", channels * 2)
        + layer("rd", "ReLU", "d", top="d")
        + conv("e", "d", channels * 2)
        + layer("t", "Eltwise", "p e")
        + layer("rt", "ReLU", "t", top="t")
        + conv("f", "t", channels)
        + layer("q", "Pooling", "f", "pooling_param { pool: AVE global_pooling: true }")
        + layer("y", "InnerProduct", "q", "inner_product_param { num_output: 7 }")
    )


def residual_formats(
    stored: dict[str, DynamicFixedPoint], wide: dict[str, DynamicFixedPoint]
) -> dict[str, LayerFormats]:
    """Values stored once, in the formats of their readers; what is added last is wide."""
    params = DynamicFixedPoint(8, 8)
    read = {"a": stored["x"], "b": stored["a"], "c": stored["b"], "p": stored["s"], "d": stored["s"]}
    read |= {"e": stored["d"], "f": stored["t"]}
    made = stored | wide
    formats = {
        name: LayerFormats(inputs, made.get(name), params, DynamicFixedPoint(32, 15), in_place=False)
        for name, inputs in read.items()
    }
    return formats | {name: LayerFormats(output=stored[name], in_place=False) for name in "st"}


@settings(max_examples=40, deadline=None)
@given(
    channels=st.sampled_from([16, 32, 20]),
    stored=st.fixed_dictionaries({name: fixed(st.integers(6, 16)) for name in "xabdpst"}),
    wide=st.fixed_dictionaries({name: fixed(st.integers(12, 24)) for name in "ce"}),
    seed=st.integers(0, 1000),
)
def test_sums_of_rounded_values(
    channels: int, stored: dict[str, DynamicFixedPoint], wide: dict[str, DynamicFixedPoint], seed: int
) -> None:
    net = build_net(parse(blocks(channels), "net.prototxt"))
    formats = residual_formats(stored, wide)
    x = np.random.default_rng(seed).standard_normal((BATCH, 5, SIDE, SIDE)).astype(np.float32) * 4
    values = [net.finals[blob] for blob in ("s", "t", "y")]
    plain = run(built(net, formats, "plain", values, seed), x, "plain")
    for kernels in FAST:
        for group in (values, values[2:]):
            quick = run(built(net, formats, kernels, group, seed), x, kernels)
            for value in group:
                np.testing.assert_array_equal(quick[value], plain[value], err_msg=f"{kernels} {value}")


@pytest.mark.parametrize("kernels", FAST)
def test_what_is_added_to_something_is_a_product_of_matrices(kernels: Kernels) -> None:
    net = build_net(parse(blocks(32), "net.prototxt"))
    stored = {name: DynamicFixedPoint(8, 7, signed=name in "xp") for name in "xabdpst"}
    formats = residual_formats(stored, dict.fromkeys("ce", DynamicFixedPoint(24, 15)))
    formats["f"] = replace(formats["f"], output=DynamicFixedPoint(8, 7))
    value = net.finals["f"]
    model = built(net, formats, kernels, [value], 3)
    matrices = [node for node in model.model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    # c is added to codes, e to floats: p adds up too few products for integers.
    assert len(matrices) == (0 if kernels == "rounding" else 2)
    x = np.random.default_rng(3).standard_normal((BATCH, 5, SIDE, SIDE)).astype(np.float32) * 4
    plain = run(built(net, formats, "plain", [value], 3), x, "plain")[value]
    assert len(np.unique(plain)) > 100
    np.testing.assert_array_equal(run(model, x, kernels)[value], plain)


def test_nothing_leaves_its_blocks_at_16_bits() -> None:
    net = build_net(parse(blocks(16), "net.prototxt"))
    stored = {name: DynamicFixedPoint(16, 12, signed=name in "xp") for name in "xabdpst"}
    formats = residual_formats(stored, dict.fromkeys("ce", DynamicFixedPoint(20, 15)))
    model = built(net, formats, "rounding", [net.finals["y"]], 0).model
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QuantizeLinear"] == 1  # what is fed
    assert kinds["Round"] == 0
    # Two additions for each of a, b, c, s, p, d, e and t, of which those that saturate are convolutions.
    assert kinds["BatchNormalization"] == 2 * 8 - 3
    assert kinds["Conv"] == 7 + 3


@pytest.mark.parametrize("channels", [16, 20])
@pytest.mark.parametrize("bw", [24, 20])
def test_sums_on_the_grid_of_their_format_are_only_saturated(channels: int, bw: int) -> None:
    """Inputs of twelve bits and weights of eight: sums may leave the format, but are multiples of its step."""
    net = build_net(parse(blocks(channels), "net.prototxt"))
    stored = {name: DynamicFixedPoint(12, 9, signed=name in "xp") for name in "xabdpst"}
    formats = residual_formats(stored, dict.fromkeys("ce", DynamicFixedPoint(bw, 17)))
    values = [net.finals["y"]]
    model = built(net, formats, "rounding", values, 1)
    kinds = Counter(node.op_type for node in model.model.graph.node)
    assert kinds["Round"] == 0
    if channels == 16:
        assert kinds["QuantizeLinear"] == 1  # what is fed
    x = np.random.default_rng(1).standard_normal((BATCH, 5, SIDE, SIDE)).astype(np.float32) * 4
    inside = [value for item in net.layers if item.name in "ce" for value in item.outputs]
    plain = run(built(net, formats, "plain", values + inside, 1), x, "plain")
    ends = [np.abs(plain[value]).max() for value in inside]
    assert max(ends) >= 4.0 if bw == 20 else min(ends) > 4.0  # 20 bits reach to 4
    np.testing.assert_array_equal(run(model, x, "rounding")["y"], plain["y"])
    apart = built(net, formats, "rounding", values + inside, 1)
    for value, array in run(apart, x, "rounding").items():
        np.testing.assert_array_equal(array, plain[value])


def test_probes_tell_an_exact_kernel_from_one_that_saturates() -> None:
    for probe in probes():
        session = Session(probe.model.SerializeToString(), threads=1)
        made = session.run({"x": probe.x}, ["y"])["y"]
        assert np.all(made == made.flat[0])
        if exact_integer_kernels():
            assert made.flat[0] == probe.expected
        # Sums of pairs that saturate in 16 bits would be off by far more than a step.
        assert 0 <= probe.expected <= 255
        assert abs(probe.expected - 128) > 60
        initializers = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in probe.model.graph.initializer}
        offset, weight = int(initializers["x_zero"]), int(initializers["w"].flat[0])
        pair = 2 * 255 * weight
        saturated = np.clip(pair, -32768, 32767) / pair
        by_rows = probe.model.graph.node[0].op_type == "MatMulIntegerToFloat"
        count = initializers["w"].shape[0] if by_rows else initializers["w"][0].size
        total = (count * 255 * weight * saturated - count * offset * weight) / float(initializers["step"])
        assert abs(round(total) + 128 - probe.expected) > 10

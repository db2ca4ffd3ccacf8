"""Layers on integers in the graph against integers in numpy: the same bits, whatever the widths."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ristretto.caffe.net import build_net
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.errors import NetError
from ristretto.graph.build import BuiltNet, Simulation, build
from ristretto.graph.integer_taps import TAP_FIELDS
from ristretto.numerics.arithmetic import Accumulator, Arithmetic, Overflow
from ristretto.numerics.formats import NAMED, ChannelFixedPoint, DynamicFixedPoint, Format, PowerOfTwo
from ristretto.numerics.integer import accumulate, aligned, bias_codes, overflows, requantize, weight_codes
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from ristretto.runtime.session import Session

ROUNDINGS = [Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.TRUNCATE]

Array = NDArray[np.float32]
Objects = NDArray[np.object_]


@dataclass(frozen=True)
class Layer:
    """A layer to be computed: its text, its kind, and the shapes of input and weights."""

    text: str
    shape: tuple[int, ...]
    weights: tuple[int, ...]
    outputs: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    group: int = 1

    @property
    def kind(self) -> str:
        return self.text.split('"')[1]


def spatial(kind: str, c: int, n: int, kernel: int, stride: int, pad: int, dilation: int, group: int) -> Layer:
    fields = f"num_output: {n} kernel_size: {kernel} stride: {stride} pad: {pad} dilation: {dilation} group: {group}"
    text = f'type: "{kind}" convolution_param {{ {fields} }}'
    weights = (n, c // group) if kind == "Convolution" else (c, n // group)
    return Layer(text, (2, c, 7, 6), (*weights, kernel, kernel), n, stride, pad, dilation, group)


def products(inputs: int, outputs: int, transpose: bool = False) -> Layer:
    fields = f"num_output: {outputs} transpose: {str(transpose).lower()}"
    weights = (inputs, outputs) if transpose else (outputs, inputs)
    return Layer(f'type: "InnerProduct" inner_product_param {{ {fields} }}', (3, inputs), weights, outputs)


def exact_sums(layer: Layer, x: Objects, w: Objects) -> Objects:
    """Products and sums on Python's integers."""
    if layer.kind == "InnerProduct":
        return x.dot(w if w.shape[0] == x.shape[1] and "transpose: true" in layer.text else w.T)
    if layer.kind == "Convolution":
        return convolved(layer, x, w)
    return scattered(layer, x, w)


def convolved(layer: Layer, x: Objects, w: Objects) -> Objects:
    p, s, d, k = layer.pad, layer.stride, layer.dilation, w.shape[-1]
    padded = np.zeros((*x.shape[:2], x.shape[2] + 2 * p, x.shape[3] + 2 * p), object)
    padded[:, :, p : p + x.shape[2], p : p + x.shape[3]] = x
    height, width = ((size - d * (k - 1) - 1) // s + 1 for size in padded.shape[2:])
    result = np.zeros((len(x), layer.outputs, height, width), object)
    inputs, outputs = x.shape[1] // layer.group, layer.outputs // layer.group
    for o, i, a, b in product(range(layer.outputs), range(inputs), range(k), range(k)):
        channel = padded[:, o // outputs * inputs + i]
        result[:, o] += w[o, i, a, b] * channel[:, a * d :: s, b * d :: s][:, :height, :width]
    return result


def scattered(layer: Layer, x: Objects, w: Objects) -> Objects:
    p, s, d, k = layer.pad, layer.stride, layer.dilation, w.shape[-1]
    height, width = (s * (size - 1) + d * (k - 1) + 1 for size in x.shape[2:])
    result = np.zeros((len(x), layer.outputs, height, width), object)
    inputs, outputs = x.shape[1] // layer.group, layer.outputs // layer.group
    for i, o, a, b in product(range(x.shape[1]), range(outputs), range(k), range(k)):
        channel = result[:, i // inputs * outputs + o]
        rows, columns = ((size - 1) * s + 1 for size in x.shape[2:])
        channel[:, a * d : a * d + rows : s, b * d : b * d + columns : s] += w[i, o, a, b] * x[:, i]
    return result[:, :, p : height - p, p : width - p]


def built_for(layer: Layer, blobs: tuple[Array, ...], simulation: Simulation, *, diagnose: bool = False) -> BuiltNet:
    dims = " ".join(f"dim: {length}" for length in layer.shape)
    head = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}\n'
    net = build_net(parse(head + f'layer {{ name: "l" bottom: "x" top: "y" {layer.text} }}', "i.prototxt"))
    wanted = [net.finals["y"]]
    return build(net, infer_shapes(net, {}), [(), blobs], outputs=wanted, simulation=simulation, diagnose=diagnose)


def run(built: BuiltNet, x: Array) -> tuple[Array, dict[str, float]]:
    """The output, and the tap."""
    session = Session(built.model.SerializeToString(), threads=1)
    names = list(built.taps["l"].outputs) if built.taps else []
    results = session.run({"x": x}, [*built.fetches.values(), *names])
    tap = dict(zip(TAP_FIELDS, results[names[0]].tolist(), strict=True)) if names else {}
    return results[next(iter(built.fetches.values()))], tap


@dataclass(frozen=True)
class Expected:
    """What integers in numpy give."""

    sums: Objects
    output: Array
    reach: int
    overflows: int
    saturated: int


def expected(layer: Layer, x: Array, blobs: tuple[Array, ...], simulation: Simulation) -> Expected:
    formats, rounding = simulation.formats["l"], simulation.rounding
    assert isinstance(formats.input, DynamicFixedPoint)
    assert isinstance(formats.output, DynamicFixedPoint)
    assert formats.params is not None
    w, lengths = weight_codes(formats.params.quantize(blobs[0], rounding), formats.params)
    if len(lengths) > 1 and (layer.kind == "Deconvolution" or "transpose: true" in layer.text):
        w, finest = aligned(w, lengths)
        lengths = (finest,)
    fls = tuple(formats.input.fl + fl for fl in lengths)
    codes = formats.input.encode(x, rounding).astype(object)
    sums = exact_sums(layer, codes, w.astype(object))
    largest = np.full(x.shape, max(-formats.input.min_code, formats.input.max_code), object)
    reach = exact_sums(layer, largest, abs(w.astype(object)))
    along = (1, -1) + (1,) * (sums.ndim - 2)
    if len(blobs) > 1:
        bias = blobs[1] if formats.bias is None else formats.bias.quantize(blobs[1], rounding)
        added = bias_codes(bias, fls, rounding).astype(object).reshape(along)
        sums, reach = sums + added, reach + abs(added)
    kept = accumulate(sums, simulation.accumulator)
    shifts = [fl - formats.output.fl for fl in fls] * (layer.outputs // len(fls))
    columns = [requantize(kept[:, [o]], shift, formats.output, rounding) for o, shift in enumerate(shifts)]
    output = np.ldexp(np.concatenate(columns, 1).astype(np.float64), -formats.output.fl).astype(np.float32)
    saturated = sum(_saturated(kept[:, o], formats.output, shift) for o, shift in enumerate(shifts))
    return Expected(sums, output, int(reach.max()), overflows(sums, simulation.accumulator.bw), saturated)


def _saturated(sums: Objects, fmt: DynamicFixedPoint, shift: int) -> int:
    """An unsigned format stands for a ReLU as well: what it drops below zero does not count."""
    low, high = (Fraction(code) * Fraction(2) ** shift for code in (fmt.min_code, fmt.max_code))
    below = (sums < low) if fmt.signed else np.zeros(sums.shape, bool)
    return int(np.sum(below | (sums > high)))


def check(
    layer: Layer, x: Array, blobs: tuple[Array, ...], simulation: Simulation
) -> tuple[BuiltNet, dict[str, float]]:
    """Run a layer with and without its tap, and compare with the reference."""
    wanted = expected(layer, x, blobs, simulation)
    np.testing.assert_array_equal(run(built_for(layer, blobs, simulation), x)[0], wanted.output)
    built = built_for(layer, blobs, simulation, diagnose=True)
    output, tap = run(built, x)
    np.testing.assert_array_equal(output, wanted.output)
    assert tap["least_sum"] == wanted.sums.min()
    assert tap["greatest_sum"] == wanted.sums.max()
    assert tap["overflows"] == wanted.overflows
    assert tap["outputs_saturated"] == wanted.saturated
    assert (tap["inputs"], tap["outputs"]) == (x.size, output.size)
    fmt = simulation.formats["l"].input
    assert isinstance(fmt, DynamicFixedPoint)
    assert tap["inputs_saturated"] == np.sum((x < fmt.min) | (x > fmt.max))
    assert built.taps["l"].bits_needed == wanted.reach.bit_length() + 1
    simulated = run(built_for(layer, blobs, Simulation(simulation.formats, simulation.rounding)), x)[0]
    assert tap["differing"] == np.sum(simulated != output)
    assert not (built.taps["l"].proved and tap["differing"])
    return built, tap


LAYERS = [
    spatial("Convolution", 4, 6, 3, 1, 1, 1, 1),
    spatial("Convolution", 4, 4, 3, 2, 0, 1, 4),
    spatial("Convolution", 4, 2, 2, 1, 2, 2, 2),
    spatial("Deconvolution", 4, 6, 3, 2, 1, 1, 2),
    spatial("Deconvolution", 2, 2, 2, 3, 0, 2, 1),
    spatial("Deconvolution", 3, 3, 4, 2, 1, 1, 3),
    products(20, 5),
    products(7, 6, transpose=True),
]

Draw = st.DrawFn


@st.composite
def weight_formats(draw: Draw, layer: Layer) -> Format:
    kind = draw(st.sampled_from(["fixed", "fixed", "channel", "power"]))
    if kind == "power":
        low = draw(st.integers(-12, 4))
        return PowerOfTwo(low, low + draw(st.integers(0, 16)), draw(st.booleans()))
    bw, fl = draw(st.integers(1, 32)), draw(st.integers(-4, 30))
    if kind == "fixed":
        return DynamicFixedPoint(bw, fl)
    shifts = draw(st.lists(st.integers(-2, 2), min_size=layer.weights[0], max_size=layer.weights[0]))
    return ChannelFixedPoint(min(bw, 24), tuple(fl + shift for shift in shifts))


@st.composite
def quantized(draw: Draw) -> tuple[Layer, Array, tuple[Array, ...], Simulation]:
    """A layer with formats that suit its values more or less."""
    layer = draw(st.sampled_from(LAYERS))
    params = draw(weight_formats(layer))
    given_in = DynamicFixedPoint(draw(st.integers(1, 16)), draw(st.integers(-6, 16)), draw(st.booleans()))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.uniform(1.2 * given_in.min, 1.2 * given_in.max, layer.shape).astype(np.float32)
    weights = rng.uniform(1.1 * params.min, 1.1 * params.max, layer.weights).astype(np.float32)
    reach = 6 * max(given_in.max, -given_in.min) * max(params.max, -params.min)
    blobs: tuple[Array, ...] = (weights,)
    bias: Format | None = None
    if draw(st.booleans()):
        blobs = (weights, rng.uniform(-reach, reach, layer.outputs).astype(np.float32))
        bias = DynamicFixedPoint(draw(st.integers(2, 24)), draw(st.integers(-4, 24))) if draw(st.booleans()) else None
    bw = draw(st.integers(1, 24))
    fl = bw - int(np.ceil(np.log2(reach))) + draw(st.integers(-3, 5))
    output = DynamicFixedPoint(bw, max(-60, min(100, fl)), draw(st.booleans()))
    accumulator = Accumulator(draw(st.integers(2, 48)), draw(st.sampled_from(list(Overflow))))
    rounding = draw(st.sampled_from(ROUNDINGS))
    formats = LayerFormats(given_in, output, params, bias)
    text = layer.text[:-1] + f"bias_term: {str(len(blobs) > 1).lower()} }}"
    layer = Layer(text, *(getattr(layer, name) for name in FIELDS))
    return layer, x, blobs, Simulation({"l": formats}, rounding, 0, Arithmetic.INTEGER, accumulator)


FIELDS = ("shape", "weights", "outputs", "stride", "pad", "dilation", "group")


@settings(max_examples=150, deadline=None)
@given(quantized())
def test_equals_integers_in_numpy(case: tuple[Layer, Array, tuple[Array, ...], Simulation]) -> None:
    check(*case)


def simulation(
    in_bw: int,
    w_bw: int,
    accumulator: Accumulator | None = None,
    out: DynamicFixedPoint | None = None,
    rounding: Rounding = Rounding.HALF_EVEN,
) -> Simulation:
    """Codes as they are: no fractional bits."""
    formats = LayerFormats(
        DynamicFixedPoint(in_bw, 0), out or DynamicFixedPoint(24, 0), DynamicFixedPoint(w_bw, 0), None
    )
    return Simulation({"l": formats}, rounding, 0, Arithmetic.INTEGER, accumulator or Accumulator())


def no_bias(layer: Layer) -> Layer:
    text = layer.text[:-1] + "bias_term: false }"
    return Layer(text, *(getattr(layer, name) for name in FIELDS))


@pytest.mark.parametrize("in_bw", [2, 8, 16])
@pytest.mark.parametrize("w_bw", [2, 8, 16, 32])
@pytest.mark.parametrize("number", [0, 3, 6])
def test_operands_at_their_greatest(number: int, in_bw: int, w_bw: int) -> None:
    """Every code the greatest in magnitude, every product of the same sign: where a bound is wrong it shows here."""
    layer = no_bias(LAYERS[number])
    x = np.full(layer.shape, -(2.0 ** (in_bw - 1)), np.float32)
    x.flat[::7] += 1
    weights = np.full(layer.weights, -(2.0 ** (w_bw - 1)), np.float32)
    weights.flat[::3] += 1 if w_bw < 24 else 256
    wide = Accumulator(48, Overflow.REPORT)
    shift = DynamicFixedPoint(24, -max(0, in_bw + w_bw - 16))
    check(layer, x, (weights,), simulation(in_bw, w_bw, wide, shift))


@pytest.mark.parametrize(("in_fl", "w_fl", "out_fl"), [(90, 60, 120), (-90, -32, -116), (120, -60, 40), (80, 60, 20)])
@pytest.mark.parametrize("number", [0, 3, 6])
def test_scales_near_the_ends_of_float32(number: int, in_fl: int, w_fl: int, out_fl: int) -> None:
    """Small sums, and scales whose product float32 cannot hold: the simulation loses what integers keep."""
    layer = no_bias(LAYERS[number])
    rng = np.random.default_rng(9)
    codes = [rng.integers(-7, 8, shape).astype(np.float64) for shape in (layer.shape, layer.weights)]
    x, weights = (np.ldexp(code, -fl).astype(np.float32) for code, fl in zip(codes, (in_fl, w_fl), strict=True))
    formats = LayerFormats(DynamicFixedPoint(4, in_fl), DynamicFixedPoint(12, out_fl), DynamicFixedPoint(4, w_fl), None)
    asked = Simulation({"l": formats}, Rounding.TRUNCATE, arithmetic=Arithmetic.INTEGER)
    built, tap = check(layer, x, (weights,), asked)
    assert built.taps["l"].proved == (in_fl == 120)
    assert tap["differing"] > 0 or in_fl != -90


@pytest.mark.parametrize("overflow", list(Overflow))
def test_an_accumulator_one_bit_short(overflow: Overflow) -> None:
    layer = no_bias(products(20, 5))
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, layer.shape).astype(np.float32)
    x[0] = -128
    weights = rng.integers(-128, 128, layer.weights).astype(np.float32)
    weights[0] = -128
    exact = int(x[0].dot(weights[0]))
    assert exact == 20 << 14
    built, tap = check(layer, x, (weights,), simulation(8, 8, Accumulator(19, overflow)))
    assert built.taps["l"].bits_needed == 20
    assert tap["overflows"] == 1
    got = run(built, x)[0][0, 0]
    assert got == {"saturate": (1 << 18) - 1, "wrap": exact - (1 << 19), "report": exact}[overflow.value]
    assert tap["differing"] == (overflow is not Overflow.REPORT)
    held, tap = check(layer, x, (weights,), simulation(8, 8, Accumulator(20, overflow)))
    assert held.taps["l"].proved
    assert tap["overflows"] == 0


def test_sixteen_bits_differ_from_float32() -> None:
    """The check can fail: float32 sums of such products are rounded, and the count says where that shows."""
    layer = no_bias(LAYERS[0])
    rng = np.random.default_rng(6)
    x = rng.integers(-(2**15), 2**15, layer.shape).astype(np.float32)
    weights = rng.integers(-(2**15), 2**15, layer.weights).astype(np.float32)
    asked = simulation(16, 16, Accumulator(48), DynamicFixedPoint(24, -12), Rounding.TRUNCATE)
    built, tap = check(layer, x, (weights,), asked)
    assert not built.taps["l"].proved
    assert tap["differing"] > 0


def test_most_layers_of_8_bits_are_one_product_and_proved() -> None:
    layer = no_bias(LAYERS[0])
    rng = np.random.default_rng(7)
    x = rng.normal(0, 40, layer.shape).astype(np.float32)
    weights = rng.normal(0, 40, layer.weights).astype(np.float32)
    built, tap = check(layer, x, (weights,), simulation(8, 8, out=DynamicFixedPoint(8, -9)))
    assert built.taps["l"].products == 1
    assert built.taps["l"].proved
    assert tap["differing"] == 0
    assert not any(node.op_type == "ConvTranspose" or list(node.output) == ["simulated"] for node in nodes_of(built))
    assert sum(node.op_type == "Conv" for node in nodes_of(built)) == 1


def nodes_of(built: BuiltNet) -> list[object]:
    return list(built.model.graph.node)


def test_two_bottoms_have_the_same_weights_and_are_counted_once() -> None:
    layer = no_bias(LAYERS[0])
    rng = np.random.default_rng(12)
    x, y = (rng.integers(-160, 160, layer.shape).astype(np.float32) for _ in range(2))
    weights = rng.integers(-99, 99, layer.weights).astype(np.float32)
    dims = " ".join(f"dim: {length}" for length in layer.shape)
    head = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
        for name in "xy"
    )
    text = f'layer {{ name: "l" bottom: "x" bottom: "y" top: "a" top: "b" {layer.text} }}'
    net = build_net(parse(head + text, "two.prototxt"))
    asked = simulation(8, 8, out=DynamicFixedPoint(8, -9))
    wanted = [net.finals[blob] for blob in "ab"]
    built = build(
        net, infer_shapes(net, {}), [(), (), (weights,)], outputs=wanted, simulation=asked, diagnose=True
    )  # fmt: skip
    taps = built.taps["l"].outputs
    results = Session(built.model.SerializeToString(), threads=1).run({"x": x, "y": y}, [*wanted, *taps])
    both = [expected(layer, value, (weights,), asked) for value in (x, y)]
    for value, one in zip(wanted, both, strict=True):
        np.testing.assert_array_equal(results[value], one.output)
    counted = dict(zip(TAP_FIELDS, np.sum([results[tap] for tap in taps], axis=0).tolist(), strict=True))
    assert (counted["inputs"], counted["outputs"]) == (2 * x.size, sum(one.output.size for one in both))
    assert counted["inputs_saturated"] == sum(np.sum((value < -128) | (value > 127)) for value in (x, y))
    assert counted["outputs_saturated"] == sum(one.saturated for one in both)
    assert sum(len(tensor.dims) == 4 for tensor in built.model.graph.initializer) == 1


def test_the_sqnr_of_the_rounding() -> None:
    layer = no_bias(products(20, 5))
    rng = np.random.default_rng(8)
    x, weights = (rng.integers(-100, 100, shape).astype(np.float32) for shape in (layer.shape, layer.weights))
    _, tap = check(layer, x, (weights,), simulation(8, 8, out=DynamicFixedPoint(8, -8)))
    exact = x.astype(np.float64) @ weights.T
    rounded = DynamicFixedPoint(8, -8).quantize(exact)
    assert tap["noise"] / tap["signal"] == pytest.approx(np.sum((exact - rounded) ** 2) / np.sum(exact**2), rel=1e-12)


def test_stochastic_rounding_rounds_exact_sums_to_a_neighbour() -> None:
    layer = no_bias(products(3, 1))
    x, weights = np.tile(np.float32([[1000, 1, 1]]), (3, 1)), np.float32([[1000, 30, 7]])
    asked = simulation(12, 12, out=DynamicFixedPoint(24, -6), rounding=Rounding.STOCHASTIC)
    layer = Layer(layer.text, (30000, 3), *(getattr(layer, name) for name in FIELDS[1:]))
    built = built_for(layer, (weights,), asked, diagnose=True)
    output, tap = run(built, np.tile(x, (10000, 1)))
    assert set(np.unique(output)) == {1000000.0, 1000064.0}
    assert abs(output.mean() - 1000037) < 0.9  # five standard errors
    assert not built.taps["l"].compared
    assert tap["differing"] == 0


def complaint(formats: LayerFormats) -> str:
    layer = no_bias(products(4, 2))
    with pytest.raises(NetError) as caught:
        built_for(layer, (np.ones((2, 4), np.float32),), Simulation({"l": formats}, arithmetic=Arithmetic.INTEGER))
    assert caught.value.layer == "l"
    assert caught.value.cure
    return caught.value.what


BYTE = DynamicFixedPoint(8, 4)


@pytest.mark.parametrize(
    ("formats", "words"),
    [
        (LayerFormats(NAMED["half"], BYTE, BYTE), "its input is in floating point, half"),
        (LayerFormats(BYTE, BYTE, NAMED["bfloat16"]), "its weights are in floating point, bfloat16"),
        (LayerFormats(BYTE, BYTE, BYTE, NAMED["half"]), "its bias is in floating point, half"),
        (LayerFormats(None, BYTE, BYTE), "its input is float"),
        (LayerFormats(BYTE, None, BYTE), "its output is float"),
        (LayerFormats(BYTE, BYTE, None), "its weights are float"),
        (LayerFormats(DynamicFixedPoint(32, 16), BYTE, BYTE), "its input is 32 bits wide, <32, 16>, and blobs hold 24"),
        (LayerFormats(BYTE, DynamicFixedPoint(25, 16), BYTE), "its output is 25 bits wide"),
        (LayerFormats(BYTE, BYTE, PowerOfTwo(-60, 0)), "have more than 52 bits as integers"),
        (LayerFormats(DynamicFixedPoint(24, 8), BYTE, PowerOfTwo(-40, 0)), "may need 67 bits"),
        (LayerFormats(DynamicFixedPoint(24, 8), BYTE, PowerOfTwo(-30, 0)), "may need 57 bits"),
    ],
)
def test_what_is_no_integer(formats: LayerFormats, words: str) -> None:
    assert words in complaint(formats)


def test_a_layer_without_formats_stays_float() -> None:
    layer = no_bias(products(4, 2))
    blobs = (np.full((2, 4), 0.3, np.float32),)
    integer = built_for(layer, blobs, Simulation(arithmetic=Arithmetic.INTEGER), diagnose=True)
    assert integer.model == built_for(layer, blobs, Simulation()).model
    assert not integer.taps

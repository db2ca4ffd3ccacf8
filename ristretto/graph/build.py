"""A typed net, its weights and its number formats as one ONNX model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

import ristretto.graph.layers  # noqa: F401  (registers the emitters)
from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.parameters import Blobs
from ristretto.caffe.shapes import FED_TYPES, NetShapes
from ristretto.errors import NetError
from ristretto.graph.double import in_double
from ristretto.graph.fake_quant import emit_quantize
from ristretto.graph.integer import Linear, LinearLayer, linear_layer
from ristretto.graph.integer_plain import emit_rounded_once
from ristretto.graph.integer_taps import LayerTap
from ristretto.graph.kernels import Kernels, emit_fixed_point, with_kernels
from ristretto.graph.known import KnownGrids
from ristretto.graph.marked import MarkedLinear, Marks, float_layer
from ristretto.graph.nodes import OPSET, NodeList
from ristretto.graph.registry import Emitter, LayerContext, emitted_types, emitter_of
from ristretto.graph.rounded_blobs import rounded_blobs
from ristretto.numerics.arithmetic import Accumulator, Arithmetic
from ristretto.numerics.formats import DynamicFixedPoint, Format
from ristretto.numerics.layer_formats import FLOAT_LAYER, LayerFormats
from ristretto.numerics.rounding import Rounding

Measure = Literal["squared_error", "saturated"]

MAX_BYTES = (1 << 31) - (1 << 20)

ERROR_SAMPLES = 65_536
"""About how many elements of each image the error of a rounding is measured on; with 8192 some lengths were luck."""

SHARES_MEMORY = frozenset({"Split", "Reshape", "Flatten"})
"""Layers whose top is the bottom's memory in Caffe, so that rounding the one in place rounds the other."""


def runnable_types() -> frozenset[str]:
    """The layer types that can be lowered, those of plug-ins with them."""
    return emitted_types()


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a net is to be simulated.

    Attributes:
        formats: the number formats of the quantized layers, by layer name.
        rounding: how values are rounded where a layer does not say so itself.
        seed: where random numbers are drawn (stochastic rounding, dropout in TRAIN) they follow from it.
        arithmetic: how sums and products are computed.
        accumulator: where integer arithmetic adds up.
    """

    formats: Mapping[str, LayerFormats] = field(default_factory=dict)
    rounding: Rounding = Rounding.HALF_EVEN
    seed: int = 0
    arithmetic: Arithmetic = Arithmetic.FLOAT32
    accumulator: Accumulator = field(default_factory=Accumulator)


@dataclass(frozen=True, slots=True)
class Section:
    """Some layers of a net, one after the other: what the layers before them made is fed, ``live_values`` of it.

    Attributes:
        start: number of the first layer.
        stop: number of the layer after the last; None goes on to the end.
    """

    start: int = 0
    stop: int | None = None


def live_values(net: NetSpec, start: int, wanted: Iterable[str] = ()) -> tuple[str, ...]:
    """The values made before a layer that it or later layers read, or that are wanted in the end, in net order."""
    read = {value for layer in net.layers[start:] for value in layer.inputs} | set(wanted)
    return tuple(value for layer in net.layers[:start] for value in layer.outputs if value in read)


@dataclass(frozen=True, slots=True)
class BuiltNet:
    """An ONNX model and what to ask it for.

    Attributes:
        model: the model.
        inputs: for each blob to feed the name of the model's input; in a section of a net, for each value.
        fetches: for each requested value the model's output that holds it.
        extremes: for each tapped value the model's outputs that hold its least and its greatest element.
        errors: for each rounding asked about the model's output that holds what it loses.
        taps: for each layer computed on integers what it needs and where the model says what happened.
        double: whether the net computes in float64.
    """

    model: onnx.ModelProto
    inputs: dict[str, str]
    fetches: dict[str, str]
    extremes: dict[str, tuple[str, str]]
    errors: dict[tuple[str, Format], str] = field(default_factory=dict)
    taps: dict[str, LayerTap] = field(default_factory=dict)
    double: bool = False


def build(
    net: NetSpec,
    shapes: NetShapes,
    weights: Sequence[Blobs],
    *,
    outputs: Iterable[str],
    extremes: Iterable[str] = (),
    errors: Iterable[tuple[str, Format]] = (),
    measure: Measure = "squared_error",
    simulation: Simulation | None = None,
    diagnose: bool = False,
    section: Section | None = None,
    kernels: Kernels = "plain",
    marks: Marks | None = None,
) -> BuiltNet:
    """Lower a net to ONNX.

    Args:
        net: the net of one phase.
        shapes: its shapes.
        weights: the blobs of each layer, float, as ``fit_weights`` gives them.
        outputs: the values whose content after the forward pass is wanted.
        extremes: the values whose least and greatest element is wanted (for a float net: where a value is made).
        errors: values and formats; what rounding the one to the other would lose is wanted.
        measure: how that is measured: the sum of squares of what changes, or the share of values out of range.
        simulation: formats and rounding; none for the float net.
        diagnose: whether to count what integer arithmetic does in the layers that the outputs need.
        section: which layers to lower; none for all of them.
        kernels: "plain" nodes that any runtime knows; or faster ones that compute the same as long as no value is NaN,
            of those that are exact on this machine.
        marks: for a model that others run: how roundings are written, and where to note what is known of the net.

    Raises:
        NetError: a layer can be read and not run.
    """
    builder = _Builder(net, shapes, weights, simulation or Simulation(), diagnose, section or Section())
    builder.fast = kernels != "plain"
    builder.marks = marks
    builder.emit_layers()
    fetches = {value: builder.fetch(value) for value in outputs}
    taps = {value: builder.extremes(value) for value in extremes}
    lost = {(value, fmt): builder.error(value, fmt, measure) for value, fmt in errors}
    wanted = [*fetches.values(), *(name for pair in taps.values() for name in pair), *lost.values()]
    counted = builder.counted(wanted)
    if builder.fast:
        with_kernels(builder.nodes, wanted, kernels, shapes.values)
    if marks is not None:
        marks.write(builder.nodes, wanted, marks)
    doubles = [name for tap in counted.values() for name in tap.outputs]
    model, inputs = builder.model(list(dict.fromkeys(wanted)), doubles)
    if builder.double:
        model = in_double(model)
    return BuiltNet(model, inputs, fetches, taps, lost, counted, builder.double)


class _Builder:
    """Walks the layers in order and keeps, for every value, the ONNX name that holds it at present."""

    def __init__(
        self,
        net: NetSpec,
        shapes: NetShapes,
        weights: Sequence[Blobs],
        simulation: Simulation,
        diagnose: bool,
        section: Section,
    ) -> None:
        self.net = net
        self.shapes = shapes
        self.weights = weights
        self.simulation = simulation
        self.section = section
        self.rounded = 0
        self.fast = False
        self.marks: Marks | None = None
        self.taps: dict[str, LayerTap] | None = {} if diagnose else None
        self.double = simulation.arithmetic is Arithmetic.FLOAT64
        self.nodes = NodeList(double=self.double)
        self.current: dict[str, str] = {}
        self.memory: dict[str, list[str]] = {}
        self.fed: dict[str, str] = {}
        for layer in net.layers:
            _check_names(layer)
            for value in layer.outputs:
                self.nodes.reserve(value)

    def emit_layers(self) -> None:
        for number, layer in enumerate(self.net.layers[: self.section.stop]):
            self.nodes.enter(layer.name)
            self.rounded = 104_729 * number
            if number < self.section.start:
                for value in layer.outputs:
                    self._feed(value, value)
                if layer.type in SHARES_MEMORY:
                    self._share_memory(layer)
            elif layer.type in FED_TYPES:
                for value, blob in zip(layer.outputs, layer.tops, strict=True):
                    self._feed(value, blob)
            else:
                self._emit(number, layer)

    def _feed(self, value: str, blob: str) -> None:
        self.fed[value] = blob
        self.current[value] = value
        self.memory[value] = [value]

    def _emit(self, number: int, layer: LayerSpec) -> None:
        emitter = emitter_of(layer.type)
        if emitter is None:
            what = f"layers of type '{layer.type}' can be edited but not run"
            raise layer.view.error(what, field="type", cure="take it out for this phase, or run another net")
        formats = self.simulation.formats.get(layer.name, FLOAT_LAYER)
        integer = self._linear(number, layer, formats)
        own = dict(self.current)
        if formats.input is not None:
            for value in dict.fromkeys(layer.inputs):
                if formats.in_place:
                    self._round_in_place(value, formats.input, layer, formats)
                else:
                    own[value] = self._quantize(self.current[value], formats.input, layer, formats)
        inputs = self.current if formats.in_place else own
        first_node = len(self.nodes.nodes)
        context = LayerContext(
            layer=layer,
            inputs=tuple(inputs[value] for value in layer.inputs),
            input_shapes=tuple(self.shapes.values[value] for value in layer.inputs),
            output_shapes=tuple(self.shapes.values[value] for value in layer.outputs),
            blobs=self._rounded_weights(number, formats),
            nodes=self.nodes,
            seed=self.simulation.seed + 7919 * number + 1,
            formats=formats,
            rounding=formats.rounding or self.simulation.rounding,
            integer=integer,
        )
        made, once = None, None
        if self.simulation.arithmetic is Arithmetic.INTEGER and integer is None:
            made = self._exact_in_float32(context, emitter)
            once = emit_rounded_once(context, emitter) if made is None else None
        made = made or (list(emitter(context)) if once is None else once)
        if formats.output is not None and integer is None and once is None:
            # The second top of a Pooling holds places, not values.
            values = made[:1] if layer.type == "Pooling" else made
            made[: len(values)] = [self._quantize(name, formats.output, layer, formats) for name in values]
        for position, value in enumerate(layer.outputs):
            self._bind(value, made[position], made[:position], first_node)
            self.memory[value] = [value]
        if layer.type in SHARES_MEMORY:
            self._share_memory(layer)

    def _exact_in_float32(self, context: LayerContext, emitter: Emitter) -> list[str] | None:
        """The tops of a plain layer that float32 computes as float64 would; None, and no nodes, where it may not.

        It is asked where there are marks: between them kernels for eight bits may take the layer.
        """
        if self.marks is None or context.formats.output is None:
            return None
        known = KnownGrids(self.nodes, self.marks.grids)
        for node in self.nodes.nodes:
            known.visit(node)
        first = len(self.nodes.nodes)
        made = list(emitter(context))
        if known.exact(self.nodes.nodes[first:], made):
            return made
        del self.nodes.nodes[first:]
        return None

    def _linear(self, number: int, layer: LayerSpec, formats: LayerFormats) -> Linear | None:
        """How a layer of products and sums is computed where not as plain floats."""
        if self.marks is not None and self.simulation.arithmetic is Arithmetic.FLOAT32:
            return float_layer(layer, formats)
        integer = self._integer(number, layer, formats)
        return integer if integer is None or self.marks is None else MarkedLinear(integer, self.marks)

    def _integer(self, number: int, layer: LayerSpec, formats: LayerFormats) -> LinearLayer | None:
        """How a layer is computed on integers; None where it is not."""
        if self.simulation.arithmetic is not Arithmetic.INTEGER:
            return None
        return linear_layer(
            layer,
            formats,
            self.simulation.accumulator,
            formats.rounding or self.simulation.rounding,
            self.simulation.seed + 7919 * number + 1,
            unrounded=tuple(dict.fromkeys(self.current[value] for value in layer.inputs)),
            taps=self.taps,
        )

    def _bind(self, value: str, name: str, earlier: Sequence[str], first_node: int) -> None:
        """Let a value have its own name in the model, at the cost of an Identity where a name is passed on."""
        fresh = any(name in node.output for node in self.nodes.nodes[first_node:])
        if fresh and name not in earlier:
            self.nodes.rename(name, value, first_node)
        else:
            self.nodes.nodes.append(helper.make_node("Identity", [name], [value], name=value))
        self.current[value] = value

    def _share_memory(self, layer: LayerSpec) -> None:
        group = self.memory[layer.inputs[0]]
        for value in layer.outputs:
            group.append(value)
            self.memory[value] = group

    def _round_in_place(self, value: str, fmt: Format, layer: LayerSpec, formats: LayerFormats) -> None:
        """Round a bottom where it lies: later readers see it rounded, and so do all blobs in the same memory."""
        for sharer in self.memory[value]:
            self.current[sharer] = self._quantize(self.current[sharer], fmt, layer, formats)

    def _quantize(self, name: str, fmt: Format, layer: LayerSpec, formats: LayerFormats) -> str:
        rounding = formats.rounding or self.simulation.rounding
        marked = self.fast or self.marks is not None
        if marked and isinstance(fmt, DynamicFixedPoint) and rounding is Rounding.HALF_EVEN:
            return emit_fixed_point(self.nodes, name, fmt)
        self.rounded += 1
        seed = self.simulation.seed + self.rounded
        return emit_quantize(self.nodes, name, fmt, rounding, seed)

    def _rounded_weights(self, number: int, formats: LayerFormats) -> Blobs:
        rounding = formats.rounding or self.simulation.rounding
        rng = np.random.default_rng([self.simulation.seed, number])
        blobs = self.weights[number]
        if self.double:
            blobs = tuple(cast(NDArray[np.float32], blob.astype(np.float64)) for blob in blobs)
        return rounded_blobs(self.net.layers[number], blobs, formats, rounding, rng)

    def fetch(self, value: str) -> str:
        """The name of a model output that holds a value at the end of the forward pass."""
        self.nodes.enter("")
        name = self.current[value]
        return self.nodes.op("Identity", name) if name in self.fed else name

    def extremes(self, value: str) -> tuple[str, str]:
        """The names of two scalar outputs: the least and the greatest element of a value as it was made."""
        self.nodes.enter(f"extremes/{value}")
        flat = self.nodes.op("Reshape", value, self.nodes.ints([-1]))
        return (
            self.nodes.op("ReduceMin", flat, keepdims=0),
            self.nodes.op("ReduceMax", flat, keepdims=0),
        )

    def error(self, value: str, fmt: Format, measure: Measure) -> str:
        """The name of a scalar output: what rounding a value as it was made loses, over a sample.

        The sample is every so manieth element of large values, all of small ones; the step is odd, so that it does not
        keep to some columns of an image.
        """
        self.nodes.enter(f"errors/{value}")
        shape = self.shapes.values[value]
        step = math.prod(shape[1:]) // ERROR_SAMPLES | 1
        flat = self.nodes.op("Reshape", value, self.nodes.ints([-1]))
        if step > 1:
            ends = (self.nodes.ints([number]) for number in (0, np.iinfo(np.int64).max, 0, step))
            flat = self.nodes.op("Slice", flat, *ends)
        if measure == "saturated":
            kept = self.nodes.op("Clip", flat, self.nodes.floats(fmt.min), self.nodes.floats(fmt.max))
            beyond = self.nodes.op("Not", self.nodes.op("Equal", flat, kept))
            return self.nodes.op("ReduceMean", self.nodes.op("Cast", beyond, to=onnx.TensorProto.FLOAT), keepdims=0)
        rounded = emit_quantize(self.nodes, flat, fmt, Rounding.HALF_EVEN)
        return self.nodes.op("ReduceSumSquare", self.nodes.op("Sub", flat, rounded), keepdims=0)

    def counted(self, wanted: Iterable[str]) -> dict[str, LayerTap]:
        """The taps of the layers that the wanted values need."""
        _, needed = _needed(self.nodes.nodes, wanted)
        made = {layer.name: layer.outputs for layer in self.net.layers}
        return {name: tap for name, tap in (self.taps or {}).items() if needed.intersection(made[name])}

    def model(self, wanted: list[str], doubles: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, str]]:
        """The finished model, without what no wanted output, float32 or float64, needs."""
        nodes, needed = _needed(self.nodes.nodes, [*wanted, *doubles])
        initializers = [tensor for tensor in self.nodes.initializers if tensor.name in needed]
        inputs = {blob: value for value, blob in self.fed.items() if value in needed}
        if sum(len(tensor.raw_data) for tensor in initializers) > MAX_BYTES:
            what = "the net has more than 2 GB of weights at these input shapes, which no ONNX model can hold"
            raise NetError(what, file=self.net.file, cure="are the inputs larger than the net was made for?")
        graph = helper.make_graph(
            nodes,
            self.net.name.encode(errors="replace").decode() or "net",
            [_value_info(value, self.shapes.values[value]) for value in inputs.values()],
            [
                *(_value_info(name, None) for name in wanted),
                *(_value_info(name, None, onnx.TensorProto.DOUBLE) for name in doubles),
            ],
            initializers,
        )
        opset = OPSET if self.marks is None else self.marks.opset
        model = helper.make_model(graph, opset_imports=_opsets(nodes, opset), producer_name="ristretto")
        model.ir_version = 8 if opset == OPSET else 10
        return model, inputs


def _check_names(layer: LayerSpec) -> None:
    """Refuse what no ONNX model can hold: a prototxt may have names that are no UTF-8."""
    for field_name, texts in (("name", (layer.name,)), ("top", layer.tops)):
        if any("\udc80" <= char <= "\udcff" for text in texts for char in text):
            what = f"the {field_name} is no UTF-8"
            raise layer.view.error(what, field=field_name, cure="save the prototxt as UTF-8")


def _needed(nodes: Sequence[onnx.NodeProto], wanted: Iterable[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that the wanted values need, in order, and the names of all values they touch."""
    needed = set(wanted)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    needed.update(name for inner in attribute.g.node for name in inner.input)
    return kept[::-1], needed


def _opsets(nodes: Iterable[onnx.NodeProto], opset: int) -> list[onnx.OperatorSetIdProto]:
    others = sorted({node.domain for node in nodes if node.domain})
    return [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in others)]


def _value_info(name: str, shape: Sequence[int] | None, element: int = onnx.TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)

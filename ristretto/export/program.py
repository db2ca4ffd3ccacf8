"""A quantized net as a list of integer operations on named values, each with the grid that its codes lie on.

What the prototxt leaves to the reader is spelled out: where an input is brought from one format to another there is a
step for that, and a layer without formats of its own has those that follow from its inputs. A layer whose results
float32 holds exactly computes on integers as it is. One that only adds up or averages, and whose readers all round to
one format, is rounded to that format at once; ``Program.completed`` names such layers, for they have to be compared.
Everything else stays float, and says why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.parameters import Blobs
from ristretto.caffe.shapes import FED_TYPES, NetShapes
from ristretto.errors import NetError
from ristretto.export.linear import linear_step
from ristretto.export.plain import PlainResult, has_integer_form, keeps_order, plain_result
from ristretto.export.tensors import Tensor
from ristretto.graph.build import SHARES_MEMORY, Simulation
from ristretto.graph.grids import Grid, grid_of
from ristretto.graph.integer import linear_layer
from ristretto.graph.rounded_blobs import rounded_blobs
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.integer import bits_between, round_shift
from ristretto.numerics.layer_formats import FLOAT_LAYER, ROLES, LayerFormats
from ristretto.numerics.rounding import Rounding


@dataclass(frozen=True, slots=True)
class Value:
    """What flows between steps.

    Attributes:
        name: unique; that of a value of the net, or ``value>layer`` for one brought to a layer's input format.
        blob: the blob that holds it in Caffe.
        source: the net's value that it is, or is rounded from.
        grid: where its codes lie; None for floats.
        fmt: how its codes are stored; None for floats.
    """

    name: str
    blob: str
    source: str
    grid: Grid | None = None
    fmt: DynamicFixedPoint | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One operation.

    Attributes:
        name: the layer's, or ``value>layer`` for a step in front of one.
        type: the layer's type in the prototxt; "" for a step that is no layer.
        op: what is computed (docs/hardware.md).
        inputs, outputs: names of values.
        fields: the operation's parameters, as the manifest has them.
        tensors: its integers, by role.
    """

    name: str
    type: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Program:
    """A net as steps.

    Attributes:
        steps: in an order in which they can be computed.
        values: by name.
        fed: the values that come from outside.
        completed: the formats given to layers that have none, by layer.
        between: the net's values that are rounded only because of that, and the layer.
        unproved: those of them that are not proved to compute the same as before whatever the images.
    """

    steps: tuple[Step, ...]
    values: Mapping[str, Value]
    fed: tuple[str, ...]
    completed: Mapping[str, LayerFormats]
    between: Mapping[str, str]
    unproved: tuple[str, ...]


def make_program(
    net: NetSpec,
    shapes: NetShapes,
    blobs: Sequence[Blobs],
    simulation: Simulation,
    stay_float: Collection[str] = (),
) -> Program:
    """Write a net as integer operations.

    Args:
        net: the net.
        shapes: its shapes.
        blobs: the float weights of each layer.
        simulation: its formats, the rounding and the accumulator.
        stay_float: layers that are not completed.

    Raises:
        NetError: a layer has formats that are no integers, or rounds stochastically.
    """
    builder = _Builder(net, shapes, blobs, simulation, stay_float)
    for number, layer in enumerate(net.layers):
        builder.add(number, layer)
    return builder.program()


class _Builder:
    """Walks the layers in order and keeps, for each value of the net, the value of the program that holds it."""

    def __init__(
        self,
        net: NetSpec,
        shapes: NetShapes,
        blobs: Sequence[Blobs],
        simulation: Simulation,
        stay_float: Collection[str],
    ) -> None:
        self.net = net
        self.shapes = shapes
        self.blobs = blobs
        self.simulation = simulation
        self.stay_float = stay_float
        self.steps: list[Step] = []
        self.values: dict[str, Value] = {}
        self.fed: list[str] = []
        self.current: dict[str, str] = {}
        self.memory: dict[str, list[str]] = {}
        self.completed: dict[str, LayerFormats] = {}
        self.between: dict[str, str] = {}
        self.unproved: list[str] = []

    def add(self, number: int, layer: LayerSpec) -> None:
        """Append a layer's steps."""
        if layer.type in FED_TYPES:
            for value, blob in zip(layer.outputs, layer.tops, strict=True):
                self._bind(layer, value, Value(value, blob, value))
                self.fed.append(value)
            return
        formats = self.simulation.formats.get(layer.name, FLOAT_LAYER)
        rounding = formats.rounding or self.simulation.rounding
        quantized = any(formats.at(role) is not None for role in ROLES)
        if quantized and rounding is Rounding.STOCHASTIC:
            what = "stochastic rounding cannot be exported: it draws, so that no vector is the right one"
            raise layer.view.error(what, cure="choose another rounding", field="quantization_param")
        linear = linear_layer(layer, formats, self.simulation.accumulator, rounding, 0)
        inputs = self._read(layer, formats, rounding)
        if linear is not None:
            made = linear_step(
                linear, formats.bias, self._shapes_of(layer), self._rounded(number, layer, formats, rounding)
            )
            for value in layer.outputs:
                self._bind(layer, value, self._value(layer, value, made.grid, linear.output))
            self._step(layer, made.op, inputs, made.fields, made.tensors)
        else:
            self._add_plain(number, layer, formats, rounding, inputs)
        if layer.type in SHARES_MEMORY:
            group = self.memory[layer.inputs[0]]
            for value in layer.outputs:
                group.append(value)
                self.memory[value] = group

    def program(self) -> Program:
        """All steps but those that only bring a value to a format in which nobody reads it."""
        read = {name for step in self.steps for name in step.inputs}
        dropped = {
            step.name for step in self.steps if step.op in ("quantize", "requantize") and step.outputs[0] not in read
        }
        steps = tuple(step for step in self.steps if step.type or step.name not in dropped)
        values = {name: value for name, value in self.values.items() if name not in dropped}
        return Program(steps, values, tuple(self.fed), self.completed, self.between, tuple(self.unproved))

    def _read(self, layer: LayerSpec, formats: LayerFormats, rounding: Rounding) -> tuple[str, ...]:
        """The values that a layer reads, brought to its input format if it has one."""
        names = dict(self.current)
        fmt = formats.input
        if isinstance(fmt, DynamicFixedPoint):
            for value in dict.fromkeys(layer.inputs):
                sharers = self.memory[value] if formats.in_place else [value]
                for sharer in sharers:
                    names[sharer] = self._brought(self.current[sharer], fmt, layer, rounding)
                    if formats.in_place:
                        self.current[sharer] = names[sharer]
        return tuple(names[value] for value in layer.inputs)

    def _brought(self, name: str, fmt: DynamicFixedPoint, layer: LayerSpec, rounding: Rounding) -> str:
        """A value in a format: itself where its codes stay as they are."""
        held = self.values[name]
        if held.grid is not None and held.grid.fl == fmt.fl and held.grid.fits(fmt):
            return name
        brought = f"{name}>{layer.name}"
        count = 1
        while brought in self.values:
            count += 1
            brought = f"{name}>{layer.name}#{count}"
        grid = grid_of(fmt) if held.grid is None else rounded_grid(held.grid, fmt, rounding)
        self.values[brought] = Value(brought, held.blob, held.source, grid, fmt)
        shift = None if held.grid is None else held.grid.fl - fmt.fl
        fields = {**({} if shift is None else {"shift": shift}), **_ends(fmt, rounding)}
        op = "quantize" if held.grid is None else "requantize"
        self.steps.append(Step(brought, "", op, (name,), (brought,), fields))
        return brought

    def _add_plain(
        self, number: int, layer: LayerSpec, formats: LayerFormats, rounding: Rounding, inputs: tuple[str, ...]
    ) -> None:
        grids = [self.values[name].grid for name in inputs]
        known = [grid for grid in grids if grid is not None]
        result: PlainResult | str = "what it reads is float"
        if not has_integer_form(layer):
            result = f"layers of type {layer.type} have no integer form"
        elif known and len(known) == len(grids):
            result = plain_result(layer, self._shapes_of(layer), known)
        fmt = formats.output if isinstance(formats.output, DynamicFixedPoint) else None
        if isinstance(result, PlainResult) and formats.output is None and not result.exact:
            formats, rounding = self._completed(layer, formats, rounding)
            fmt = formats.output if isinstance(formats.output, DynamicFixedPoint) else None
            if fmt is None:
                result = "its results are no multiples of a power of two, or may need more than 24 bits"
            elif not result.proved:
                self.unproved.append(layer.name)
        if isinstance(result, str):
            self._add_float(number, layer, formats, rounding, inputs, result)
            return
        for position, value in enumerate(layer.outputs):
            if position and result.op == "max_pool":  # the places of the maxima
                self._bind(layer, value, self._value(layer, value, None, None))
                continue
            grid, kept = result.grids[position], self.values[inputs[0]].fmt
            if fmt is not None:
                grid, kept = rounded_grid(grid, fmt, rounding), fmt
            elif kept is None or len(inputs) > 1 or grid.fl != kept.fl or not grid.fits(kept):
                kept = format_for(grid)
            self._bind(layer, value, self._value(layer, value, grid, kept))
        fields: dict[str, Any] = dict(result.fields)
        if fmt is not None:
            fields |= {"shift": result.grids[0].fl - fmt.fl, **_ends(fmt, rounding)}
        self._step(layer, result.op, inputs, fields, {})

    def _completed(self, layer: LayerSpec, formats: LayerFormats, rounding: Rounding) -> tuple[LayerFormats, Rounding]:
        """A layer with the format in which all its readers read it as its output's; as it was where they differ."""
        if layer.name in self.stay_float or len(layer.outputs) != 1:
            return formats, rounding
        reached = {layer.outputs[0]}
        found: set[tuple[DynamicFixedPoint, Rounding]] = set()
        for reader in self.net.layers[self.net.layers.index(layer) + 1 :]:
            if not reached.intersection(reader.inputs):
                continue
            own = self.simulation.formats.get(reader.name, FLOAT_LAYER)
            if isinstance(own.input, DynamicFixedPoint):
                found.add((own.input, own.rounding or self.simulation.rounding))
            elif own.output is None and keeps_order(reader):
                reached.update(reader.outputs)
            else:
                return formats, rounding
        outputs = {self.net.finals[blob] for blob in self.net.outputs}
        if len(found) != 1 or reached & outputs:
            return formats, rounding
        fmt, rounding = next(iter(found))
        self.between.update(dict.fromkeys(sorted(reached), layer.name))
        self.completed[layer.name] = replace(formats, output=fmt, rounding=rounding, in_place=False)
        return self.completed[layer.name], rounding

    def _add_float(
        self,
        number: int,
        layer: LayerSpec,
        formats: LayerFormats,
        rounding: Rounding,
        inputs: tuple[str, ...],
        reason: str,
    ) -> None:
        """A layer that is computed in float; its result may be rounded to a format all the same."""
        fmt = formats.output if isinstance(formats.output, DynamicFixedPoint) else None
        for position, value in enumerate(layer.outputs):
            rounded = fmt is not None and not (position and layer.type == "Pooling")
            grid = grid_of(fmt) if fmt is not None and rounded else None
            self._bind(layer, value, self._value(layer, value, grid, fmt if rounded else None))
        fields: dict[str, Any] = {"reason": reason}
        if fmt is not None:
            fields |= _ends(fmt, rounding)
        tensors = {
            f"blob{place}": Tensor(np.asarray(blob, np.float32), 0, True, "")
            for place, blob in enumerate(self._rounded(number, layer, formats, rounding))
        }
        self._step(layer, "float", inputs, fields, tensors)

    def _rounded(self, number: int, layer: LayerSpec, formats: LayerFormats, rounding: Rounding) -> Blobs:
        return rounded_blobs(layer, self.blobs[number], formats, rounding, np.random.default_rng(0))

    def _shapes_of(self, layer: LayerSpec) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
        values = self.shapes.values
        return tuple(values[name] for name in layer.inputs), tuple(values[name] for name in layer.outputs)

    def _value(self, layer: LayerSpec, value: str, grid: Grid | None, fmt: DynamicFixedPoint | None) -> Value:
        return Value(value, layer.tops[layer.outputs.index(value)], value, grid, fmt)

    def _bind(self, layer: LayerSpec, value: str, held: Value) -> None:
        if value in self.values:
            what = f"its top '{held.blob}' cannot be told from another value, '{value}'"
            raise NetError(what, layer=layer.name, file=self.net.file, cure="give it another name")
        self.values[value] = held
        self.current[value] = value
        self.memory[value] = [value]

    def _step(
        self,
        layer: LayerSpec,
        op: str,
        inputs: tuple[str, ...],
        fields: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
    ) -> None:
        self.steps.append(Step(layer.name, layer.type, op, inputs, layer.outputs, fields, tensors))


def rounded_grid(grid: Grid, fmt: DynamicFixedPoint, rounding: Rounding) -> Grid:
    """The codes that values of a grid may have in a format: rounding keeps their order, so that the ends tell."""
    ends = round_shift(np.array([grid.low, grid.high], dtype=object), grid.fl - fmt.fl, rounding)
    low, high = (int(min(max(end, fmt.min_code), fmt.max_code)) for end in ends)
    return Grid(fmt.fl, low, high)


def format_for(grid: Grid) -> DynamicFixedPoint:
    """The narrowest format that holds a grid's codes."""
    if grid.low >= 0:
        return DynamicFixedPoint(max(1, grid.high.bit_length()), grid.fl, signed=False)
    return DynamicFixedPoint(bits_between(grid.low, grid.high), grid.fl)


def _ends(fmt: DynamicFixedPoint, rounding: Rounding) -> dict[str, Any]:
    """How a step rounds to a format."""
    return {"rounding": rounding.value, "min": fmt.min_code, "max": fmt.max_code}

"""A net as an ONNX model for others: named after the prototxt, checked, and of any batch where nothing bakes it in."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.checker
import onnx.shape_inference
from onnx import helper

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import NetShapes, infer_shapes
from ristretto.caffe.weights import Weights
from ristretto.errors import NetError, WeightsError
from ristretto.graph.build import BuiltNet, Simulation, build
from ristretto.graph.marked import Marks

BATCH_NAME = "N"
"""The symbolic length of axis 0."""

MAX_MODEL_BYTES = (1 << 31) - 1
"""The largest protobuf message."""

_DECIDED_BY_DATA = frozenset({"DetectionOutput", "Filter"})
"""Layer types that make as many rows as their data ask for: their shape rule tells the most, or none at all."""


@dataclass(frozen=True, slots=True)
class Export:
    """A finished model and what became of its batch.

    Attributes:
        model: checked, with shapes inferred.
        batch: the length of axis 0 of the inputs; None where it is symbolic.
        at_fault: the layers that hold the batch fast, where it was to be symbolic and is not.
        marks: what is known of the net, where there were marks.
    """

    model: onnx.ModelProto
    batch: int | None
    at_fault: tuple[str, ...]
    marks: Marks | None = None


@dataclass(frozen=True, slots=True)
class _Variant:
    """The net as it is built for one batch."""

    batch: int
    shapes: NetShapes
    built: BuiltNet
    marks: Marks | None


def export(
    net: NetSpec,
    weights: Weights | None,
    fed: Mapping[str, Shape],
    outputs: Sequence[str],
    simulation: Simulation,
    batch: int | None = None,
    marks: Callable[[], Marks] | None = None,
) -> Export:
    """Lower a net to a model that stands alone.

    The batch is axis 0 of the first input and of every other one of the same length. It is symbolic if the nets built
    for two batches, one of them 1, have the same nodes and the same constants, and no Reshape mixes the images.

    Args:
        net: the net.
        weights: the content of its weights files.
        fed: the shape of every input.
        outputs: the blobs wanted.
        simulation: formats and rounding.
        batch: a length of axis 0 to hold fast; None for any.
        marks: makes what ``build`` takes to write roundings otherwise than in plain nodes; None for plain ones.

    Raises:
        NetError, WeightsError: the net cannot be built, or is too large for the format.
    """
    own = next((shape[0] for shape in fed.values() if shape), 1)
    variants = _Variants(net, weights, fed, own, [net.finals[blob] for blob in outputs], simulation, marks)
    first = variants.of(own if batch is None else batch)
    other: _Variant | None = None
    at_fault: tuple[str, ...] = ()
    if batch is None and first.built.inputs:
        try:
            other = variants.of(2 if own == 1 else 1)
            at_fault = _differing_layers(net, first.built.model.graph, other.built.model.graph)
            at_fault += _mixing_layers(net, first.shapes, other.shapes)
        except (NetError, WeightsError) as error:
            at_fault = (error.layer,) if error.layer else ()
            other = None
    free = other if not at_fault else None
    model = first.built.model
    _name_outputs(model.graph, net, first.built, outputs)
    _state_shapes(model.graph, net, first, free, outputs)
    if not net.name:
        model.graph.name = Path(net.file).stem or "net"
    model.doc_string = f"converted from {Path(net.file).name}"
    _check(model, net)
    return Export(model, None if free else first.batch, at_fault, first.marks)


@dataclass(frozen=True, slots=True)
class _Variants:
    """Builds one net for several batches."""

    net: NetSpec
    weights: Weights | None
    fed: Mapping[str, Shape]
    own: int
    values: Sequence[str]
    simulation: Simulation
    marks: Callable[[], Marks] | None = None

    def of(self, batch: int) -> _Variant:
        """The net for inputs whose axis 0 has the given length, where it had the net's own."""
        fed = {blob: (batch, *shape[1:]) if shape[:1] == (self.own,) else shape for blob, shape in self.fed.items()}
        shapes = infer_shapes(self.net, fed)
        blobs = fit_weights(self.net, shapes, self.weights)
        marks = self.marks() if self.marks is not None else None
        built = build(self.net, shapes, blobs, outputs=self.values, simulation=self.simulation, marks=marks)
        return _Variant(batch, shapes, built, marks)


def _differing_layers(net: NetSpec, first: onnx.GraphProto, second: onnx.GraphProto) -> tuple[str, ...]:
    """The layers whose nodes differ between two builds, constants looked through."""
    sides = [_signatures(net, graph) for graph in (first, second)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return tuple(name for name in names if sides[0].get(name) != sides[1].get(name))


def _mixing_layers(net: NetSpec, first: NetShapes, second: NetShapes) -> tuple[str, ...]:
    """The Reshape layers that state the length of axis 0, so that the images of a larger batch end up in another axis.

    They run with any batch and mix the images.
    """

    def grows(value: str) -> list[bool]:
        return [a != b for a, b in zip(first.values[value], second.values[value], strict=True)]

    return tuple(
        layer.name
        for layer in net.layers
        if layer.type == "Reshape"
        and any(grows(layer.inputs[0])[:1])
        and any(grows(layer.outputs[0]))
        and not grows(layer.outputs[0])[0]
    )


def _signatures(net: NetSpec, graph: onnx.GraphProto) -> dict[str, list[bytes]]:
    """The nodes of each layer with the content of constants in place of their names."""
    contents = {tensor.name: _content(tensor) for tensor in graph.initializer}
    layers = {layer.name for layer in net.layers}
    makers = {value: layer.name for layer in net.layers for value in layer.outputs}
    signatures: dict[str, list[bytes]] = defaultdict(list)
    for node in graph.node:
        scope = node.name
        while scope not in layers and "/" in scope:
            scope = scope.rpartition("/")[0]
        layer = scope if scope in layers else makers.get(node.output[0], node.name)
        signatures[layer].append(_signature(node, contents))
    return signatures


def _signature(node: onnx.NodeProto, contents: Mapping[str, str]) -> bytes:
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.input[:] = [contents.get(name, name) for name in node.input]
    for attribute in plain.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = [_signature(part, contents) for part in attribute.g.node]
            attribute.g.ClearField("node")
            attribute.doc_string = hashlib.sha256(b"".join(inner)).hexdigest()
    return plain.SerializeToString(deterministic=True)


def _content(tensor: onnx.TensorProto) -> str:
    """A name for a constant that says all of it."""
    digest = hashlib.sha256(tensor.raw_data).hexdigest()
    return f"constant {tensor.data_type} {list(tensor.dims)} {digest}"


def _name_outputs(graph: onnx.GraphProto, net: NetSpec, built: BuiltNet, outputs: Sequence[str]) -> None:
    """Let the model's outputs have the names of the blobs.

    A blob that a later layer rounds where it lies is held by another name than its own, and a fed one by a copy. The
    one kind that keeps an internal name is an input that is rounded in place: the input has the blob's name.
    """
    inputs = {value.name for value in graph.input}
    for blob, output in zip(outputs, graph.output, strict=True):
        name = built.fetches[net.finals[blob]]
        output.name = name
        if name == blob:
            continue
        copies = [node for node in graph.node if name in node.output and list(node.input) == [blob]]
        if blob in inputs and copies and copies[0].op_type == "Identity":
            graph.node.remove(copies[0])
            output.name = blob
        elif blob not in inputs:
            _rename(graph.node, {blob: f"{blob}/before rounding", name: blob})
            output.name = blob


def _rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g.node, names)


def _state_shapes(
    graph: onnx.GraphProto, net: NetSpec, first: _Variant, other: _Variant | None, outputs: Sequence[str]
) -> None:
    """Give inputs and outputs their shapes, with the batch by its name where it is free."""
    by_data = _decided_by_data(net)
    stated = {blob: net.finals[blob] for blob in outputs}
    stated.update((value, value) for value in first.built.inputs.values())
    for info in (*graph.input, *graph.output):
        value = stated.get(info.name)
        if value is None or value in by_data:
            continue
        dims = _dims(first, other, value)
        info.CopyFrom(helper.make_tensor_value_info(info.name, onnx.TensorProto.FLOAT, dims))


def _dims(first: _Variant, other: _Variant | None, value: str) -> list[int | str | None]:
    lengths = first.shapes.values[value]
    if other is None:
        return list(lengths)
    pairs = zip(lengths, other.shapes.values[value], strict=True)
    batches = (first.batch, other.batch)
    return [a if a == b else BATCH_NAME if (a, b) == batches else None for a, b in pairs]


def _decided_by_data(net: NetSpec) -> set[str]:
    """The values whose shape only the data tell."""
    values: set[str] = set()
    for layer in net.layers:
        if layer.type in _DECIDED_BY_DATA or values.intersection(layer.inputs):
            values.update(layer.outputs)
    return values


def _check(model: onnx.ModelProto, net: NetSpec) -> None:
    """Hold the model to ONNX's own rules, and fill the output shapes that only they tell.

    A model that breaks them is a fault of ours and ends in the checker's own exception.
    """
    if model.ByteSize() > MAX_MODEL_BYTES:
        what = "the model would be larger than the 2 GB that one ONNX file can hold"
        raise NetError(what, file=net.file, cure="convert parts of the net with --outputs")
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    for mine, theirs in zip(model.graph.output, inferred.graph.output, strict=True):
        if not mine.type.tensor_type.HasField("shape"):
            mine.type.CopyFrom(theirs.type)
            for dim in mine.type.tensor_type.shape.dim:
                if dim.dim_param != BATCH_NAME:
                    dim.ClearField("dim_param")  # a name that inference made up
    onnx.checker.check_model(model, full_check=True)

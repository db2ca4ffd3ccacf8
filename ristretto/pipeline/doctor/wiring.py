"""The net of each phase: how it is wired, which layer types nobody knows, which shapes do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ristretto.caffe.catalogue.registry import LayerShapes, layer_shapes
from ristretto.caffe.net import build_net
from ristretto.caffe.netspec import LayerSpec, NetSpec, Shape
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import FED_TYPES, NetShapes, declared_shapes
from ristretto.caffe.textproto import Document
from ristretto.decide.plan import group_of
from ristretto.errors import RistrettoError
from ristretto.graph.build import runnable_types
from ristretto.pipeline.calibrate import quantizable_layers
from ristretto.report.findings import Finding, Severity

_OFTEN_IN_PLACE = frozenset({"BatchNorm", "Scale", "ReLU", "PReLU", "Dropout"})


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes of a net, as far as they are known.

    Attributes:
        values: the shape of each value that has one.
        layers: for each layer of the net what its rule said; None where it could not be asked.
    """

    values: dict[str, Shape]
    layers: tuple[LayerShapes | None, ...]

    @property
    def complete(self) -> NetShapes | None:
        """The shapes, if all are known."""
        known = tuple(rule for rule in self.layers if rule is not None)
        return NetShapes(self.values, known) if len(known) == len(self.layers) else None


def wired(document: Document, state: NetState, findings: list[Finding]) -> NetSpec | None:
    """The net of a phase, with what is wrong with it put aside; None where there is none."""
    suffix = f"in phase {state.phase}: "

    def forgive(error: RistrettoError) -> None:
        findings.append(Finding.of(error, "wiring"))

    try:
        return build_net(document, state, forgive)
    except RistrettoError as error:
        what = error.what if state.phase in error.what else suffix + error.what
        cure = error.cure
        if state.phase == "TRAIN":
            cure = "ranges are measured in phase TRAIN: add its data layer, or use --calibration_phase TEST"
        findings.append(Finding("error", "wiring", what, cure, error.file, error.line, error.layer))
        return None


def type_findings(net: NetSpec, needed: frozenset[str]) -> Iterator[Finding]:
    """Layers of unknown types.

    Args:
        net: the net.
        needed: values that the job needs; a layer they do not follow from is left out and does no harm.
    """
    known = runnable_types() | FED_TYPES
    upstream = net.upstream(needed)
    kinds: dict[tuple[str, bool], list[LayerSpec]] = {}
    for layer in net.layers:
        if layer.type not in known:
            kinds.setdefault((layer.type, not upstream.isdisjoint(layer.outputs)), []).append(layer)
    for (kind, counts), layers in kinds.items():
        first = layers[0]
        error: RistrettoError = first.view.error(f"layers of type '{kind}' cannot be run", field="type")
        try:
            layer_shapes(first, ())
        except RistrettoError as raised:
            error = raised
        what = error.what if len(layers) == 1 else f"{error.what} ({len(layers)} layers, this is the first)"
        cure = error.cure if counts else "nothing that counts here follows from it, so it is left out"
        severity: Severity = "error" if counts else "note"
        yield Finding(severity, "unknown_type", what, cure, error.file, error.line, first.name)


def partial_shapes(net: NetSpec, fed: Mapping[str, Shape], findings: list[Finding]) -> Shapes:
    """The shapes of a net; what follows from a fault is left out, all that does not is looked at."""
    values: dict[str, Shape] = {}
    rules: list[LayerShapes | None] = []
    known = runnable_types()
    for layer in net.layers:
        rule = None
        try:
            if layer.type in FED_TYPES:
                rule = _fed(layer, fed)
            elif layer.type in known and values.keys() >= set(layer.inputs):
                rule = layer_shapes(layer, tuple(values[value] for value in layer.inputs))
                if len(rule.outputs) != len(layer.outputs):
                    what = f"a {layer.type} layer makes {len(rule.outputs)} tops, {len(layer.outputs)} are named"
                    findings.append(Finding.of(layer.view.error(what, field="top"), "shape"))
        except RistrettoError as error:
            findings.append(Finding.of(error, "shape"))
        if rule is not None:
            values.update(zip(layer.outputs, rule.outputs, strict=False))
        rules.append(rule)
    return Shapes(values, tuple(rules))


def _fed(layer: LayerSpec, fed: Mapping[str, Shape]) -> LayerShapes | None:
    declared = declared_shapes(layer) or ()
    shapes = [fed.get(top) or (declared[at] if at < len(declared) else None) for at, top in enumerate(layer.tops)]
    known = tuple(tuple(shape) for shape in shapes if shape is not None)
    return LayerShapes(known) if len(known) == len(shapes) else None


def layer_findings(net: NetSpec) -> Iterator[Finding]:
    """What the layers of the TEST net tell by themselves."""
    try:
        quantizable_layers(net)
    except RistrettoError as error:
        if not any(layer.type.endswith("Ristretto") for layer in net.layers):
            yield Finding.of(error, "nothing_to_quantize")
    yield from _duplicates(net)
    often = [layer for layer in net.layers if layer.type in _OFTEN_IN_PLACE and layer.bottoms and layer.tops]
    in_place = [layer for layer in often if layer.bottoms[0] == layer.tops[0]]
    if in_place:
        count = len(in_place)
        what = f"{count} layer{'s work' if count > 1 else ' works'} in place, the first is '{in_place[0].name}'"
        cure = "that is fine: ranges are measured where a value is made (the original tool took wrong ones)"
        yield Finding("note", "in_place", what, cure, net.file)
    elif sum(layer.type in ("BatchNorm", "Scale", "ReLU") for layer in often) > 2:
        what = "no layer works in place, as the original tool needed it of nets such as ResNet"
        yield Finding("note", "own_blobs", what, "that is not necessary here, and does no harm", net.file)


def _duplicates(net: NetSpec) -> Iterator[Finding]:
    first: dict[str, LayerSpec] = {}
    for layer in net.layers:
        held = first.setdefault(layer.name, layer)
        if held is layer or {held.type, layer.type} & FED_TYPES:
            continue
        what = f"two layers are named '{layer.name}' (lines {held.view.line} and {layer.view.line})"
        cure = "weights are found by name, so both get the same: rename one, in the weights file too"
        severity: Severity = "warning" if group_of(layer.type) and group_of(held.type) else "note"
        yield Finding(severity, "duplicate_name", what, cure, net.file, layer.view.line, layer.name)

"""The shapes of all values of a net, from the shapes of what is fed to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ristretto.caffe.catalogue  # noqa: F401  (registers the shape rules)
from ristretto.caffe.catalogue.registry import LayerShapes, known_types, layer_shapes, nearest_type
from ristretto.caffe.netspec import LayerSpec, NetSpec, Shape
from ristretto.caffe.shape_limits import check_shape, read_dims, spelled
from ristretto.errors import NetError

FED_TYPES = frozenset(
    {"Data", "ImageData", "HDF5Data", "Input", "MemoryData", "WindowData", "AnnotatedData", "VideoData"}
)
"""Layer types without a bottom whose tops come from outside the net."""


MOST_LISTED = 20
"""How many unknown types an error names."""


@dataclass(frozen=True, slots=True)
class NetShapes:
    """Shapes of a net.

    Attributes:
        values: the shape of every value.
        layers: for each layer, in the order of ``NetSpec.layers``, what its shape rule said.
    """

    values: dict[str, Shape]
    layers: tuple[LayerShapes, ...]


def declared_shapes(layer: LayerSpec) -> tuple[Shape, ...] | None:
    """The shapes that a fed layer states in the prototxt itself, one per top; None where only its source knows.

    Raises:
        NetError: the statement does not fit the layer's tops.
    """
    if layer.type == "Input":
        views = layer.view.child("input_param").children("shape")
        if not views:
            return None
        shapes = [read_dims(view, "an input") for view in views]
        for shape in shapes:
            if min(shape, default=1) < 1:
                what = f"an input of shape {spelled(shape)} holds nothing"
                raise layer.view.error(what, cure="every dim must be at least 1", field="input_param")
        if len(shapes) == 1:
            shapes *= len(layer.tops)
        if len(shapes) != len(layer.tops):
            what = f"{len(shapes)} shapes for {len(layer.tops)} tops"
            raise layer.view.error(what, cure="give one shape, or one for each top", field="input_param")
        return tuple(shapes)
    if layer.type == "MemoryData":
        view = layer.view.child("memory_data_param")
        sizes = tuple(view.integer(name) for name in ("batch_size", "channels", "height", "width"))
        if min(sizes) < 1:
            raise layer.view.error(
                "memory_data_param needs batch_size, channels, height and width", field="memory_data_param"
            )
        return (sizes, (sizes[0],))[: len(layer.tops)]
    return None


def infer_shapes(net: NetSpec, fed: Mapping[str, Shape]) -> NetShapes:
    """Shapes of all values.

    Args:
        net: the net.
        fed: the shape of each blob that comes from outside, by blob name; what the prototxt declares fills the rest.

    Raises:
        NetError: a fed shape is missing, layer types are unknown (all are named), or shapes do not fit together.
    """
    _require_known_types(net)
    values: dict[str, Shape] = {}
    layers = []
    for layer in net.layers:
        if layer.type in FED_TYPES:
            rule = LayerShapes(_fed_shapes(layer, fed))
        else:
            rule = layer_shapes(layer, tuple(values[value] for value in layer.inputs))
        if len(rule.outputs) != len(layer.outputs):
            what = f"a {layer.type} layer makes {len(rule.outputs)} tops, {len(layer.outputs)} are named"
            raise layer.view.error(what, field="top")
        for top, shape in zip(layer.tops, rule.outputs, strict=True):
            check_shape(layer, shape, f"blob '{top}'")
        for position, shape in enumerate(rule.blobs):
            check_shape(layer, shape, f"blob {position} of the weights")
        values.update(zip(layer.outputs, rule.outputs, strict=True))
        layers.append(rule)
    return NetShapes(values, tuple(layers))


def _fed_shapes(layer: LayerSpec, fed: Mapping[str, Shape]) -> tuple[Shape, ...]:
    declared = declared_shapes(layer)
    shapes = []
    for position, top in enumerate(layer.tops):
        if top in fed:
            shapes.append(tuple(fed[top]))
        elif declared is not None:
            shapes.append(tuple(declared[position]))
        else:
            cure = "give the data with --inputs, or a source that can be read"
            raise layer.view.error(f"the shape of blob '{top}' is not known", cure=cure)
    return tuple(shapes)


def _require_known_types(net: NetSpec) -> None:
    """Report all unsupported layers together, not the first one only."""
    unknown = [layer for layer in net.layers if layer.type not in known_types() | FED_TYPES]
    if not unknown:
        return
    types = {layer.type: layer for layer in reversed(unknown)}
    if len(types) == 1:
        layer_shapes(unknown[0], ())
    listed = "; ".join(
        f"'{kind}' (layer '{layer.name}'{_hint(kind)})" for kind, layer in sorted(types.items())[:MOST_LISTED]
    )
    if len(types) > MOST_LISTED:
        listed += f"; and {len(types) - MOST_LISTED} more"
    cure = "plug-ins can teach them (docs/plugins.md)"
    raise NetError(f"{len(types)} unknown layer types: {listed}", file=net.file, cure=cure)


def _hint(kind: str) -> str:
    nearest = nearest_type(kind)
    return f", nearest known: '{nearest}'" if nearest else ""

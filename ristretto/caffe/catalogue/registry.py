"""The shape rules of all layer types: a decorator, a table, and the one way to ask it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from ristretto.caffe.netspec import LayerSpec, Shape


@dataclass(frozen=True, slots=True)
class LayerShapes:
    """What a layer makes and holds.

    Attributes:
        outputs: one shape per top.
        blobs: the shape of each weight blob the layer expects, in Caffe's order; empty for a layer without weights.
        macs: multiply-accumulate operations of one forward pass over the whole batch.
    """

    outputs: tuple[Shape, ...]
    blobs: tuple[Shape, ...] = ()
    macs: int = 0


ShapeRule = Callable[[LayerSpec, tuple[Shape, ...]], LayerShapes]

_RULES: dict[str, ShapeRule] = {}


def shape_rule(*types: str) -> Callable[[ShapeRule], ShapeRule]:
    """Register a function as the shape rule of the given layer types."""

    def register(rule: ShapeRule) -> ShapeRule:
        for type_name in types:
            if type_name in _RULES:
                message = f"a shape rule for layer type '{type_name}' is already registered"
                raise ValueError(message)
            _RULES[type_name] = rule
        return rule

    return register


def known_types() -> frozenset[str]:
    """All layer types that have a shape rule."""
    return frozenset(_RULES)


def nearest_type(type_name: str) -> str:
    """The known layer type whose name is most like the given one, or ""."""
    lowered = {known.lower(): known for known in _RULES}
    matches = difflib.get_close_matches(type_name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[matches[0]] if matches else ""


def layer_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Apply the rule of the layer's type to the shapes of its bottoms.

    Raises:
        NetError: the type is unknown, or the shapes do not suit the layer.
    """
    rule = _RULES.get(layer.type)
    if rule is None:
        nearest = nearest_type(layer.type)
        cure = f"the nearest known type is '{nearest}'" if nearest else "it is no layer type this tool knows"
        raise layer.view.error(f"unknown layer type '{layer.type}'", cure=cure, field="type")
    return rule(layer, inputs)

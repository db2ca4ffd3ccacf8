"""The shape rules of all layer types: a decorator, a table, and the one way to ask it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ristretto.caffe.netspec import PYTHON_PREFIX, LayerSpec, Shape
from ristretto.errors import NetError

Arity = tuple[int, int | None]
"""Least and largest allowed number of blobs; None for no upper bound."""


@dataclass(frozen=True, slots=True)
class LayerShapes:
    """What a layer makes and holds.

    Attributes:
        outputs: one shape per top.
        blobs: the shape of each weight blob the layer expects, in Caffe's order.
        macs: multiply-accumulate operations of one forward pass over the whole batch.
    """

    outputs: tuple[Shape, ...]
    blobs: tuple[Shape, ...] = ()
    macs: int = 0


ShapeRule = Callable[[LayerSpec, tuple[Shape, ...]], LayerShapes]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A registered rule and how many bottoms and tops its layer may have."""

    rule: ShapeRule
    bottoms: Arity
    tops: Arity
    plugged: bool


_RULES: dict[str, _Entry] = {}


def shape_rule(
    *types: str, bottoms: Arity = (1, 1), tops: Arity = (1, 1), plugged: bool = False
) -> Callable[[ShapeRule], ShapeRule]:
    """Register a function as the shape rule of the given layer types.

    Args:
        types: Caffe's type names.
        bottoms: how many blobs such a layer may read; checked before the rule is asked.
        tops: how many it may make.
        plugged: whether it comes from a plug-in.
    """

    def register(rule: ShapeRule) -> ShapeRule:
        for type_name in types:
            if type_name in _RULES:
                message = f"a shape rule for layer type '{type_name}' is already registered"
                raise ValueError(message)
            _RULES[type_name] = _Entry(rule, bottoms, tops, plugged)
        return rule

    return register


def known_types() -> frozenset[str]:
    """All layer types that have a shape rule."""
    return frozenset(_RULES)


def is_plugged(type_name: str) -> bool:
    """Whether a layer type's rule comes from a plug-in, which may know fields that the schema does not."""
    return type_name in _RULES and _RULES[type_name].plugged


def forget_shape_rules(types: Iterable[str]) -> None:
    """Take rules away again: those of a plug-in that failed halfway."""
    for type_name in types:
        del _RULES[type_name]


def nearest_type(type_name: str) -> str:
    """The known layer type whose name is most like the given one, or ""."""
    lowered = {known.lower(): known for known in _RULES}
    matches = difflib.get_close_matches(type_name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[matches[0]] if matches else ""


def layer_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Apply the rule of the layer's type to the shapes of its bottoms.

    Raises:
        NetError: the type is unknown, the number of bottoms or tops is wrong, or the shapes do not suit.
    """
    entry = _RULES.get(layer.type)
    if entry is None:
        raise _unknown_type(layer)
    _check_arity(layer, "bottom", len(layer.bottoms), entry.bottoms)
    _check_arity(layer, "top", len(layer.tops), entry.tops)
    return entry.rule(layer, inputs)


def _unknown_type(layer: LayerSpec) -> NetError:
    if layer.type == "Python" or layer.type.startswith(PYTHON_PREFIX):
        return _python_layer(layer)
    nearest = nearest_type(layer.type)
    if nearest:
        cure = f"the nearest known type is '{nearest}'"
    else:
        cure = "it is no layer type this tool knows: a plug-in can teach it (docs/plugins.md)"
    return layer.view.error(f"unknown layer type '{layer.type}'", cure=cure, field="type")


def _python_layer(layer: LayerSpec) -> NetError:
    view = layer.view.child("python_param")
    if not view.text("layer"):
        what = "a layer of type 'Python' needs python_param with module and layer"
        return layer.view.error(what, cure="add them", field="type")
    what = f"the layer is Python code that this tool does not run: class {view.text('layer')}"
    if view.text("module"):
        what += f" of module {view.text('module')}"
    cure = f"write a plug-in for type '{layer.type}' and give it with --plugin (docs/plugins.md)"
    return layer.view.error(what, cure=cure, field="type")


def _check_arity(layer: LayerSpec, field: str, count: int, allowed: Arity) -> None:
    least, most = allowed
    if least <= count and (most is None or count <= most):
        return
    if most is None:
        wanted = f"at least {least}"
    elif most == least:
        wanted = str(least) if least else "no"
    else:
        wanted = f"{least} to {most}"
    plural = "" if most == 1 else "s"
    what = f"a layer of type '{layer.type}' takes {wanted} {field}{plural}, {count} given"
    cure = f"add a {field}" if count < least else f"take a {field} away"
    raise layer.view.error(what, cure=cure, field=field)

"""What a plug-in needs to teach the tool a layer type: its shapes, its ONNX nodes, whether it is quantized.

A plug-in is a Python module that calls these decorators when it is imported, by ``--plugin``, by ``plugins=`` or by an
entry point of the group ``ristretto.layers``. A layer type Gate, y = x * sigmoid(beta * x):

>>> from ristretto.plugin import LayerContext, LayerShapes, LayerSpec, emits, parameters, shape_rule
>>> @shape_rule("Gate")
... def gate_shapes(layer: LayerSpec, inputs: tuple[tuple[int, ...], ...]) -> LayerShapes:
...     return LayerShapes((inputs[0],))
>>> @emits("Gate")
... def gate(context: LayerContext) -> list[str]:
...     (x,) = context.inputs
...     beta = context.nodes.floats(parameters(context.layer, "gate_param").get("beta", 1.0))
...     return [context.op("Mul", x, context.op("Sigmoid", context.op("Mul", x, beta)))]

A layer of Python code (``type: "Python"``) has the type ``Python:`` and the name of its class; what is registered for
the name alone counts for it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any

from ristretto.caffe.catalogue import registry as shape_registry
from ristretto.caffe.catalogue.registry import Arity, LayerShapes, ShapeRule
from ristretto.caffe.netspec import PYTHON_PREFIX, LayerSpec, Shape
from ristretto.caffe.tree import Message, Scalar
from ristretto.decide.plan import Group, join_group
from ristretto.dialects.fields import set_quantized_type
from ristretto.errors import RistrettoError
from ristretto.graph import registry as emitter_registry
from ristretto.graph.registry import Emitter, LayerContext

__all__ = ["LayerContext", "LayerShapes", "LayerSpec", "emits", "parameters", "quantizable", "shape_rule"]


def shape_rule(*types: str, bottoms: Arity = (1, 1), tops: Arity = (1, 1)) -> Callable[[ShapeRule], ShapeRule]:
    """Register a function that says what shapes a layer makes, and the shapes of the weights it needs.

    Args:
        types: layer types.
        bottoms: least and largest number of bottoms; None for no upper bound.
        tops: the same of tops.
    """

    def register(rule: ShapeRule) -> ShapeRule:
        @wraps(rule)
        def guarded(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
            shapes = _guard(layer, "shape rule", rule, layer, inputs)
            if not isinstance(shapes, LayerShapes):
                what = f"the plug-in's shape rule for '{layer.type}' returns no LayerShapes"
                raise layer.view.error(what, cure="mend the plug-in", field="type")
            return shapes

        shape_registry.shape_rule(*_with_python(types), bottoms=bottoms, tops=tops, plugged=True)(guarded)
        return rule

    return register


def emits(*types: str) -> Callable[[Emitter], Emitter]:
    """Register a function that appends a layer's ONNX nodes and returns one value name per top.

    Args:
        types: layer types.
    """

    def register(emitter: Emitter) -> Emitter:
        @wraps(emitter)
        def guarded(context: LayerContext) -> Sequence[str]:
            layer = context.layer
            made = _guard(layer, "emitter", emitter, context)
            if isinstance(made, str) or not isinstance(made, Sequence) or len(made) != len(layer.tops):
                what = f"the plug-in's emitter for '{layer.type}' returns no list of {len(layer.tops)} names"
                raise layer.view.error(what, cure="mend the plug-in", field="type")
            return made

        emitter_registry.emits(*_with_python(types))(guarded)
        return emitter

    return register


def quantizable(layer_type: str, *, group: Group, quantized_type: str | None = None) -> None:
    """Let layers of a type be quantized: bottoms, tops, first blob (weights) and second blob (bias).

    Args:
        layer_type: the float layer's type.
        group: "conv" or "fc": which layers' widths it is searched with.
        quantized_type: the type to write into the quantized prototxt; None leaves it. A type of its own needs a shape
            rule and an emitter too: give both names to the decorators.
    """
    if group not in ("conv", "fc"):
        message = f'the group of \'{layer_type}\' is "conv" or "fc", not {group!r}'
        raise ValueError(message)
    for name in _with_python([layer_type]):
        join_group(name, group)
        set_quantized_type(name, quantized_type or name)


def parameters(layer: LayerSpec, field: str) -> dict[str, Any]:
    """A parameter message of a layer as plain Python values; empty where the layer does not have it.

    The message need not be in the schema. A field that is given several times is a list; enum values are strings.
    """
    values = layer.view.raw(field)
    if len(values) > 1 or any(isinstance(value, Scalar) for value in values):
        raise layer.view.error(f"{field} is one message", cure=f"write {field} {{ ... }} once", field=field)
    return _fields(values[0]) if values and isinstance(values[0], Message) else {}


def _fields(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in dict.fromkeys(field.name for field in message.fields):
        values = [_fields(value) if isinstance(value, Message) else _plain(value) for value in message.all(name)]
        found[name] = values[0] if len(values) == 1 else values
    return found


def _plain(value: Scalar) -> str | int | float | bool:
    if value.kind == "string":
        return value.text
    if value.text in ("true", "false"):
        return value.text == "true"
    with suppress(ValueError):
        return int(value.text)
    with suppress(ValueError):
        return float(value.text)
    return value.text


def _with_python(types: Iterable[str]) -> list[str]:
    """The types, and for a bare name the layers of Python code whose class has it."""
    names = [name for given in types for name in (given, PYTHON_PREFIX + given.removeprefix(PYTHON_PREFIX))]
    return list(dict.fromkeys(names))


def _guard(layer: LayerSpec, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a plug-in's function; what it raises is told as a fault of the plug-in."""
    try:
        return function(*arguments)
    except RistrettoError:
        raise
    except Exception as error:
        what = f"the plug-in's {part} for '{layer.type}' fails: {type(error).__name__}: {error}"
        raise layer.view.error(what, cure="mend the plug-in (--debug shows where)", field="type") from error

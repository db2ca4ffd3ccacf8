"""Layers that map every value by itself: parameters and shapes (BVLC/caffe neuron_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import require_rank
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape


@shape_rule(
    "ReLU",
    "ReLU6",
    "TanH",
    "Sigmoid",
    "ELU",
    "Swish",
    "Clip",
    "AbsVal",
    "Power",
    "Exp",
    "Log",
    "BNLL",
    "Threshold",
    "Dropout",
)
def neuron_shapes(_layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The top has the bottom's shape (neuron_layer.cpp, Reshape)."""
    return LayerShapes(inputs)


@shape_rule("PReLU")
def prelu_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """One slope per channel, or one for all as a blob without axes (prelu_layer.cpp, LayerSetUp)."""
    shape = inputs[0]
    require_rank(layer, shape, 2)
    shared = layer.view.child("prelu_param").flag("channel_shared")
    return LayerShapes((shape,), ((),) if shared else ((shape[1],),))


@dataclass(frozen=True, slots=True)
class AffineParams:
    """What Power, Exp and Log share: they work on ``shift + scale * x`` (defaults: caffe.proto)."""

    scale: float
    shift: float


@dataclass(frozen=True, slots=True)
class PowerParams:
    """A PowerParameter: ``(shift + scale * x) ** power``."""

    power: float
    inner: AffineParams


def power_params(layer: LayerSpec) -> PowerParams:
    """Read a layer's power_param."""
    view = layer.view.child("power_param")
    return PowerParams(view.number("power"), AffineParams(view.number("scale"), view.number("shift")))


def base_params(layer: LayerSpec, field: str) -> tuple[float, AffineParams]:
    """The natural logarithm of the base, and the inner scale and shift, of an Exp or Log layer.

    Args:
        layer: the layer.
        field: exp_param or log_param; both have a base, with -1 for e (exp_layer.cpp, log_layer.cpp).

    Raises:
        NetError: there is no power or logarithm of that base.
    """
    view = layer.view.child(field)
    base = view.number("base")
    inner = AffineParams(view.number("scale"), view.number("shift"))
    if base == -1.0:
        return 1.0, inner
    if base <= 0.0 or (base == 1.0 and field == "log_param"):
        what = f"{base:g} cannot be the base of a layer of type '{layer.type}'"
        raise view.error(what, cure="give a positive base, or -1 for e", field="base")
    return math.log(base), inner


def clip_bounds(layer: LayerSpec) -> tuple[float, float]:
    """Least and largest output of a Clip layer (clip_layer.cpp).

    Raises:
        NetError: a bound is missing, or the bounds are in the wrong order.
    """
    view = layer.view.child("clip_param")
    for field in ("min", "max"):
        if not view.has(field):
            what = f"the layer needs {field}"
            raise view.error(what, cure=f"add {field} to clip_param", field=field)
    least, most = view.number("min"), view.number("max")
    if least > most:
        what = f"min {least:g} is larger than max {most:g}"
        raise view.error(what, field="min")
    return least, most


def dropout_ratio(layer: LayerSpec) -> float:
    """The part of the values that a Dropout layer sets to zero in TRAIN (dropout_layer.cpp, LayerSetUp).

    Raises:
        NetError: it is no probability less than 1.
    """
    view = layer.view.child("dropout_param")
    ratio = view.number("dropout_ratio")
    if not 0.0 <= ratio < 1.0:
        what = f"dropout_ratio {ratio:g} is not in [0, 1)"
        raise view.error(what, cure="give the probability of a value to be dropped", field="dropout_ratio")
    return ratio

"""Which number formats integer arithmetic can compute with, and what to say of those that it cannot."""

from __future__ import annotations

import math

from ristretto.caffe.netspec import LayerSpec
from ristretto.errors import NetError
from ristretto.numerics.formats import DynamicFixedPoint, Format, Minifloat
from ristretto.numerics.layer_formats import ROLES, LayerFormats, Role

WIDEST_ACTIVATION = 24
"""Blobs are float32 between layers, which hold integers of 24 bits."""

_NAMES = {"in": "its input is", "out": "its output is", "params": "its weights are", "bias": "its bias is"}
_FLOAT32 = "or use --arithmetic float32"


def check_formats(layer: LayerSpec, formats: LayerFormats) -> None:
    """Refuse what is no integer in any layer that has formats.

    Raises:
        NetError: a format is floating point, or an activation is wider than a float32.
    """
    for role in ROLES:
        fmt = formats.at(role)
        if isinstance(fmt, Minifloat):
            raise _error(layer, f"{_NAMES[role]} in floating point, {fmt}", "give it a fixed point format")
    for role, fmt in (("in", formats.input), ("out", formats.output)):
        if isinstance(fmt, DynamicFixedPoint):
            _check_width(layer, role, fmt)


def linear_formats(layer: LayerSpec, formats: LayerFormats) -> tuple[DynamicFixedPoint, DynamicFixedPoint, Format]:
    """The formats of input, output and weights of a layer of products and sums, which has to have all three.

    Raises:
        NetError: one is float, or no fixed point.
    """
    check_formats(layer, formats)
    if formats.params is None:
        raise _error(layer, "its weights are float", "quantize them")
    return _activation(layer, "in", formats.input), _activation(layer, "out", formats.output), formats.params


def _activation(layer: LayerSpec, role: Role, fmt: Format | None) -> DynamicFixedPoint:
    if fmt is None:
        raise _error(layer, f"{_NAMES[role]} float", "quantize it")
    if not isinstance(fmt, DynamicFixedPoint):
        raise _error(layer, f"{_NAMES[role]} in {fmt}", "give it a fixed point format")
    return fmt


def _check_width(layer: LayerSpec, role: Role, fmt: DynamicFixedPoint) -> None:
    if fmt.bw > WIDEST_ACTIVATION:
        what = f"{_NAMES[role]} {fmt.bw} bits wide, {fmt}, and blobs hold {WIDEST_ACTIVATION}"
        raise _error(layer, what, f"give it {WIDEST_ACTIVATION} bits or fewer")
    if fmt.fl > 126 or math.frexp(fmt.max)[1] > 127:
        raise _error(layer, f"{_NAMES[role]} in {fmt}, beyond float32, which blobs are", "scale the net")


def _error(layer: LayerSpec, what: str, cure: str) -> NetError:
    text = f"integer arithmetic cannot compute this layer: {what}"
    return layer.view.error(text, cure=f"{cure}, {_FLOAT32}", field="quantization_param")

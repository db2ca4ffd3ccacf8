"""Intel Caffe: plain types, eight bits, scales or fractional lengths that may be repeated (docs/dialects.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ristretto.caffe.view import View
from ristretto.dialects.base import Formats, Said, Settled, fixed, grid_of_scale, misplaced, number_text
from ristretto.dialects.fields import Dialect as DialectName
from ristretto.dialects.settling import Settler, bias_without_effect, copied, without_effect
from ristretto.dialects.wiring import Place, Wiring
from ristretto.errors import FormatError
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format
from ristretto.numerics.layer_formats import LayerFormats

TYPES = frozenset({"Convolution", "InnerProduct"})
"""Types whose quantization_param is read."""

FLOAT_BW = 32
"""The width that stands for float."""

_WIDTHS = (8,)
_BIAS_BW = 32


class Intel:
    """Reads and writes for Intel Caffe."""

    name: DialectName = "intel"
    title = "Intel Caffe"

    def read(self, wiring: Wiring, nearest: bool) -> Formats:
        """The formats that a net states; see ``DialectModule``."""
        found = {}
        for place in wiring.places:
            if place.kind in TYPES and place.view.has("quantization_param"):
                found[place.name] = _formats(wiring, place, nearest)
        return copied(wiring, found)

    def settle(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> Settled:
        """The nearest formats that can be said; see ``DialectModule``."""
        settled: Formats = {}
        refusals = []
        ineffective = without_effect(wiring, plan)
        for place in wiring.places:
            formats = plan.get(place.name)
            if formats is None or place.name in settled:
                continue
            settler = Settler(place.name)
            if place.kind in TYPES:
                settler.rounds_for_all(wiring, place, plan)
                settled[place.name] = _settle(wiring, place, formats, settler)
            elif place.name not in ineffective:
                settler.refuse(f"formats of a layer of type '{place.kind}'", "float")
            refusals += settler.refusals
        return Settled(copied(wiring, settled), tuple(refusals))

    def say(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> dict[int, Said]:
        """The fields of each layer; see ``DialectModule``."""
        said = {}
        for number, place in enumerate(wiring.places):
            formats = plan.get(place.name)
            if formats is not None and place.kind in TYPES:
                said[number] = Said(place.kind, "quantization_param", tuple(_lines(formats)))
        return said


def _formats(wiring: Wiring, place: Place, nearest: bool) -> LayerFormats:
    view = place.view.child("quantization_param")
    if view.text("precision") != "DYNAMIC_FIXED_POINT" or view.text("rounding_scheme") != "NEAREST":
        field = "rounding_scheme" if view.text("precision") == "DYNAMIC_FIXED_POINT" else "precision"
        cure = "is it another dialect? Say which with --dialect"
        raise view.error(f"Intel Caffe knows no {view.text(field)}", cure=cure, field=field)
    signed = view.flag("is_negative_input") and not view.flag("force_u8_input")
    inputs = _one(view, "layer_in", "in", nearest, signed=signed)
    outputs = _one(view, "layer_out", "out", nearest, signed=not wiring.rectified(place))
    params = _params(view, nearest)
    return LayerFormats(inputs, outputs, params, _bias(place, inputs, params))


def _one(view: View, part: str, short: str, nearest: bool, *, signed: bool) -> DynamicFixedPoint | None:
    bw, field = view.integer(f"bw_{part}"), f"bw_{part}"
    if bw == FLOAT_BW:
        return None
    lengths = _lengths(view, part, short, nearest)
    if len(lengths) > 1:
        what = f"{len(lengths)} scales of '{short}': activations have one"
        raise view.error(what, cure="keep the first", field=f"scale_{short}")
    return fixed(view, bw, lengths[0], field, signed=signed)


def _params(view: View, nearest: bool) -> DynamicFixedPoint | ChannelFixedPoint | None:
    bw = view.integer("bw_params")
    if bw == FLOAT_BW:
        return None
    lengths = _lengths(view, "params", "params", nearest)
    if len(lengths) == 1:
        return fixed(view, bw, lengths[0], "bw_params")
    try:
        return ChannelFixedPoint(bw, lengths)
    except FormatError as error:
        raise misplaced(view, error, "bw_params") from error


def _lengths(view: View, part: str, short: str, nearest: bool) -> tuple[int, ...]:
    """Fractional lengths, from scales if there are any; a channel of weights that are all zero has the scale zero."""
    field, scales = f"scale_{short}", view.numbers(f"scale_{short}")
    if scales:
        dead = short == "params" and any(scales)
        return tuple(
            0 if dead and scale == 0.0 else grid_of_scale(view, field, scale, nearest=nearest) for scale in scales
        )
    lengths = view.integers(f"fl_{part}")
    if not lengths:
        what = f"bw_{part} is set, and neither fl_{part} nor {field}"
        raise view.error(what, cure="set one of the two", field=f"bw_{part}")
    return lengths


def _bias(place: Place, inputs: Format | None, params: Format | None) -> Format | None:
    """What is added to the products as a whole number: 32 bits at their scale, the finest where channels differ."""
    if not place.has_bias:
        return bias_without_effect(params)
    if not isinstance(inputs, DynamicFixedPoint) or params is None:
        return None
    finest = max(params.fls) if isinstance(params, ChannelFixedPoint) else getattr(params, "fl", 0)
    return DynamicFixedPoint(_BIAS_BW, inputs.fl + finest)


def _settle(wiring: Wiring, place: Place, formats: LayerFormats, settler: Settler) -> LayerFormats:
    signed = not isinstance(formats.input, DynamicFixedPoint) or formats.input.signed
    inputs = settler.fixed("in", formats.input, _WIDTHS, signed=signed)
    outputs = None
    if isinstance(formats.output, DynamicFixedPoint) and formats.output.bw <= max(_WIDTHS):
        outputs = settler.fixed("out", formats.output, _WIDTHS, signed=not wiring.rectified(place))
    else:
        settler.instead("out", formats.output, None)
    params = settler.weights(formats.params, _WIDTHS)
    bias = _bias(place, inputs, params)
    if place.has_bias and inputs is not None and params is not None:
        settler.instead("bias", formats.bias, bias)
    settler.own_rounding(formats)
    return replace(formats, input=inputs, output=outputs, params=params, bias=bias, rounding=None)


def _lines(formats: LayerFormats) -> list[str]:
    """Scales rather than fractional lengths: later versions read them alone."""
    inputs, outputs, params = formats.input, formats.output, formats.params
    assert isinstance(inputs, DynamicFixedPoint)
    assert isinstance(params, DynamicFixedPoint | ChannelFixedPoint)
    out_bw = outputs.bw if isinstance(outputs, DynamicFixedPoint) else FLOAT_BW
    out_fl = outputs.fl if isinstance(outputs, DynamicFixedPoint) else 0
    fls = params.fls if isinstance(params, ChannelFixedPoint) else (params.fl,)
    return [
        f"bw_layer_in: {inputs.bw}",
        f"bw_layer_out: {out_bw}",
        f"bw_params: {params.bw}",
        f"scale_in: {_scale(inputs.fl)}",
        f"scale_out: {_scale(out_fl)}",
        *(f"scale_params: {_scale(fl)}" for fl in fls),
        *(["is_negative_input: true"] if inputs.signed else []),
    ]


def _scale(fl: int) -> str:
    return number_text(math.ldexp(1.0, fl))

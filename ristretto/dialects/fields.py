"""The quantization_param of the original and its extension, read from a net and written into a prototxt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.view import View
from ristretto.decide.plan import QuantPlan
from ristretto.errors import FormatError
from ristretto.numerics.formats import DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding

Dialect = Literal["original", "extended"]

QUANTIZED_TYPES: Mapping[str, str] = {
    "Convolution": "ConvolutionRistretto",
    "ConvolutionDepthwise": "ConvolutionRistretto",
    "DepthwiseConvolution": "ConvolutionRistretto",
    "InnerProduct": "FcRistretto",
    "Deconvolution": "DeconvolutionRistretto",
    "LRN": "LRNRistretto",
}
"""The quantized type of each float layer type that has one."""

_PLUGGED: dict[str, str] = {}


def set_quantized_type(layer_type: str, quantized_type: str) -> None:
    """Let a type have a quantized type, which may be the same: then its quantization_param makes the difference."""
    _PLUGGED[layer_type] = quantized_type


def unset_quantized_type(layer_type: str) -> None:
    """Undo ``set_quantized_type``."""
    _PLUGGED.pop(layer_type, None)


def quantized_type(layer_type: str) -> str | None:
    """The type of a layer once it is quantized; None for a type that is not, or is quantized already."""
    return QUANTIZED_TYPES.get(layer_type) or _PLUGGED.get(layer_type)


def takes_formats(layer_type: str) -> bool:
    """Whether layers of a type can be given formats, or have some."""
    return (
        quantized_type(layer_type) is not None
        or layer_type in QUANTIZED_TYPES.values()
        or layer_type in _PLUGGED.values()
    )


def read_plan(net: NetSpec) -> QuantPlan:
    """The formats that a quantized net states; defaults of unset fields are simulated to the letter."""
    return QuantPlan({layer.name: read_formats(layer) for layer in net.layers if _is_quantized(layer)})


def _is_quantized(layer: LayerSpec) -> bool:
    if layer.type in QUANTIZED_TYPES.values():
        return True
    return layer.type in _PLUGGED.values() and layer.view.has("quantization_param")


def read_formats(layer: LayerSpec) -> LayerFormats:
    """The formats of one quantized layer (caffe.proto, QuantizationParameter)."""
    view = layer.view.child("quantization_param")
    rounding = Rounding.STOCHASTIC if view.text("rounding_scheme") == "STOCHASTIC" else None
    precision = view.text("precision")
    if precision == "MINIFLOAT":
        fmt = Minifloat(exp_bits=view.integer("exp_bits"), mant_bits=view.integer("mant_bits"))
        return LayerFormats(fmt, fmt, fmt, fmt, rounding)
    inputs = _fixed(layer, view, "layer_in", signed=not view.flag("unsigned_layer_in"))
    outputs = _fixed(layer, view, "layer_out", signed=not view.flag("unsigned_layer_out"))
    if precision == "INTEGER_POWER_OF_2_WEIGHTS":
        weights = PowerOfTwo(view.integer("exp_min"), view.integer("exp_max"))
        return LayerFormats(inputs, outputs, weights, None, rounding)
    params = _fixed(layer, view, "params")
    bias: Format = params
    if view.has("bw_bias") or view.has("fl_bias"):
        if not (view.has("bw_bias") and view.has("fl_bias")):
            raise layer.view.error("bw_bias and fl_bias go together", field="quantization_param")
        bias = _fixed(layer, view, "bias")
    return LayerFormats(inputs, outputs, params, bias, rounding)


def _fixed(layer: LayerSpec, view: View, part: str, *, signed: bool = True) -> DynamicFixedPoint:
    bw, fl = view.integer(f"bw_{part}"), view.integer(f"fl_{part}")
    try:
        return DynamicFixedPoint(bw, fl, signed)
    except FormatError as error:
        raise view.error(error.what, cure=error.cure, field=f"bw_{part}") from error


def quantization_fields(name: str, formats: LayerFormats, dialect: Dialect) -> list[str]:
    """The lines of a quantization_param that says these formats.

    Raises:
        FormatError: the dialect has no words for them; the layer is named.
    """
    if isinstance(formats.params, Minifloat):
        return ["precision: MINIFLOAT", *_minifloat_lines(name, formats, formats.params)]
    lines = []
    if isinstance(formats.params, PowerOfTwo):
        lines = [
            "precision: INTEGER_POWER_OF_2_WEIGHTS",
            f"exp_min: {formats.params.exp_min}",
            f"exp_max: {formats.params.exp_max}",
        ]
    parts: list[tuple[str, Format | None]] = [("layer_in", formats.input), ("layer_out", formats.output)]
    if not lines:
        parts.append(("params", formats.params))
    extra = formats.bias is not None and formats.bias != formats.params and not lines
    if extra:
        parts.append(("bias", formats.bias))
    fixed = [(part, fmt) for part, fmt in parts if isinstance(fmt, DynamicFixedPoint)]
    if len(fixed) != sum(fmt is not None for _, fmt in parts):
        raise FormatError("activations and weights need fixed point formats here", layer=name)
    unsigned = [part for part, fmt in fixed if not fmt.signed]
    if dialect == "original" and (extra or unsigned):
        what = "a bias format of its own and unsigned activations cannot be said in the original's dialect"
        raise FormatError(what, layer=name, cure="use --dialect extended, or the weights' format for the bias")
    lines += [f"bw_{part}: {fmt.bw}" for part, fmt in fixed]
    lines += [f"fl_{part}: {fmt.fl}" for part, fmt in fixed]
    lines += [f"unsigned_{part}: true" for part in unsigned]
    return lines


def _minifloat_lines(name: str, formats: LayerFormats, fmt: Minifloat) -> list[str]:
    if any(other not in (None, fmt) for other in (formats.input, formats.output, formats.bias)):
        raise FormatError("minifloat layers have one format for weights and activations", layer=name)
    return [f"mant_bits: {fmt.mant_bits}", f"exp_bits: {fmt.exp_bits}"]

"""The quantization_param of the original and its extension, read from a net and written into a prototxt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.view import View
from ristretto.decide.plan import QuantPlan
from ristretto.errors import FormatError, RistrettoError
from ristretto.numerics.formats import (
    ChannelFixedPoint,
    DynamicFixedPoint,
    Format,
    Minifloat,
    PowerOfTwo,
    parse_minifloat,
)
from ristretto.numerics.layer_formats import LayerFormats, Role
from ristretto.numerics.rounding import Rounding

Dialect = Literal["original", "extended", "chaidnn", "intel", "accdnn"]
"""Readers of quantized prototxts (docs/dialects.md); this module writes for the first two."""

QUANTIZED_TYPES: Mapping[str, str] = {
    "Convolution": "ConvolutionRistretto",
    "ConvolutionDepthwise": "ConvolutionRistretto",
    "DepthwiseConvolution": "ConvolutionRistretto",
    "InnerProduct": "FcRistretto",
    "Deconvolution": "DeconvolutionRistretto",
    "LRN": "LRNRistretto",
}
"""The quantized type of each float layer type that has one."""

PLAIN_TYPES = frozenset(
    {
        "AbsVal", "Axpy", "BNLL", "BatchNorm", "Bias", "Clip", "Concat", "ELU", "Eltwise", "Exp", "Interp", "LRN",
        "Log", "MVN", "Normalize", "PReLU", "Pooling", "Power", "ReLU", "ReLU6", "Reduction", "SPP", "Scale",
        "Sigmoid", "Softmax", "Swish", "TanH", "Threshold", "Upsample",
    }
)  # fmt: skip
"""Types that keep their type when they get formats; what their quantization_param does not say stays float, and they
read a rounded copy of their bottoms. Layers that only move values (Reshape, Slice, Split, ...) have nothing to round.
"""

PARTS: Mapping[Role, str] = {"in": "layer_in", "out": "layer_out", "params": "params", "bias": "bias"}
"""How the schema names the roles."""

_PLUGGED: dict[str, str] = {}


def set_quantized_type(layer_type: str, quantized_type: str) -> None:
    """Let a type have a quantized type, which may be the same: then its quantization_param makes the difference."""
    _PLUGGED[layer_type] = quantized_type


def unset_quantized_type(layer_type: str) -> None:
    """Undo ``set_quantized_type``."""
    _PLUGGED.pop(layer_type, None)


def quantized_type(layer_type: str) -> str | None:
    """The type that stands for a float layer type once it is quantized; None where there is none."""
    return QUANTIZED_TYPES.get(layer_type) or _PLUGGED.get(layer_type)


def float_type(layer_type: str) -> str:
    """The float layer type that a quantized type stands for; any other type is its own."""
    named = {**_PLUGGED, **QUANTIZED_TYPES}
    return next((kind for kind, quantized in named.items() if quantized == layer_type), layer_type)


def type_with_formats(layer_type: str, formats: LayerFormats) -> str:
    """The type of a layer that has these formats: LRN alone has a quantized type and can do without."""
    if layer_type in PLAIN_TYPES and not (formats.in_place and isinstance(formats.params, Minifloat)):
        return layer_type
    return quantized_type(layer_type) or layer_type


def takes_formats(layer_type: str) -> bool:
    """Whether layers of a type can be given formats, or have some."""
    return (
        quantized_type(layer_type) is not None
        or layer_type in PLAIN_TYPES
        or layer_type in QUANTIZED_TYPES.values()
        or layer_type in _PLUGGED.values()
    )


def read_plan(net: NetSpec) -> QuantPlan:
    """The formats that a quantized net states; defaults of unset fields are simulated to the letter."""
    return QuantPlan({layer.name: read_formats(layer) for layer in net.layers if has_formats(layer.type, layer.view)})


def has_formats(layer_type: str, layer: View) -> bool:
    """Whether a layer states formats in the original's dialect or the extended one."""
    if layer_type in QUANTIZED_TYPES.values():
        return True
    may = layer_type in PLAIN_TYPES or layer_type in _PLUGGED.values()
    return may and layer.has("quantization_param")


def read_formats(layer: LayerSpec) -> LayerFormats:
    """The formats of one quantized layer (caffe.proto, QuantizationParameter; docs/formats.md).

    Raises:
        RistrettoError: a number is impossible, or fields contradict each other.
    """
    return formats_of(layer.type, layer.view)


def formats_of(layer_type: str, layer: View) -> LayerFormats:
    """The formats of a layer of a type, as ``read_formats`` tells them."""
    return _Reader(layer.child("quantization_param"), layer_type in PLAIN_TYPES).formats()


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one quantization_param. In a plain layer, fields that are not set stand for float."""

    view: View
    plain: bool

    def formats(self) -> LayerFormats:
        view = self.view
        rounding = Rounding.STOCHASTIC if view.text("rounding_scheme") == "STOCHASTIC" else None
        precision = view.text("precision")
        for field, owner in _NEEDS_PRECISION.items():
            if view.has(field) and precision != owner:
                raise view.error(f"{field} goes with precision: {owner}", field=field)
        if precision == "MINIFLOAT":
            base = self._minifloat()
            inputs, outputs, params, bias = (self._own(role, base) for role in PARTS)
            return LayerFormats(inputs, outputs, params, bias, rounding, self._in_place())
        inputs = self._own("in", self._fixed("in", signed=not view.flag("unsigned_layer_in")))
        outputs = self._own("out", self._fixed("out", signed=not view.flag("unsigned_layer_out")))
        params = self._own("params", self._params(precision))
        bias = self._own("bias", self._bias(params))
        return LayerFormats(inputs, outputs, params, bias, rounding, self._in_place())

    def _in_place(self) -> bool:
        return not (self.plain or self.view.flag("copy_layer_in"))

    def _own(self, role: Role, otherwise: Format | None) -> Format | None:
        """What the fields of a role alone say of it."""
        field = f"float_format_{PARTS[role]}"
        if self.view.flag(f"float_{PARTS[role]}"):
            return None
        return self._named(field) if self.view.has(field) else otherwise

    def _named(self, field: str) -> Minifloat:
        try:
            return parse_minifloat(self.view.text(field))
        except FormatError as error:
            raise self._misplaced(error, field) from error

    def _minifloat(self) -> Minifloat:
        view = self.view
        if not view.has("float_format"):
            try:
                return Minifloat(exp_bits=view.integer("exp_bits"), mant_bits=view.integer("mant_bits"))
            except FormatError as error:
                raise self._misplaced(error, "exp_bits") from error
        if view.has("exp_bits") or view.has("mant_bits"):
            what = "float_format names a format, exp_bits and mant_bits make one"
            raise view.error(what, cure="keep one of the two", field="float_format")
        return self._named("float_format")

    def _params(self, precision: str) -> Format | None:
        view = self.view
        try:
            if precision == "INTEGER_POWER_OF_2_WEIGHTS":
                return PowerOfTwo(view.integer("exp_min"), view.integer("exp_max"), view.flag("keep_zero"))
            if view.has("fl_params_channel"):
                return ChannelFixedPoint(view.integer("bw_params"), view.integers("fl_params_channel"))
        except FormatError as error:
            raise self._misplaced(error, "exp_min" if precision != "DYNAMIC_FIXED_POINT" else "bw_params") from error
        return self._fixed("params")

    def _bias(self, params: Format | None) -> Format | None:
        """A bias that nothing is said of is as the weights; beside powers of two, and in a plain layer, it is float."""
        view = self.view
        if view.has("bw_bias") or view.has("fl_bias"):
            if not (view.has("bw_bias") and view.has("fl_bias")):
                raise view.error("bw_bias and fl_bias go together", cure="set both", field=self._first("bias"))
            return self._fixed("bias")
        if self.plain or isinstance(params, PowerOfTwo):
            return None
        return self._fixed("bias") if isinstance(params, ChannelFixedPoint) else params

    def _fixed(self, role: Role, *, signed: bool = True) -> DynamicFixedPoint | None:
        view, part = self.view, PARTS[role]
        given = [view.has(f"bw_{part}"), view.has(f"fl_{part}")]
        if self.plain and not all(given):
            if any(given):
                raise view.error(f"bw_{part} and fl_{part} go together", cure="set both", field=self._first(part))
            return None
        try:
            return DynamicFixedPoint(view.integer(f"bw_{part}"), view.integer(f"fl_{part}"), signed)
        except FormatError as error:
            raise self._misplaced(error, f"bw_{part}") from error

    def _first(self, part: str) -> str:
        return f"bw_{part}" if self.view.has(f"bw_{part}") else f"fl_{part}"

    def _misplaced(self, error: FormatError, field: str) -> RistrettoError:
        return self.view.error(error.what, cure=error.cure, field=field)


_NEEDS_PRECISION = {
    "float_format": "MINIFLOAT",
    "keep_zero": "INTEGER_POWER_OF_2_WEIGHTS",
    "fl_params_channel": "DYNAMIC_FIXED_POINT",
}


def quantization_fields(name: str, formats: LayerFormats, dialect: Dialect, *, plain: bool = False) -> list[str]:
    """The lines of a quantization_param that says these formats.

    Args:
        name: the layer, for errors.
        formats: what to say.
        dialect: the reader to write for.
        plain: whether the layer's type is one of PLAIN_TYPES.

    Raises:
        FormatError: the dialect has no words for them; the layer is named.
    """
    try:
        lines = _Writer(formats, plain).lines()
    except FormatError as error:
        raise FormatError(error.what, layer=name, cure=error.cure) from error
    beyond = [what for line in lines for field, what in _EXTENDED.items() if line.startswith(field)]
    if plain:
        beyond.insert(0, "formats for a layer of this type")
    if dialect == "original" and beyond:
        what = f"{beyond[0]} cannot be said in the original's dialect"
        raise FormatError(what, layer=name, cure="use --dialect extended")
    return lines


_EXTENDED = {
    "bw_bias": "a bias format of its own",
    "float_format_bias": "a bias format of its own",
    "float_format": "this floating point format",
    "float_": "a part left in float",
    "unsigned_": "a value without a sign bit",
    "fl_params_channel": "a fractional length for each channel",
    "keep_zero": "a zero among powers of two",
    "copy_layer_in": "a bottom that is left as it is",
}
"""What the fields mean that the original does not know, by how they begin; the first that fits a line counts."""


@dataclass(frozen=True, slots=True)
class _Writer:
    """Says formats in the fewest fields that are read as the same formats again."""

    written: LayerFormats
    plain: bool

    def lines(self) -> list[str]:
        formats = self.written
        if formats.rounding not in (None, Rounding.STOCHASTIC):
            cure = "a prototxt knows stochastic only; give the others with --rounding"
            raise FormatError(f"rounding {formats.rounding.value} is no field of a layer", cure=cure)
        scheme = [] if formats.rounding is None else ["rounding_scheme: STOCHASTIC"]
        precision, rest = self._by_precision()
        copies = [] if self.plain or formats.in_place or formats.input is None else ["copy_layer_in: true"]
        return [*precision, *scheme, *rest, *copies]

    def _by_precision(self) -> tuple[list[str], list[str]]:
        formats = self.written
        roles = {role: formats.at(role) for role in PARTS}
        given = {fmt for fmt in roles.values() if fmt is not None}
        params = formats.params
        if len(given) == 1 and isinstance(only := next(iter(given)), Minifloat):
            named = [f'float_format: "{only}"']
            widths = [f"mant_bits: {only.mant_bits}", f"exp_bits: {only.exp_bits}"]
            left_out = [f"float_{PARTS[role]}: true" for role, fmt in roles.items() if fmt is None]
            return ["precision: MINIFLOAT"], [*(widths if only.plain else named), *left_out]
        if isinstance(params, PowerOfTwo):
            zero = ["keep_zero: true"] if params.keep_zero else []
            exponents = [f"exp_min: {params.exp_min}", f"exp_max: {params.exp_max}", *zero]
            del roles["params"]
            if formats.bias is None:
                del roles["bias"]
            return ["precision: INTEGER_POWER_OF_2_WEIGHTS"], [*exponents, *self._parts(roles)]
        if not self.plain and formats.bias == params and not isinstance(params, ChannelFixedPoint):
            del roles["bias"]
        return [], self._parts(roles)

    def _parts(self, roles: Mapping[Role, Format | None]) -> list[str]:
        """The fields of single roles: all widths, then all fractional lengths, then what the original lacks."""
        widths, lengths, more = [], [], []
        for role, fmt in roles.items():
            part = PARTS[role]
            if fmt is None:
                more += [] if self.plain else [f"float_{part}: true"]
            elif isinstance(fmt, Minifloat):
                more.append(f'float_format_{part}: "{fmt}"')
            elif isinstance(fmt, DynamicFixedPoint):
                widths.append(f"bw_{part}: {fmt.bw}")
                lengths.append(f"fl_{part}: {fmt.fl}")
                more += [] if fmt.signed else [_unsigned(role)]
            elif isinstance(fmt, ChannelFixedPoint) and role == "params":
                widths.append(f"bw_{part}: {fmt.bw}")
                more.append(f"fl_params_channel: [{', '.join(map(str, fmt.fls))}]")
            else:
                kind = "powers of two" if isinstance(fmt, PowerOfTwo) else "a fractional length for each channel"
                what = f"{kind}: only for weights, not for '{role}'"
                raise FormatError(what, cure="give it one fixed point or floating point format")
        return [*widths, *lengths, *more]


def _unsigned(role: Role) -> str:
    if role in ("params", "bias"):
        raise FormatError(f"'{role}' without a sign bit cannot be said in a prototxt", cure="give it a signed format")
    return f"unsigned_{PARTS[role]}: true"

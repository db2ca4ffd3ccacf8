"""A plan as JSON: {"layers": {NAME: {"in": {"bw": 8, "fl": 5}, "out": ..., "params": ..., "bias": ...}}}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ristretto.decide.plan import QuantPlan
from ristretto.errors import FormatError
from ristretto.numerics.formats import (
    ChannelFixedPoint,
    DynamicFixedPoint,
    Format,
    Minifloat,
    PowerOfTwo,
    parse_minifloat,
)
from ristretto.numerics.layer_formats import ROLES, LayerFormats, Role
from ristretto.numerics.rounding import Rounding

_FACTS = ("type", "group", "ranges", "integer_lengths", "fitted_lengths", "macs", "size", "sites")
"""What a report tells of a layer besides its formats."""

_SETTINGS = ("rounding", "in_place")
"""What a layer has besides formats."""

_KINDS = (
    ("fls", {"bw", "fls"}),
    ("float_format", {"float_format"}),
    ("exp_bits", {"exp_bits", "mant_bits"}),
    ("mant_bits", {"exp_bits", "mant_bits"}),
    ("exp_min", {"exp_min", "exp_max", "keep_zero"}),
    ("exp_max", {"exp_min", "exp_max", "keep_zero"}),
    ("", {"bw", "fl", "signed"}),
)
"""What each kind of format is written with, by a key that gives it away."""


def format_to_json(fmt: Format) -> dict[str, Any]:
    """A format as its defining numbers."""
    if isinstance(fmt, DynamicFixedPoint):
        return {"bw": fmt.bw, "fl": fmt.fl, **({} if fmt.signed else {"signed": False})}
    if isinstance(fmt, ChannelFixedPoint):
        return {"bw": fmt.bw, "fls": list(fmt.fls)}
    if isinstance(fmt, Minifloat):
        return {"exp_bits": fmt.exp_bits, "mant_bits": fmt.mant_bits} if fmt.plain else {"float_format": str(fmt)}
    return {"exp_min": fmt.exp_min, "exp_max": fmt.exp_max, **({"keep_zero": True} if fmt.keep_zero else {})}


def layer_to_json(formats: LayerFormats) -> dict[str, Any]:
    """A layer's formats by role; a role left in float is left out, but for a bias that is not as the weights."""
    written: dict[str, Any] = {role: format_to_json(fmt) for role in ROLES if (fmt := formats.at(role)) is not None}
    if formats.bias is None and _bias_beside(formats.params) is not None:
        written["bias"] = None
    if formats.rounding is not None:
        written["rounding"] = formats.rounding.value
    if not formats.in_place:
        written["in_place"] = False
    return written


def _bias_beside(params: Format | None) -> Format | None:
    """What a bias is of which nothing is said."""
    return None if isinstance(params, PowerOfTwo | ChannelFixedPoint) else params


def plan_from_json(data: Any, file: str) -> QuantPlan:
    """Read a plan from parsed JSON: a report, or a formats file written by hand.

    Args:
        data: the parsed JSON; keys that say nothing of formats are passed over.
        file: where it came from, for errors.

    Raises:
        FormatError: the structure or a number is wrong; the layer and role are named.
    """
    layers = data.get("layers") if isinstance(data, Mapping) else None
    if not isinstance(layers, Mapping):
        cure = 'write {"layers": {"conv1": {"in": {"bw": 8, "fl": 5}}}}'
        raise FormatError('a formats file needs an object "layers"', file=file, cure=cure)
    return QuantPlan({str(name): _Layer(str(name), file).read(entry) for name, entry in layers.items()})


@dataclass(frozen=True, slots=True)
class _Layer:
    """Reads the entry of one layer; knows its name and file for errors."""

    name: str
    file: str

    def read(self, entry: Any) -> LayerFormats:
        if not isinstance(entry, Mapping):
            self.fail("expected an object with in, out, params or bias")
        strange = [key for key in entry if key not in (*ROLES, *_SETTINGS, *_FACTS)]
        if strange:
            self.fail(f"'{strange[0]}' is no part of a layer", "a layer has in, out, params and bias")
        roles = {role: self.format(entry[role], role) for role in ROLES if role in entry}
        if not roles:
            self.fail("none of in, out, params and bias is given")
        params = roles.get("params")
        bias = roles.get("bias", _bias_beside(params))
        in_place = entry.get("in_place", True)
        if not isinstance(in_place, bool):
            self.fail(f"in_place is true or false, not {in_place!r}")
        return LayerFormats(roles.get("in"), roles.get("out"), params, bias, self.rounding(entry), in_place)

    def rounding(self, entry: Mapping[str, Any]) -> Rounding | None:
        if "rounding" not in entry:
            return None
        known = [rounding.value for rounding in Rounding]
        if entry["rounding"] not in known:
            self.fail(f"there is no rounding {entry['rounding']!r}", f"use one of {', '.join(known)}")
        return Rounding(entry["rounding"])

    def format(self, entry: Any, role: Role) -> Format | None:
        """A format; null is float."""
        if entry is None:
            return None
        if not isinstance(entry, Mapping):
            self.fail(f'{role} must be an object such as {{"bw": 8, "fl": 5}}')
        keys = next(keys for sign, keys in _KINDS if not sign or sign in entry)
        strange = [key for key in entry if key not in keys]
        if strange:
            self.fail(f"'{strange[0]}' is no part of the format of {role}", f"it has {', '.join(sorted(keys))}")
        try:
            fmt = self.made(entry, role)
        except FormatError as error:
            raise FormatError(error.what, file=self.file, layer=self.name, cure=error.cure) from error
        if isinstance(fmt, ChannelFixedPoint) and role in ("in", "out"):
            self.fail(f"{role} has one fractional length, not one for each channel", "write bw and fl")
        return fmt

    def made(self, entry: Mapping[str, Any], role: Role) -> Format:
        def whole(key: str) -> int:
            value = entry.get(key)
            if isinstance(value, bool) or not isinstance(value, int):
                self.fail(f"{role} needs a whole number {key}")
            return value

        def flag(key: str, default: bool) -> bool:
            value = entry.get(key, default)
            if not isinstance(value, bool):
                self.fail(f"{key} of {role} is true or false, not {value!r}")
            return value

        if "fls" in entry:
            fls = entry["fls"]
            if not isinstance(fls, list):
                self.fail(f"{role} needs a list fls of whole numbers")
            return ChannelFixedPoint(whole("bw"), tuple(fls))
        if "float_format" in entry:
            return parse_minifloat(str(entry["float_format"]))
        if "exp_bits" in entry or "mant_bits" in entry:
            return Minifloat(exp_bits=whole("exp_bits"), mant_bits=whole("mant_bits"))
        if "exp_min" in entry or "exp_max" in entry:
            return PowerOfTwo(whole("exp_min"), whole("exp_max"), flag("keep_zero", default=False))
        return DynamicFixedPoint(whole("bw"), whole("fl"), flag("signed", default=True))

    def fail(self, what: str, cure: str = "") -> NoReturn:
        raise FormatError(what, file=self.file, layer=self.name, cure=cure)

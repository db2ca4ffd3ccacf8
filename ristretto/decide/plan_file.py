"""A plan as JSON: {"layers": {NAME: {"in": {"bw": 8, "fl": 5}, "out": ..., "params": ..., "bias": ...}}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ristretto.decide.plan import QuantPlan
from ristretto.errors import FormatError
from ristretto.numerics.formats import DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import ROLES, LayerFormats

_FACTS = ("type", "group", "ranges", "integer_lengths")
"""What a report tells of a layer besides its formats."""


def format_to_json(fmt: Format) -> dict[str, int | bool]:
    """A format as its defining numbers."""
    if isinstance(fmt, DynamicFixedPoint):
        unsigned: dict[str, int | bool] = {} if fmt.signed else {"signed": False}
        return {"bw": fmt.bw, "fl": fmt.fl, **unsigned}
    if isinstance(fmt, Minifloat):
        return {"exp_bits": fmt.exp_bits, "mant_bits": fmt.mant_bits}
    return {"exp_min": fmt.exp_min, "exp_max": fmt.exp_max}


def layer_to_json(formats: LayerFormats) -> dict[str, dict[str, int | bool]]:
    """A layer's formats by role; a role left in float is left out."""
    return {role: format_to_json(fmt) for role in ROLES if (fmt := formats.at(role)) is not None}


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
    return QuantPlan({str(name): _layer(entry, str(name), file) for name, entry in layers.items()})


def _layer(entry: Any, name: str, file: str) -> LayerFormats:
    if not isinstance(entry, Mapping):
        raise FormatError("expected an object with in, out, params or bias", file=file, layer=name)
    strange = [key for key in entry if key not in (*ROLES, *_FACTS)]
    if strange:
        cure = "a layer has in, out, params and bias"
        raise FormatError(f"'{strange[0]}' is no part of a layer", file=file, layer=name, cure=cure)
    roles = {role: _format(entry[role], role, name, file) for role in ROLES if role in entry}
    if not roles:
        raise FormatError("none of in, out, params and bias is given", file=file, layer=name)
    params = roles.get("params")
    bias = roles.get("bias", None if isinstance(params, PowerOfTwo) else params)
    return LayerFormats(roles.get("in"), roles.get("out"), params, bias)


def _format(entry: Any, role: str, name: str, file: str) -> Format:
    def whole(key: str) -> int:
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise FormatError(f"{role} needs a whole number {key}", file=file, layer=name)
        return value

    if not isinstance(entry, Mapping):
        raise FormatError(f'{role} must be an object such as {{"bw": 8, "fl": 5}}', file=file, layer=name)
    try:
        if "exp_bits" in entry or "mant_bits" in entry:
            return Minifloat(exp_bits=whole("exp_bits"), mant_bits=whole("mant_bits"))
        if "exp_min" in entry or "exp_max" in entry:
            return PowerOfTwo(whole("exp_min"), whole("exp_max"))
        return DynamicFixedPoint(whole("bw"), whole("fl"), entry.get("signed", True) is True)
    except FormatError as error:
        raise FormatError(error.what, file=file, layer=name, cure=error.cure) from error

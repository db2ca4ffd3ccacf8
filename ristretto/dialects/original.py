"""The original's quantization_param, and the same with the fields of our own that extend it (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ristretto.caffe.netspec import type_of
from ristretto.dialects.base import WHOLE_WORD, Formats, Said, Settled, with_sign
from ristretto.dialects.fields import (
    PLAIN_TYPES,
    Dialect,
    formats_of,
    has_formats,
    quantization_fields,
    takes_formats,
    type_with_formats,
)
from ristretto.dialects.settling import Settler, bias_without_effect
from ristretto.dialects.wiring import Wiring
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats


@dataclass(frozen=True, slots=True)
class Ristretto:
    """Reads and writes for Ristretto: the C++ tool, or this one, which understands more."""

    name: Dialect
    title: str

    def read(self, wiring: Wiring, nearest: bool) -> Formats:
        """The formats that a net states; see ``DialectModule``. Scales are powers of two anyway."""
        kinds = ((place.name, type_of(place.view), place.view) for place in wiring.places)
        return {name: formats_of(kind, view) for name, kind, view in kinds if has_formats(kind, view)}

    def settle(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> Settled:
        """The nearest formats that can be said; see ``DialectModule``. What no prototxt can say is left to ``say``."""
        settled: Formats = {}
        if self.name == "extended":
            return Settled(dict(plan))
        refusals = []
        for place in wiring.places:
            kind = type_of(place.view)
            formats = plan.get(place.name)
            if formats is None or place.name in settled or not takes_formats(kind):
                continue
            settler = Settler(place.name)
            if not place.has_bias and not isinstance(formats.params, Minifloat):
                formats = replace(formats, bias=bias_without_effect(formats.params))
            if type_with_formats(kind, formats) in PLAIN_TYPES:
                settler.refuse(f"formats of a layer of type '{place.kind}'", "float")
            else:
                settled[place.name] = _settle(formats, settler)
            refusals += settler.refusals
        return Settled(settled, tuple(refusals))

    def say(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> dict[int, Said]:
        """The fields of each layer; see ``DialectModule``.

        Raises:
            FormatError: no prototxt can say this.
        """
        said = {}
        for number, place in enumerate(wiring.places):
            formats, kind = plan.get(place.name), type_of(place.view)
            if formats is None or not takes_formats(kind):
                continue
            kind = type_with_formats(kind, formats)
            lines = quantization_fields(place.name, formats, self.name, plain=kind in PLAIN_TYPES)
            said[number] = Said(kind, "quantization_param", tuple(lines))
        return said


def _settle(formats: LayerFormats, settler: Settler) -> LayerFormats:
    """The nearest formats of one layer that the C++ tool knows."""
    minifloat = next((fmt for fmt in (formats.params, formats.input) if isinstance(fmt, Minifloat)), None)
    if minifloat is not None:
        plain = Minifloat(minifloat.exp_bits, minifloat.mant_bits)
        settler.instead("in", formats.input, plain)
        settler.instead("out", formats.output, plain)
        settler.instead("params", formats.params, plain)
        settler.instead("bias", formats.bias, plain)
        settled = LayerFormats(plain, plain, plain, plain, formats.rounding)
    else:
        params = _weights(formats.params, settler)
        settled = LayerFormats(
            settler.instead("in", formats.input, _signed(formats.input)),
            settler.instead("out", formats.output, _signed(formats.output)),
            params,
            settler.instead("bias", formats.bias, None if isinstance(params, PowerOfTwo) else params),
            formats.rounding,
        )
    if not formats.in_place and formats.input is not None:
        settler.refuse("a bottom rounded for this layer alone", "a bottom rounded for all that read it")
    return settled


def _signed(fmt: Format | None) -> Format:
    return with_sign(fmt, signed=True) if isinstance(fmt, DynamicFixedPoint) else fmt or WHOLE_WORD


def _weights(fmt: Format | None, settler: Settler) -> Format:
    if isinstance(fmt, ChannelFixedPoint):
        return settler.instead("params", fmt, DynamicFixedPoint(fmt.bw, min(fmt.fls)))
    if isinstance(fmt, PowerOfTwo):
        return settler.instead("params", fmt, replace(fmt, keep_zero=False))
    return settler.instead("params", fmt, fmt or WHOLE_WORD)


ORIGINAL = Ristretto("original", "the original")
EXTENDED = Ristretto("extended", "the extended")

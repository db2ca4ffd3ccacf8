"""Number formats: frozen values that round arrays, and store them as integers (docs/formats.md).

Every format has ``quantize`` (to the nearest values that it holds, in the dtype of the array), ``encode`` (to the
stored integers), ``decode`` (back), ``min``, ``max`` and ``bw``, its bits.

>>> import numpy as np
>>> from ristretto import formats
>>> eight = formats.FixedPoint(bw=8, fl=5)
>>> eight.quantize(np.array([0.1, -9.0, 3.99], np.float32))
array([ 0.09375, -4.     ,  3.96875], dtype=float32)
>>> eight.encode(np.array([0.1, -9.0, 3.99]))
array([   3, -128,  127])
>>> formats.parse("<8, 5>") == eight
True
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ristretto.errors import FormatError
from ristretto.numerics.formats import (
    NAMED,
    ChannelFixedPoint,
    DynamicFixedPoint,
    Format,
    Minifloat,
    PowerOfTwo,
    ValueFormat,
    parse_minifloat,
)
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding

__all__ = [
    "NAMED",
    "ChannelFixedPoint",
    "FixedPoint",
    "Format",
    "LayerFormats",
    "Minifloat",
    "PowerOfTwo",
    "Rounding",
    "ValueFormat",
    "describe",
    "parse",
]

FixedPoint = DynamicFixedPoint
"""Fixed point: value = code * 2**-fl; ``bw`` bits, the sign bit included unless ``signed`` is False."""

_SPELLINGS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Format]], ...] = (
    (
        re.compile(r"(u?)<\s*(\d+)\s*,\s*(-?\d+)\s*>"),
        lambda found: DynamicFixedPoint(int(found[2]), int(found[3]), not found[1]),
    ),
    (re.compile(r"2\^(-?\d+)\.\.(-?\d+)"), lambda found: PowerOfTwo(int(found[1]), int(found[2]))),
)


def parse(text: str) -> Format:
    """The format that its ``str``, as in tables and logs, stands for.

    >>> parse("u<8, 8>")
    DynamicFixedPoint(bw=8, fl=8, signed=False)
    >>> parse("2^-8..-1")
    PowerOfTwo(exp_min=-8, exp_max=-1, keep_zero=False)
    >>> parse("half").max
    65504.0

    Args:
        text: "<bw, fl>", "u<bw, fl>", "2^least..greatest", widths such as "e5m10", or a name of NAMED.

    Raises:
        FormatError: it stands for none, or for one that cannot exist.
    """
    for spelling, make in _SPELLINGS:
        found = spelling.fullmatch(text.strip())
        if found is not None:
            return make(found)
    try:
        return parse_minifloat(text.strip())
    except FormatError as error:
        cure = f"write <8, 5> for fixed point, 2^-8..-1 for powers of two, e5m10 or one of {', '.join(NAMED)}"
        raise FormatError(f"'{text}' is no number format", cure=cure) from error


def describe(fmt: Format) -> str:
    """A format in words: its bits, and what it holds.

    >>> describe(FixedPoint(8, 5))
    '8 bits, signed, 5 of them fractional: -4 to 3.96875 in steps of 0.03125'
    >>> describe(PowerOfTwo(-8, -1))
    '4 bits: powers of two from 0.00390625 to 0.5, and their negatives'
    """
    if isinstance(fmt, DynamicFixedPoint):
        sign = "signed" if fmt.signed else "unsigned"
        return (
            f"{fmt.bw} bits, {sign}, {fmt.fl} of them fractional: {fmt.min:g} to {fmt.max:g} in steps of {fmt.step:g}"
        )
    if isinstance(fmt, ChannelFixedPoint):
        lengths = f"{min(fmt.fls)} to {max(fmt.fls)} of them fractional"
        return f"{fmt.bw} bits, signed, {lengths}, for each of {len(fmt.fls)} channels"
    if isinstance(fmt, PowerOfTwo):
        zero = ", zero" if fmt.keep_zero else ""
        return f"{fmt.bw} bits: powers of two from {2.0**fmt.exp_min:g} to {fmt.max:g}, and their negatives{zero}"
    parts = f"{fmt.exp_bits} of them exponent, {fmt.mant_bits} mantissa"
    return f"{fmt.bw} bits, {parts}: magnitudes from {fmt.tiny:g} to {fmt.max:g}"

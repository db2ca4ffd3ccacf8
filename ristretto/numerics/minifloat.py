"""Floating point with few bits: the original's minifloat, IEEE half and its relatives, 8-bit floats."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ristretto.errors import FormatError
from ristretto.numerics.fixed_point import check_whole
from ristretto.numerics.rounding import FloatT, Rounding, floats, round_to

_FLOAT32_TINY = 2.0**-126

Reserved = Literal["none", "nan", "exponent"]
FloatOverflow = Literal["saturate", "infinity"]


@dataclass(frozen=True, slots=True)
class Minifloat:
    """Floating point with few bits: (-1)**s * 2**(exponent - bias) * (1 + mantissa * 2**-mant_bits).

    As it stands every exponent is an ordinary one, as in the original: no subnormals, infinities or NaN, and zero is
    kept as zero. The original saturates before it rounds, so that a carry at the top exponent steps over the greatest
    value; here it saturates after. Ties go to the even mantissa.

    Stored as sign, exponent and mantissa from the top bit down. Without subnormals the code of all zeros would be
    2**-bias; it stands for zero, and +-2**-bias, for which no code is left, is stored as the next magnitude above it.

    Attributes:
        exp_bits: bits of the exponent.
        mant_bits: bits of the mantissa without the leading one.
        subnormals: whether exponent 0 means 2**(1 - bias) * mantissa * 2**-mant_bits.
        reserved: the codes that are no numbers: none, those of all ones alone (NaN, as in E4M3FN), or all that have
            the top exponent (infinity and NaN, as in IEEE 754).
        overflow: what a magnitude becomes that is rounded beyond the greatest value.
    """

    exp_bits: int
    mant_bits: int
    subnormals: bool = False
    reserved: Reserved = "none"
    overflow: FloatOverflow = "saturate"

    def __post_init__(self) -> None:
        check_whole(self.exp_bits, "exp_bits", 1, 8)
        check_whole(self.mant_bits, "mant_bits", 0, 23)
        if self.reserved not in get_args(Reserved) or self.overflow not in get_args(FloatOverflow):
            cure = f"reserved is one of {', '.join(get_args(Reserved))}, overflow saturate or infinity"
            raise FormatError(f"no minifloat has {self.reserved!r} and {self.overflow!r}", cure=cure)
        if self.reserved != "none" and self.exp_bits == 1:
            raise FormatError("one exponent bit leaves no exponent to reserve codes of", cure="give it two at least")
        if self.overflow == "infinity" and self.reserved != "exponent":
            raise FormatError("infinity needs a code of its own", cure='reserve one with reserved="exponent"')

    def __str__(self) -> str:
        name = _NAMES.get(self)
        if name is not None:
            return name
        words = [f"e{self.exp_bits}m{self.mant_bits}"]
        words += ["subnormals"] * self.subnormals
        words += [self.reserved] * (self.reserved != "none")
        words += [self.overflow] * (self.overflow != "saturate")
        return "+".join(words)

    @property
    def plain(self) -> bool:
        """Whether its two widths say all of it, as in the original."""
        return not self.subnormals and self.reserved == "none"

    @property
    def bw(self) -> int:
        """All bits, with the sign."""
        return 1 + self.exp_bits + self.mant_bits

    @property
    def bias(self) -> int:
        """What is taken off the stored exponent."""
        return (1 << (self.exp_bits - 1)) - 1

    @property
    def tiny(self) -> float:
        """The least magnitude above zero."""
        if self.subnormals and self.mant_bits:
            return math.ldexp(1.0, 1 - self.bias - self.mant_bits)
        return self.tiny_normal

    @property
    def tiny_normal(self) -> float:
        """The least magnitude with a leading one."""
        return math.ldexp(1.0, self.subnormals - self.bias)

    @property
    def max(self) -> float:
        """The greatest finite value that float32 holds too: with 8 bits an exponent of 128 is beyond it."""
        field, mantissa = (1 << self.exp_bits) - 1, (1 << self.mant_bits) - 1
        if self.reserved == "nan" and mantissa:
            mantissa -= 1
        elif self.reserved != "none":
            field -= 1
        if field - self.bias > 127:
            field, mantissa = 127 + self.bias, (1 << self.mant_bits) - 1
        return math.ldexp((1 << self.mant_bits) + mantissa, field - self.bias - self.mant_bits)

    @property
    def min(self) -> float:
        """The least finite value."""
        return -self.max

    def quantize(
        self, x: NDArray[FloatT], rounding: Rounding = Rounding.HALF_EVEN, rng: np.random.Generator | None = None
    ) -> NDArray[FloatT]:
        """Round the mantissa of each value, in the dtype of x; NaN stays NaN, zero keeps its sign.

        >>> Minifloat(4, 2).quantize(np.array([0.0, 1.125, -1.375, 1e9]))
        array([  0. ,   1. ,  -1.5, 448. ])
        >>> NAMED["half"].quantize(np.array([1e-7, 65519.0, 65520.0]))
        array([1.1920929e-07, 6.5504000e+04,           inf])
        """
        x = floats(x)
        exact = x.astype(np.float64)
        infinite = self.overflow == "infinity"
        # Above twice the greatest value all are alike; what is below may still round to it.
        magnitude = np.minimum(np.abs(exact), 2.0 * self.max if infinite else self.max)
        _, exponent = np.frexp(magnitude)
        power = exponent - 1
        if self.subnormals:
            power = np.maximum(power, 1 - self.bias)
        significand = np.ldexp(magnitude, -power)
        leading = np.where(significand >= 1.0, 1.0, 0.0)
        units = round_to(np.ldexp(significand - leading, self.mant_bits), rounding, rng)
        rounded = np.ldexp(leading + np.ldexp(units, -self.mant_bits), power)
        if not self.subnormals:
            rounded = np.where(magnitude < max(self.tiny, _FLOAT32_TINY), 0.0, rounded)
        rounded = np.where(rounded > self.max, math.inf if infinite else self.max, rounded)
        return np.where(np.isnan(exact), exact, np.copysign(rounded, exact)).astype(x.dtype)

    def encode(
        self,
        x: NDArray[np.floating],
        rounding: Rounding = Rounding.HALF_EVEN,
        rng: np.random.Generator | None = None,
    ) -> NDArray[np.uint32]:
        """The stored bits of values, as the class describes them; a NaN becomes a quiet one, without its sign.

        >>> [hex(code) for code in NAMED["half"].encode(np.array([1.0, -2.0, 65504.0, np.inf]))]
        ['0x3c00', '0xc000', '0x7bff', '0x7c00']

        Raises:
            FormatError: a value is NaN, and the format has none.
        """
        values = self.quantize(np.asarray(x, np.float64), rounding, rng)
        magnitude = np.abs(values)
        finite = np.where(np.isfinite(values), magnitude, 0.0)
        _, exponent = np.frexp(finite)
        power = np.maximum(exponent - 1, self.subnormals - self.bias)
        field = power + self.bias
        units = np.ldexp(finite, self.mant_bits - power).astype(np.int64)
        # The leading one takes the field one up; a subnormal has none, and its field 1 becomes 0 the same way.
        codes = ((field.astype(np.int64) - 1) << self.mant_bits) + units
        codes = np.where(finite == 0, 0, codes)
        if not self.subnormals:
            codes = np.where(finite == self.tiny, 1, codes)
        top = ((1 << self.exp_bits) - 1) << self.mant_bits
        codes = np.where(np.isinf(values), top, codes)
        if np.isnan(values).any():
            codes = np.where(np.isnan(values), self._nan_code(top), codes)
        negative = np.signbit(values) & ~np.isnan(values)
        result: NDArray[np.uint32] = (codes + (negative.astype(np.int64) << (self.bw - 1))).astype(np.uint32)
        return result

    def _nan_code(self, top: int) -> int:
        if self.reserved == "nan":
            return top | ((1 << self.mant_bits) - 1)
        if self.reserved == "exponent" and self.mant_bits:
            return top | (1 << (self.mant_bits - 1))
        raise FormatError(f"NaN has no code in {self}", cure="find the layer that makes it")

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.float64]:
        """The values of stored bits, exactly; where exp_bits is 8 the top exponent may be beyond float32.

        >>> NAMED["fp8_e4m3"].decode(np.array([0x00, 0x01, 0x7E, 0xB8, 0x7F]))
        array([ 0.000000e+00,  1.953125e-03,  4.480000e+02, -1.000000e+00,
                         nan])

        Raises:
            FormatError: a code has more bits than the format.
        """
        bits = np.asarray(codes, np.int64)
        if ((bits < 0) | (bits >> self.bw > 0)).any():
            raise FormatError(f"a code is beyond the {self.bw} bits of {self}", cure="were they stored in this format?")
        mantissa = bits & ((1 << self.mant_bits) - 1)
        field = (bits >> self.mant_bits) & ((1 << self.exp_bits) - 1)
        leading = np.where(self.subnormals & (field == 0), 0, 1 << self.mant_bits)
        power = np.maximum(field, self.subnormals) - self.bias - self.mant_bits
        magnitude = np.ldexp((leading + mantissa).astype(np.float64), power)
        if not self.subnormals:
            magnitude = np.where(field + mantissa == 0, 0.0, magnitude)
        top = field == (1 << self.exp_bits) - 1
        if self.reserved == "exponent":
            magnitude = np.where(top, np.where(mantissa == 0, math.inf, math.nan), magnitude)
        elif self.reserved == "nan":
            magnitude = np.where(top & (mantissa == (1 << self.mant_bits) - 1), math.nan, magnitude)
        result: NDArray[np.float64] = np.where(bits >> (self.bw - 1) == 1, -magnitude, magnitude)
        return result


NAMED: Mapping[str, Minifloat] = {
    "half": Minifloat(5, 10, subnormals=True, reserved="exponent", overflow="infinity"),
    "bfloat16": Minifloat(8, 7, subnormals=True, reserved="exponent", overflow="infinity"),
    "fp8_e4m3": Minifloat(4, 3, subnormals=True, reserved="nan"),
    "fp8_e5m2": Minifloat(5, 2, subnormals=True, reserved="exponent"),
}
"""Well-known formats by name: IEEE 754 binary16, bfloat16, and E4M3FN and E5M2 as ONNX's Cast saturates them."""

_NAMES = {fmt: name for name, fmt in NAMED.items()}

_SPELLING = re.compile(r"e(\d+)m(\d+)(\+subnormals)?(?:\+(nan|exponent))?(?:\+(infinity))?")


def parse_minifloat(text: str) -> Minifloat:
    """The format that ``str`` of a Minifloat, or a name of NAMED, stands for.

    >>> parse_minifloat("half") == parse_minifloat("e5m10+subnormals+exponent+infinity")
    True
    >>> parse_minifloat("e4m3")
    Minifloat(exp_bits=4, mant_bits=3, subnormals=False, reserved='none', overflow='saturate')

    Raises:
        FormatError: it stands for none.
    """
    if text in NAMED:
        return NAMED[text]
    match = _SPELLING.fullmatch(text)
    if match is None:
        cure = f"use {', '.join(NAMED)}, or widths such as e5m10"
        raise FormatError(f"'{text}' is no floating point format", cure=cure)
    exp_bits, mant_bits, subnormals, reserved, infinity = match.groups()
    return Minifloat(
        int(exp_bits),
        int(mant_bits),
        subnormals is not None,
        reserved or "none",  # type: ignore[arg-type]
        "infinity" if infinity else "saturate",
    )

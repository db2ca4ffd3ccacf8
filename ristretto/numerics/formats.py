"""Number formats as frozen values that round arrays onto their grid (pmgysel/caffe, base_ristretto_layer.cu)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ristretto.errors import FormatError
from ristretto.numerics.rounding import FloatT, Rounding, round_to

_FLOAT32_TINY = 2.0**-126


def _whole(value: object, name: str, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormatError(f"{name} must be a whole number, got {value!r}", cure=f"give {name} as an int")
    if not low <= value <= high:
        raise FormatError(f"{name} must be in {low}..{high}, got {value}", cure=f"choose {name} in that range")


@dataclass(frozen=True, slots=True)
class DynamicFixedPoint:
    """Fixed point with a point of its own: value = code * 2**-fl, codes in two's complement or unsigned.

    Attributes:
        bw: all bits, the sign bit included where there is one.
        fl: fractional length; negative or greater than bw where the values are large or small.
        signed: whether there is a sign bit.
    """

    bw: int
    fl: int
    signed: bool = True

    def __post_init__(self) -> None:
        _whole(self.bw, "bw", 1, 32)
        _whole(self.fl, "fl", -128, 256)

    def __str__(self) -> str:
        return f"<{self.bw}, {self.fl}>" if self.signed else f"u<{self.bw}, {self.fl}>"

    @property
    def il(self) -> int:
        """Integer length."""
        return self.bw - self.fl

    @property
    def step(self) -> float:
        """The weight of the last bit."""
        return math.ldexp(1.0, -self.fl)

    @property
    def min_code(self) -> int:
        """The least stored integer."""
        return -(1 << (self.bw - 1)) if self.signed else 0

    @property
    def max_code(self) -> int:
        """The greatest stored integer."""
        return (1 << (self.bw - 1 if self.signed else self.bw)) - 1

    @property
    def min(self) -> float:
        """The least value."""
        return math.ldexp(self.min_code, -self.fl)

    @property
    def max(self) -> float:
        """The greatest value."""
        return math.ldexp(self.max_code, -self.fl)

    def quantize(
        self, x: NDArray[FloatT], rounding: Rounding = Rounding.HALF_EVEN, rng: np.random.Generator | None = None
    ) -> NDArray[FloatT]:
        """Saturate, then round onto the grid, in the dtype of x; NaN stays NaN.

        The bounds are those of the dtype: above 24 bits float32 rounds the greatest value up to a power of two, as the
        original's C++ does, and where the dtype cannot hold a value of the grid at all it becomes infinite.

        >>> DynamicFixedPoint(4, 1).quantize(np.array([-9.0, -0.25, 0.75, 9.0])) + 0.0
        array([-4. ,  0. ,  1. ,  3.5])
        """
        dtype = x.dtype
        with np.errstate(over="ignore"):
            saturated = np.clip(x, dtype.type(self.min), dtype.type(self.max))
            codes = round_to(np.ldexp(saturated, self.fl), rounding, rng)
            result: NDArray[FloatT] = np.ldexp(codes, -self.fl).astype(dtype, copy=False)
        return result

    def encode(
        self,
        x: NDArray[np.floating],
        rounding: Rounding = Rounding.HALF_EVEN,
        rng: np.random.Generator | None = None,
    ) -> NDArray[np.int64]:
        """The stored integers of values, always within the codes of the format.

        >>> DynamicFixedPoint(4, 1).encode(np.array([-9.0, 0.75, 9.0]))
        array([-8,  2,  7])

        Raises:
            FormatError: a value is NaN.
        """
        exact = np.asarray(x, np.float64)
        if np.isnan(exact).any():
            raise FormatError("NaN has no code", cure="find the layer that makes it")
        scaled: NDArray[np.float64] = np.ldexp(np.clip(exact, self.min, self.max), self.fl)
        codes: NDArray[np.float64] = np.clip(round_to(scaled, rounding, rng), self.min_code, self.max_code)
        return codes.astype(np.int64)

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.float64]:
        """The values of stored integers, exactly.

        >>> DynamicFixedPoint(4, 1).decode(np.array([-8, 2, 7]))
        array([-4. ,  1. ,  3.5])
        """
        return np.ldexp(np.asarray(codes, np.float64), -self.fl)


@dataclass(frozen=True, slots=True)
class ChannelFixedPoint:
    """Fixed point weights with a fractional length for each output channel, which is axis 0 of the array.

    Attributes:
        bw: all bits, the sign bit included.
        fls: fractional length of each channel.
    """

    bw: int
    fls: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.fls:
            raise FormatError("a format by channel needs a fractional length for each", cure="give one at least")
        _ = self.channels

    def __str__(self) -> str:
        return f"<{self.bw}, {min(self.fls)}..{max(self.fls)}>"

    @property
    def channels(self) -> tuple[DynamicFixedPoint, ...]:
        """The format of each channel."""
        return tuple(DynamicFixedPoint(self.bw, fl) for fl in self.fls)

    @property
    def max(self) -> float:
        """The greatest value of all channels."""
        return DynamicFixedPoint(self.bw, min(self.fls)).max

    @property
    def min(self) -> float:
        """The least value of all channels."""
        return DynamicFixedPoint(self.bw, min(self.fls)).min

    def quantize(
        self, x: NDArray[FloatT], rounding: Rounding = Rounding.HALF_EVEN, rng: np.random.Generator | None = None
    ) -> NDArray[FloatT]:
        """Saturate and round channel by channel, in the dtype of x.

        Raises:
            FormatError: x has another number of channels.
        """
        self._check(x.shape)
        rounded = [fmt.quantize(channel, rounding, rng) for fmt, channel in zip(self.channels, x, strict=True)]
        return np.stack(rounded)

    def encode(
        self,
        x: NDArray[np.floating],
        rounding: Rounding = Rounding.HALF_EVEN,
        rng: np.random.Generator | None = None,
    ) -> NDArray[np.int64]:
        """The stored integers of values, channel by channel."""
        self._check(x.shape)
        return np.stack([fmt.encode(channel, rounding, rng) for fmt, channel in zip(self.channels, x, strict=True)])

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.float64]:
        """The values of stored integers, exactly."""
        self._check(codes.shape)
        return np.stack([fmt.decode(channel) for fmt, channel in zip(self.channels, codes, strict=True)])

    def _check(self, shape: tuple[int, ...]) -> None:
        if not shape or shape[0] != len(self.fls):
            found = shape[0] if shape else 0
            raise FormatError(f"{len(self.fls)} fractional lengths for {found} channels", cure="give one a channel")


@dataclass(frozen=True, slots=True)
class Minifloat:
    """Floating point with few bits: (-1)**s * 2**(exponent - bias) * (1 + mantissa * 2**-mant_bits).

    Every exponent is an ordinary one: no subnormals, infinities or NaN. Zero is kept as zero. The original saturates
    before it rounds, so that a carry at the top exponent steps over the greatest value; here it saturates after.

    Attributes:
        exp_bits: bits of the exponent.
        mant_bits: bits of the mantissa without the leading one.
    """

    exp_bits: int
    mant_bits: int

    def __post_init__(self) -> None:
        _whole(self.exp_bits, "exp_bits", 1, 8)
        _whole(self.mant_bits, "mant_bits", 0, 23)

    def __str__(self) -> str:
        return f"e{self.exp_bits}m{self.mant_bits}"

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
        return math.ldexp(1.0, -self.bias)

    @property
    def max(self) -> float:
        """The greatest value that float32 holds too: with 8 bits the top exponent, 128, is beyond it."""
        top = min((1 << self.exp_bits) - 1 - self.bias, 127)
        return math.ldexp(2.0 - math.ldexp(1.0, -self.mant_bits), top)

    @property
    def min(self) -> float:
        """The least value."""
        return -self.max

    def quantize(
        self, x: NDArray[FloatT], rounding: Rounding = Rounding.HALF_EVEN, rng: np.random.Generator | None = None
    ) -> NDArray[FloatT]:
        """Round the mantissa of each value, in the dtype of x; NaN stays NaN.

        >>> Minifloat(4, 2).quantize(np.array([0.0, 1.125, -1.375, 1e9]))
        array([  0. ,   1. ,  -1.5, 448. ])
        """
        exact = np.asarray(x, np.float64)
        magnitude = np.minimum(np.abs(exact), self.max)
        fraction, exponent = np.frexp(magnitude)
        mantissa = round_to(np.ldexp(2.0 * fraction - 1.0, self.mant_bits), rounding, rng)
        rounded = np.ldexp(1.0 + np.ldexp(mantissa, -self.mant_bits), exponent - 1)
        rounded = np.where(magnitude < max(self.tiny, _FLOAT32_TINY), 0.0, np.minimum(rounded, self.max))
        return np.where(np.isnan(exact), exact, np.copysign(rounded, exact)).astype(x.dtype)


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Signed powers of two with an exponent in exp_min..exp_max.

    Attributes:
        exp_min, exp_max: the exponents.
        keep_zero: whether zero stays zero; the original makes it +2**exp_min.
    """

    exp_min: int
    exp_max: int
    keep_zero: bool = False

    def __post_init__(self) -> None:
        _whole(self.exp_min, "exp_min", -126, 127)
        _whole(self.exp_max, "exp_max", -126, 127)
        if self.exp_min > self.exp_max:
            raise FormatError(f"exp_min {self.exp_min} is above exp_max {self.exp_max}", cure="swap the two")

    def __str__(self) -> str:
        return f"2^{self.exp_min}..{self.exp_max}"

    @property
    def max(self) -> float:
        """The greatest value."""
        return math.ldexp(1.0, self.exp_max)

    @property
    def min(self) -> float:
        """The least value."""
        return -self.max

    def quantize(
        self, x: NDArray[FloatT], rounding: Rounding = Rounding.HALF_EVEN, rng: np.random.Generator | None = None
    ) -> NDArray[FloatT]:
        """The nearest power of two on the scale of logarithms, with the sign, in the dtype of x.

        No logarithm of a float is a tie, so all roundings but the stochastic one mean the nearest.

        >>> PowerOfTwo(-8, -1).quantize(np.array([0.0, 0.3, -0.4, 7.0]))
        array([ 0.00390625,  0.25      , -0.5       ,  0.5       ])
        """
        exact = np.asarray(x, np.float64)
        # An infinite value has no exponent; the greatest power that any format may have stands for it.
        fraction, exponent = np.frexp(np.minimum(np.abs(exact), np.ldexp(1.0, 128)))
        if Rounding(rounding) is Rounding.STOCHASTIC:
            if rng is None:
                message = "stochastic rounding needs a random generator"
                raise ValueError(message)
            up = rng.random(exact.shape) < np.log2(np.where(fraction > 0, 2.0 * fraction, 1.0))
        else:
            up = 2.0 * fraction >= math.sqrt(2.0)
        nearest = np.where(exact == 0, self.exp_min, exponent - 1 + up)
        magnitude = np.ldexp(1.0, np.clip(nearest, self.exp_min, self.exp_max))
        signed = np.where(exact < 0, -magnitude, magnitude)
        if self.keep_zero:
            signed = np.where(exact == 0, 0.0, signed)
        return np.where(np.isnan(exact), exact, signed).astype(x.dtype)


Format: TypeAlias = DynamicFixedPoint | ChannelFixedPoint | Minifloat | PowerOfTwo

NAMED: Mapping[str, Minifloat] = {}
"""Well-known formats by name."""

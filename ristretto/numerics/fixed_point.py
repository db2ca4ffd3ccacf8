"""Fixed point: one point for a whole array, or one for each channel of its weights (base_ristretto_layer.cu)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.errors import FormatError
from ristretto.numerics.rounding import FloatT, Rounding, floats, round_to


def check_whole(value: object, name: str, low: int, high: int) -> None:
    """Refuse what is no whole number in a range.

    Raises:
        FormatError: it is none.
    """
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
        check_whole(self.bw, "bw", 1, 32)
        check_whole(self.fl, "fl", -128, 256)

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
        x = floats(x)
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

    It is for weights, whose channels are known; values that flow through a net have one format each.

    Attributes:
        bw: all bits, the sign bit included.
        fls: fractional length of each channel.
    """

    bw: int
    fls: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.fls:
            raise FormatError("a format by channel needs a fractional length for each", cure="give one at least")
        _ = self.channels  # each checks its numbers

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
        x = floats(x)
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
        self._check(np.shape(x))
        return np.stack([fmt.encode(channel, rounding, rng) for fmt, channel in zip(self.channels, x, strict=True)])

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.float64]:
        """The values of stored integers, exactly."""
        self._check(np.shape(codes))
        return np.stack([fmt.decode(channel) for fmt, channel in zip(self.channels, codes, strict=True)])

    def _check(self, shape: tuple[int, ...]) -> None:
        if not shape or shape[0] != len(self.fls):
            found = shape[0] if shape else 0
            raise FormatError(f"{len(self.fls)} fractional lengths for {found} channels", cure="give one a channel")

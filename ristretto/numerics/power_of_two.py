"""Powers of two, by which a shifter multiplies (base_ristretto_layer.cu, Trim2IntegerPowerOf2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.errors import FormatError
from ristretto.numerics.fixed_point import check_whole
from ristretto.numerics.rounding import FloatT, Rounding, floats


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Signed powers of two with an exponent in exp_min..exp_max.

    Stored as a sign bit above an index: with ``keep_zero`` index 0 is zero and exp_min has index 1, else exp_min has
    index 0. The index has as many bits as its greatest value needs.

    Attributes:
        exp_min, exp_max: the exponents.
        keep_zero: whether zero stays zero; the original makes it +2**exp_min.
    """

    exp_min: int
    exp_max: int
    keep_zero: bool = False

    def __post_init__(self) -> None:
        check_whole(self.exp_min, "exp_min", -126, 127)
        check_whole(self.exp_max, "exp_max", -126, 127)
        if self.exp_min > self.exp_max:
            raise FormatError(f"exp_min {self.exp_min} is above exp_max {self.exp_max}", cure="swap the two")

    def __str__(self) -> str:
        return f"2^{self.exp_min}..{self.exp_max}"

    @property
    def bw(self) -> int:
        """All bits, with the sign."""
        return 1 + self._top.bit_length()

    @property
    def _top(self) -> int:
        """The greatest index."""
        return self.exp_max - self.exp_min + self.keep_zero

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
        x = floats(x)
        exact = x.astype(np.float64)
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

    def encode(
        self,
        x: NDArray[np.floating],
        rounding: Rounding = Rounding.HALF_EVEN,
        rng: np.random.Generator | None = None,
    ) -> NDArray[np.uint32]:
        """The stored bits of values, as the class describes them.

        >>> PowerOfTwo(-8, -1).encode(np.array([0.25, -0.25]))
        array([ 6, 14], dtype=uint32)

        Raises:
            FormatError: a value is NaN.
        """
        values = self.quantize(np.asarray(x, np.float64), rounding, rng)
        if np.isnan(values).any():
            raise FormatError("NaN has no code", cure="find the layer that makes it")
        _, exponent = np.frexp(values)
        index = np.where(values == 0, 0, exponent - 1 - self.exp_min + self.keep_zero)
        codes: NDArray[np.uint32] = (index + ((values < 0).astype(np.int64) << (self.bw - 1))).astype(np.uint32)
        return codes

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.float64]:
        """The values of stored bits, exactly.

        >>> PowerOfTwo(-8, -1).decode(np.array([6, 14]))
        array([ 0.25, -0.25])

        Raises:
            FormatError: a code stands for no value.
        """
        bits = np.asarray(codes, np.int64)
        negative, index = bits >> (self.bw - 1), bits & ((1 << (self.bw - 1)) - 1)
        zero = (index == 0) & self.keep_zero
        if ((bits < 0) | (negative > 1) | (index > self._top)).any():
            raise FormatError(f"a code is beyond those of {self}", cure="were they stored in this format?")
        magnitude = np.where(zero, 0.0, np.ldexp(1.0, index + self.exp_min - self.keep_zero))
        return np.where(negative == 1, -magnitude, magnitude)

"""How sums and products are computed when a net is simulated."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ristretto.errors import FormatError


class Arithmetic(str, Enum):
    """The arithmetic of a simulation.

    FLOAT32 is what the original does (Net<float>), FLOAT64 its Net<double>. INTEGER computes quantized layers on codes,
    as an accelerator would: exact products and sums, one rounding at the end.
    """

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INTEGER = "integer"


class Overflow(str, Enum):
    """What an accumulator does with a sum that it cannot hold; REPORT keeps the exact sum and counts it."""

    SATURATE = "saturate"
    WRAP = "wrap"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Accumulator:
    """The register that products are added up in: two's complement.

    Attributes:
        bw: its bits, 2 to 48.
        overflow: what happens to a sum beyond them.
    """

    bw: int = 32
    overflow: Overflow = Overflow.SATURATE

    def __post_init__(self) -> None:
        if not 2 <= self.bw <= 48:
            cure = "32 is what the original assumes"
            raise FormatError(f"an accumulator has 2 to 48 bits, not {self.bw}", cure=cure)

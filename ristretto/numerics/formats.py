"""Number formats as frozen values that round arrays onto their grid: all kinds together (docs/formats.md)."""

from __future__ import annotations

from typing import TypeAlias

from ristretto.numerics.fixed_point import ChannelFixedPoint, DynamicFixedPoint
from ristretto.numerics.minifloat import NAMED, Minifloat, parse_minifloat
from ristretto.numerics.power_of_two import PowerOfTwo

__all__ = [
    "NAMED",
    "ChannelFixedPoint",
    "DynamicFixedPoint",
    "Format",
    "Minifloat",
    "PowerOfTwo",
    "ValueFormat",
    "parse_minifloat",
]

ValueFormat: TypeAlias = DynamicFixedPoint | Minifloat | PowerOfTwo
"""What values that flow through a net can have."""

Format: TypeAlias = ValueFormat | ChannelFixedPoint
"""What weights can have."""

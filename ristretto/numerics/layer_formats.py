"""The number formats of one layer, by role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ristretto.numerics.formats import Format
from ristretto.numerics.rounding import Rounding

Role = Literal["in", "out", "params", "bias"]
ROLES: tuple[Role, ...] = ("in", "out", "params", "bias")


@dataclass(frozen=True, slots=True)
class LayerFormats:
    """What a quantized layer rounds its values to; None leaves a role in float.

    Attributes:
        input: format of the bottoms, which are rounded before the layer reads them.
        output: format of the tops.
        params: format of the first weight blob.
        bias: format of the bias.
        rounding: the layer's own rounding, or None for the run's.
        in_place: whether the bottoms are rounded where they lie, as the original does, so that later readers of the
            same blob see them rounded; else the layer reads a rounded copy.
    """

    input: Format | None = None
    output: Format | None = None
    params: Format | None = None
    bias: Format | None = None
    rounding: Rounding | None = None
    in_place: bool = True

    def at(self, role: Role) -> Format | None:
        """The format of a role."""
        by_role = {"in": self.input, "out": self.output, "params": self.params, "bias": self.bias}
        return by_role[role]


FLOAT_LAYER = LayerFormats()
"""A layer that stays float."""

"""Bringing the formats of one layer within what a dialect can say, and noting what had to give way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ristretto.dialects.base import WHOLE_WORD, Formats, Refusal, describe, seen_alike, with_sign, with_width
from ristretto.dialects.wiring import Place, Wiring
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format
from ristretto.numerics.layer_formats import LayerFormats, Role

FormatT = TypeVar("FormatT", bound=Format | None)

_WORDS: Mapping[Role, str] = {"in": "an input", "out": "an output", "params": "weights", "bias": "a bias"}


@dataclass(slots=True)
class Settler:
    """Notes what of a layer cannot be said, and gives what comes nearest."""

    layer: str
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, what: str, nearest: str = "", cure: str = "") -> None:
        """Note something that cannot be said, and the nearest setting that can, or what else to do."""
        self.refusals.append(Refusal(self.layer, what, nearest, cure))

    def fixed(
        self, role: Role, fmt: Format | None, widths: Collection[int], *, signed: bool = True
    ) -> DynamicFixedPoint | None:
        """The nearest fixed point format of one of some widths, with or without a sign; None where there is none."""
        if not isinstance(fmt, DynamicFixedPoint) or fmt == WHOLE_WORD:
            kind = "of 32 bits for no values in particular" if fmt == WHOLE_WORD else f"in {describe(fmt)}"
            self.refuse(f"{_WORDS[role]} {kind}")
            return None
        near = with_sign(with_width(fmt, nearest_width(fmt.bw, widths)), signed=signed)
        return self.instead(role, fmt, near)

    def weights(
        self, fmt: Format | None, widths: Collection[int], *, by_channel: bool = True
    ) -> DynamicFixedPoint | ChannelFixedPoint | None:
        """The nearest format of weights: one for all channels, or where that can be said, one for each."""
        if not isinstance(fmt, ChannelFixedPoint):
            return self.fixed("params", fmt, widths)
        bw = nearest_width(fmt.bw, widths)
        if by_channel:
            return self.instead("params", fmt, ChannelFixedPoint(bw, tuple(fl + bw - fmt.bw for fl in fmt.fls)))
        return self.instead("params", fmt, DynamicFixedPoint(bw, min(fmt.fls) + bw - fmt.bw))

    def instead(self, role: Role, fmt: Format | None, near: FormatT) -> FormatT:
        """Note a format that has to give way to another, if it is another."""
        if near != fmt:
            self.refuse(f"{_WORDS[role]} in {describe(fmt)}", describe(near))
        return near

    def own_rounding(self, formats: LayerFormats) -> None:
        """Note a rounding that the layer alone has."""
        if formats.rounding is not None:
            self.refuse(f"a rounding of its own ({formats.rounding.value})", "the rounding of the whole net")

    def rounds_for_all(self, wiring: Wiring, place: Place, plan: Mapping[str, LayerFormats]) -> None:
        """Note a bottom that is rounded in place where other layers see it, which dialects that copy cannot say."""
        formats = plan[place.name]
        if formats.in_place and formats.input is not None and not seen_alike(wiring, place, plan):
            other = wiring.others(place)[0].name
            self.refuse(f"a bottom rounded for '{other}' too", "a bottom rounded for this layer alone")


def nearest_width(bw: int, widths: Collection[int]) -> int:
    """The least of some widths that has room for a width, else the greatest."""
    return min((width for width in widths if width >= bw), default=max(widths))


def copied(wiring: Wiring, plan: Mapping[str, LayerFormats]) -> Formats:
    """A plan of layers that read a copy of their bottoms; as rounded in place where that is the same."""
    return {
        place.name: replace(
            plan[place.name],
            in_place=not place.is_plain and (plan[place.name].input is None or seen_alike(wiring, place, plan)),
        )
        for place in wiring.places
        if place.name in plan
    }


def without_effect(wiring: Wiring, plan: Mapping[str, LayerFormats]) -> set[str]:
    """The planned layers that only pass values on, in the format in which they lie already."""
    passing = {place.name for place in wiring.places if place.keeps_grid and place.name in plan}
    grids = wiring.stored({name: formats for name, formats in plan.items() if name not in passing})
    found = set()
    for place in wiring.places:
        if place.name in passing and place.inputs:
            formats, grid = plan[place.name], grids.get(place.inputs[0])
            if grid is not None and {formats.input, formats.output} <= {grid, None}:
                found.add(place.name)
    return found


def bias_without_effect(params: Format | None) -> Format | None:
    """What a layer that adds no bias states of it in the original's dialect: the format of its weights."""
    return params if isinstance(params, DynamicFixedPoint) else None

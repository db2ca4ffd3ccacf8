"""What a dialect is: a reader of formats, what it cannot say, and how it says the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ristretto.caffe.view import View
from ristretto.dialects.fields import Dialect as DialectName
from ristretto.dialects.wiring import Place, Wiring
from ristretto.errors import FormatError, RistrettoError
from ristretto.numerics.formats import DynamicFixedPoint, Format
from ristretto.numerics.layer_formats import LayerFormats

NOTHING_NEAR = "there is nothing near it; choose other formats"
"""What to do about most things that have no nearest setting."""

Formats = dict[str, LayerFormats]
"""Formats by layer name."""

WHOLE_WORD = DynamicFixedPoint(32, 16)
"""What the original rounds to where nothing is said: nearly float, fitted to no values."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a dialect cannot say.

    Attributes:
        layer: of which layer.
        what: what cannot be said.
        nearest: the nearest setting that can; "" where there is none.
        cure: what to do where there is none.
    """

    layer: str
    what: str
    nearest: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of a plan in a dialect: formats that it can say, and what had to give way."""

    formats: Formats
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """How a dialect says the formats of one layer: the layer's type, the field, and the lines of its message."""

    type: str
    field: str
    lines: tuple[str, ...]


class DialectModule(Protocol):
    """One reader of quantized prototxts."""

    @property
    def name(self) -> DialectName:
        """As it is chosen."""

    @property
    def title(self) -> str:
        """As errors call it."""

    def read(self, wiring: Wiring, nearest: bool) -> Formats:
        """The formats that a net states, as this reader understands it.

        Args:
            wiring: the net's layers.
            nearest: whether scales that are no powers of two become the nearest.

        Raises:
            RistrettoError: fields make no sense, or state what no format of ours is.
        """

    def settle(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> Settled:
        """The formats nearest to a plan's that can be said. What comes out is said, and read, as it is."""

    def say(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> dict[int, Said]:
        """How settled formats are said, by the number of the layer."""


def refuse(dialect: DialectModule, refusals: tuple[Refusal, ...], nearest: bool) -> None:
    """Raise a refusal that stands: the first that has nothing near it, else the first unless the nearest will do.

    Raises:
        FormatError: the layer, what cannot be said, and the nearest setting that can.
    """
    far = next((refusal for refusal in refusals if not refusal.nearest), None)
    first = far or (refusals[0] if refusals and not nearest else None)
    if first is None:
        return
    what = f"{first.what} cannot be said in {dialect.title}'s dialect"
    if far is not None:
        raise FormatError(what, layer=far.layer, cure=far.cure or NOTHING_NEAR)
    more = len({refusal.layer for refusal in refusals}) - 1
    others = f" (and for {more} more layer{'s' * (more > 1)})" if more else ""
    cure = f"the nearest is {first.nearest}, --nearest takes it{others}"
    cure += "; the extended dialect says it as it is" * (dialect.name == "original")
    raise FormatError(what, layer=first.layer, cure=cure)


def with_width(fmt: DynamicFixedPoint, bw: int) -> DynamicFixedPoint:
    """A format of another width and the same range."""
    return DynamicFixedPoint(bw, fmt.fl + bw - fmt.bw, fmt.signed)


def with_sign(fmt: DynamicFixedPoint, *, signed: bool) -> DynamicFixedPoint:
    """A format of the same width with or without a sign, that reaches as far up."""
    if fmt.signed == signed:
        return fmt
    return DynamicFixedPoint(fmt.bw, fmt.fl - 1 if signed else fmt.fl + 1, signed)


def describe(fmt: Format | None) -> str:
    """A format in an error."""
    return "float" if fmt is None else str(fmt)


def grid_of_scale(view: View, field: str, scale: float, *, nearest: bool, ends: int = 1) -> int:
    """The fractional length that a scale stands for: codes are values times ``scale``.

    Args:
        view: the message, for the place of errors.
        field: the field that states it, for errors.
        scale: the scale, rounded to float32 as the field is, or what followed from a threshold.
        nearest: whether to take the nearest power of two.
        ends: the code that stands for a threshold, where the field is one; 1 where it is the scale itself.

    Raises:
        RistrettoError: the scale is no power of two.
    """
    stated = ends / scale if ends > 1 and scale > 0 else scale
    if not (math.isfinite(scale) and scale > 0.0):
        raise view.error(f"{field} must be a number above 0, got {stated:g}", field=field)
    fl = round(math.log2(scale))
    if scale != math.ldexp(1.0, fl):
        low = math.floor(math.log2(scale))
        fl = low if scale - math.ldexp(1.0, low) <= math.ldexp(1.0, low + 1) - scale else low + 1
        if not nearest:
            near = ends / math.ldexp(1.0, fl) if ends > 1 else math.ldexp(1.0, fl)
            what = f"{field} {stated:.9g} makes a scale that is no power of two" if ends > 1 else ""
            what = what or f"{field} {stated:.9g} is no power of two"
            raise view.error(what, cure=f"the nearest is {near:.9g}, --nearest takes it", field=field)
    return fl


def fixed(view: View, bw: int, fl: int, field: str, *, signed: bool = True) -> DynamicFixedPoint:
    """A fixed point format that a field states.

    Raises:
        RistrettoError: there is no such format; the field's place is told.
    """
    try:
        return DynamicFixedPoint(bw, fl, signed)
    except FormatError as error:
        raise misplaced(view, error, field) from error


def number_text(value: float) -> str:
    """A float32 as text that gives it again.

    Raises:
        FormatError: it is no float32.
    """
    if not 2.0**-126 <= abs(value) < 2.0**128:
        raise FormatError(f"{value:g} is out of the range of a float", cure="choose another fractional length")
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def misplaced(view: View, error: FormatError, field: str) -> RistrettoError:
    """An error about a format, at the place of the field that states it."""
    return view.error(error.what, cure=error.cure, field=field)


def seen_alike(wiring: Wiring, place: Place, plan: Mapping[str, LayerFormats]) -> bool:
    """Whether rounding a layer's bottoms in place or in a copy comes to the same: nobody else would see it."""
    formats = plan[place.name]
    others = [plan.get(other.name) for other in wiring.others(place)]
    return all(other is not None and other.input == formats.input for other in others)

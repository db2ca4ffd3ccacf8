"""Writing a plan into a prototxt, in any dialect: EditNetDescription as edits that touch nothing else."""

from __future__ import annotations

from ristretto.caffe.edit import UNIT, Edits
from ristretto.caffe.netspec import type_of
from ristretto.caffe.textproto import Document, Field, Message, Scalar
from ristretto.caffe.view import View
from ristretto.decide.plan import QuantPlan
from ristretto.dialects.base import Said, Settled, refuse
from ristretto.dialects.fields import Dialect, takes_formats
from ristretto.dialects.registry import DIALECTS, Source, detect
from ristretto.dialects.wiring import Place, wire

_FIELDS = ("quantization_param", "precision_param")


def write_plan(
    document: Document, plan: QuantPlan, dialect: Dialect = "extended", *, nearest: bool = False
) -> Document:
    """A prototxt whose layers carry the plan's formats; an empty plan gives the document back unchanged.

    Every layer of a planned name and a type that can be quantized is edited, in all phases. A layer that is
    quantized already gets the new formats instead of its old ones.

    Args:
        document: a net in today's form.
        plan: formats by layer name.
        dialect: the reader to write for.
        nearest: whether to write the nearest setting where the dialect cannot say one.

    Raises:
        FormatError: the dialect cannot say a format; the layer is named.
    """
    if not plan.layers:
        return document
    wiring = wire(document)
    settled = _settled(document, plan, dialect, nearest)
    said = DIALECTS[dialect].say(wiring, settled.formats)
    foreign = _family(detect(document)) != _family(dialect)
    edits = Edits(document)
    for number, place in enumerate(wiring.places):
        if number in said:
            _edit(edits, place, said[number])
        elif foreign:
            _strip(edits, place)  # one prototxt, one dialect
    return edits.apply()


def settle_plan(document: Document, plan: QuantPlan, dialect: Dialect) -> QuantPlan:
    """The plan nearest to one that a dialect can say for a net.

    Raises:
        FormatError: something has nothing near it; the layer is named.
    """
    return QuantPlan(_settled(document, plan, dialect, nearest=True).formats) if plan.layers else plan


def convert_plan(
    document: Document, source: Source, dialect: Dialect, *, nearest: bool = False
) -> tuple[Document, QuantPlan, tuple[str, ...]]:
    """A quantized prototxt in another dialect; comments and all that states no formats stay.

    Args:
        document: a quantized net in today's form.
        source: the dialect that it is written in.
        dialect: the reader to write for.
        nearest: whether scales that are no powers of two, and what the new dialect cannot say, become the nearest.

    Returns:
        The new prototxt, the formats that it states, and what gave way, in words.

    Raises:
        RistrettoError: fields make no sense, or the dialect cannot say them; the layer is named.
    """
    wiring = wire(document)
    name = detect(document) if source == "auto" else source
    plan = QuantPlan(DIALECTS[name].read(wiring, nearest))
    settled = _settled(document, plan, dialect, nearest)
    said = DIALECTS[dialect].say(wiring, settled.formats)
    edits = Edits(document)
    for number, place in enumerate(wiring.places):
        if number in said:
            _edit(edits, place, said[number])
        elif place.name in plan.layers or any(place.view.has(field) for field in _FIELDS):
            _strip(edits, place)
    gave_way = tuple(f"layer '{each.layer}': {each.what} became {each.nearest}" for each in settled.refusals)
    return edits.apply(), QuantPlan(settled.formats), gave_way


def planned_layers(document: Document, plan: QuantPlan) -> set[str]:
    """The names of the layers that the plan's formats are written to."""
    layers = View.of(document, "NetParameter").children("layer")
    present = (layer for layer in layers if layer.text("name") in plan.layers and takes_formats(type_of(layer)))
    return {layer.text("name") for layer in present}


def _family(dialect: Dialect) -> Dialect:
    """What dialects are read alike: those that have the original's fields."""
    return "original" if dialect in ("extended", "accdnn") else dialect


def _settled(document: Document, plan: QuantPlan, dialect: Dialect, nearest: bool) -> Settled:
    """The plan as the dialect can say it."""
    present = planned_layers(document, plan)
    target = DIALECTS[dialect]
    settled = target.settle(wire(document), {name: plan.layers[name] for name in plan.layers if name in present})
    refuse(target, settled.refusals, nearest)
    return settled


def _edit(edits: Edits, place: Place, said: Said) -> None:
    """Let a layer say its formats, where it said others before, or at its end."""
    message = place.view.message
    if type_of(place.view) != said.type:
        edits.set_scalar(message, "type", f'"{said.type}"')
    current = next(message.named(said.field), None)
    for name in _FIELDS:
        old = next(message.named(name), None)
        if old is None or name == said.field:
            continue
        if current is None:
            current = old
            _replace(edits, old, said)
        else:
            edits.remove(old)
    if current is None or (current.name == said.field and not _says(current.values[0], said)):
        edits.set_message(message, said.field, list(said.lines))


def _replace(edits: Edits, old: Field, said: Said) -> None:
    """Put the fields of a layer where others stood, on one line if those did."""
    opening = f"{said.field} {{"
    if "\n" in edits.document.text[old.start : old.end]:
        edits.replace_field(old, [opening, *(UNIT + line for line in said.lines), "}"])
    else:
        edits.replace(old.start, old.end, " ".join([opening, *said.lines, "}"]))


def _says(node: Scalar | Message, said: Said) -> bool:
    """Whether a message has these very fields, so that its comments can stay."""
    if not isinstance(node, Message):
        return False
    values = [(field.name, value) for field in node.fields for value in field.values]
    fields = [
        f'{name}: "{value.text}"' if value.kind == "string" else f"{name}: {value.text}"
        for name, value in values
        if isinstance(value, Scalar)
    ]
    return len(fields) == len(values) and sorted(fields) == sorted(said.lines)


def _strip(edits: Edits, place: Place) -> None:
    """Make a float layer of a layer that has no formats any more."""
    if type_of(place.view) != place.kind:
        edits.set_scalar(place.view.message, "type", f'"{place.kind}"')
    for name in _FIELDS:
        for field in place.view.message.named(name):
            edits.remove(field)

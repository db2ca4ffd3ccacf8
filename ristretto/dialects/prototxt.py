"""Writing a plan into a prototxt: EditNetDescription as edits that touch nothing else."""

from __future__ import annotations

from ristretto.caffe.edit import Edits
from ristretto.caffe.netspec import type_of
from ristretto.caffe.textproto import Document
from ristretto.caffe.view import View
from ristretto.decide.plan import QuantPlan
from ristretto.dialects.fields import PLAIN_TYPES, Dialect, quantization_fields, takes_formats, type_with_formats


def write_plan(document: Document, plan: QuantPlan, dialect: Dialect = "extended") -> Document:
    """A prototxt whose layers carry the plan's formats; an empty plan gives the document back unchanged.

    Every layer of a planned name and a type that can be quantized is edited, in all phases. A layer that is
    quantized already gets the new formats instead of its old ones.

    Args:
        document: a net in today's form.
        plan: formats by layer name.
        dialect: the reader to write for.

    Raises:
        FormatError: the dialect cannot say a format; the layer is named.
    """
    edits = Edits(document)
    for layer in _planned(document, plan):
        name, kind = layer.text("name"), type_of(layer)
        formats = plan.layers[name]
        new_kind = type_with_formats(kind, formats)
        if new_kind != kind:
            edits.set_scalar(layer.message, "type", f'"{new_kind}"')
        lines = quantization_fields(name, formats, dialect, plain=new_kind in PLAIN_TYPES)
        edits.set_message(layer.message, "quantization_param", lines)
    return edits.apply()


def planned_layers(document: Document, plan: QuantPlan) -> set[str]:
    """The names of the layers that the plan's formats are written to."""
    return {layer.text("name") for layer in _planned(document, plan)}


def _planned(document: Document, plan: QuantPlan) -> list[View]:
    layers = View.of(document, "NetParameter").children("layer")
    return [layer for layer in layers if layer.text("name") in plan.layers and takes_formats(type_of(layer))]

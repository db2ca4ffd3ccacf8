"""The prototxt as a text: fields and values, old forms, formats that are there already."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from google.protobuf.descriptor import FieldDescriptor

from ristretto.caffe.catalogue.registry import is_plugged
from ristretto.caffe.schema import descriptor
from ristretto.caffe.textproto import Document, Message
from ristretto.caffe.upgrade import needs_upgrade
from ristretto.caffe.view import View
from ristretto.dialects.fields import QUANTIZED_TYPES
from ristretto.errors import RistrettoError
from ristretto.report.findings import Finding

_OPENED_LATER = frozenset({"TransformationParameter"})
"""Messages whose unknown fields are judged when the data is opened: there they may change pixels."""

_SOLVER_FIELDS = frozenset({"base_lr", "lr_policy", "max_iter", "solver_mode", "train_net", "test_iter"})

_OTHER_DIALECTS = {
    "quantize_param": "another fork's",
    "is_sign_data": "XmBrain's",
    "bw_params_bias": "starimpact's",
    "fl_params_bias": "starimpact's",
}
"""Fields in which forks whose dialect is not known say number formats, and whose they are."""

_SUGGESTED = 100
"""For so many unknown fields of a message another name is looked for: one that has more of them is another fork's."""

_FIELD_KINDS = {
    FieldDescriptor.CPPTYPE_BOOL: ("flag", "flags"),
    FieldDescriptor.CPPTYPE_STRING: ("text", "texts"),
    FieldDescriptor.CPPTYPE_ENUM: ("text", "texts"),
    FieldDescriptor.CPPTYPE_FLOAT: ("number", "numbers"),
    FieldDescriptor.CPPTYPE_DOUBLE: ("number", "numbers"),
}


def text_findings(document: Document) -> Iterator[Finding]:
    """What the text alone tells, before a net is made of it."""
    root = View.of(document, "NetParameter")
    fields = {field.name for field in document.root.fields}
    if not fields & {"layer", "layers", "input"} and fields & _SOLVER_FIELDS:
        cure = "give the net that it names with net: or train_net:"
        yield Finding("error", "solver", "this is a solver, not a net", cure, document.file)
        return
    if needs_upgrade(document):
        what = "a net of the old form, with 'layers': it is upgraded on the fly"
        cure = "nothing needs to be done; ristretto upgrade writes it in today's form"
        yield Finding("note", "old_form", what, cure, document.file, _line(document, "layers"))
    elif root.has("input"):
        what = "a net with 'input' fields: they are read as an Input layer"
        yield Finding("note", "old_form", what, "nothing needs to be done", document.file, _line(document, "input"))
    yield from _grouped(_checked(root))
    yield from quantized_findings(document)


def quantized_findings(document: Document) -> Iterator[Finding]:
    """Whether the net has number formats already: it would be quantized a second time."""
    layers = [field.values[0] for field in document.root.named("layer")]
    quantized = [
        layer
        for layer in layers
        if isinstance(layer, Message)
        and (getattr(layer.first("type"), "text", "") in QUANTIZED_TYPES.values() or layer.first("quantization_param"))
    ]
    if not quantized:
        return
    some = ", ".join(f"'{getattr(layer.first('name'), 'text', '')}'" for layer in quantized[:3])
    more = f" and {len(quantized) - 3} more" if len(quantized) > 3 else ""
    what = f"the net is quantized already, {len(quantized)} layers have number formats: {some}{more}"
    cure = "give ristretto quantize the float net that it was made from; ristretto test scores a quantized one"
    line, _ = document.position(quantized[0].start)
    yield Finding("error", "quantized", what, cure, document.file, line)


def _line(document: Document, name: str) -> int:
    return next((document.position(field.start)[0] for field in document.root.named(name)), 0)


def _checked(view: View) -> Iterator[Finding]:
    """Unknown fields and values of the wrong type, here and in all messages below.

    A wrong value is a warning here: Caffe would refuse the file, this tool minds only what it asks for.
    """
    if is_plugged(_type_of(view)):
        return
    kind = descriptor(view.type_name)
    if view.type_name not in _OPENED_LATER:
        yield from _unknown(view)
    for name in dict.fromkeys(field.name for field in view.message.fields):
        field = kind.fields_by_name.get(name)
        if field is None:
            continue
        if field.message_type is not None:
            children: tuple[View, ...] = ()
            try:
                children = view.children(name) if field.is_repeated else (view.child(name),)
            except RistrettoError as error:
                yield Finding.of(error, "value", "warning")
            for child in children:
                yield from _checked(child)
            continue
        one, many = _FIELD_KINDS.get(field.cpp_type, ("integer", "integers"))
        try:
            getattr(view, many if field.is_repeated else one)(name)
        except RistrettoError as error:
            yield Finding.of(error, "value", "warning")


def _grouped(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings with the same text told once, at the first place: a fork's field may stand in every layer."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.what, finding.cure), []).append(finding)
    for first, *others in groups.values():
        more = f" ({len(others) + 1} times, this is the first)" if others else ""
        yield replace(first, what=first.what + more)


def _type_of(view: View) -> str:
    return str(getattr(view.message.first("type"), "text", "")) if view.type_name == "LayerParameter" else ""


def _unknown(view: View) -> Iterator[Finding]:
    known = list(descriptor(view.type_name).fields_by_name)
    layer = view.error("").layer
    for number, field in enumerate(view.unknown_fields):
        line, _ = view.document.position(field.start)
        fork = _OTHER_DIALECTS.get(field.name)
        if fork is not None:
            what = f"field '{field.name}' is {fork} word for a number format, and has no effect here"
            cure = "ristretto apply writes formats into a float prototxt"
            yield Finding("warning", "dialect", what, cure, view.document.file, line, layer)
            continue
        near = difflib.get_close_matches(field.name, known, n=1) if number < _SUGGESTED else []
        cure = f"is '{near[0]}' meant?" if near else "take it out if it is a misspelling; another fork's does no harm"
        what = f"field '{field.name}' is not known and has no effect"
        yield Finding("warning", "unknown_field", what, cure, view.document.file, line, layer)

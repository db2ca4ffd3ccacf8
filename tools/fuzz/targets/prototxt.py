"""Text format: what is parsed is printed byte for byte, and what is edited can be parsed again."""

from __future__ import annotations

from collections.abc import Iterable

from text_seeds import NUMBERS, nets, schema_words, solvers

from ristretto.caffe.edit import UNIT, Edits
from ristretto.caffe.textproto import Document, Message, Scalar, parse
from ristretto.errors import RistrettoError

LONGEST = 4096
"""Bytes of an input: nets are long."""


def seeds() -> Iterable[bytes]:
    yield from nets()
    yield from solvers()
    yield b"a: [1, 2, { b < c: \"x\\n\\x41\" 'y' > }], [ext.name/a]: -0x1F; b: .5e3f # comment\r\n"


def words() -> Iterable[str]:
    yield from schema_words("LayerParameter")
    yield from NUMBERS


def one_input(data: bytes) -> None:
    try:
        document = parse(data, "net.prototxt")
    except RistrettoError:
        return
    assert document.to_bytes() == data
    assert parse(document.to_bytes(), "net.prototxt").root == document.root
    _edit(document)


def _edit(document: Document) -> None:
    """Edits of a document that is well-formed give one that is."""
    root = document.root
    edits = Edits(document)
    edits.set_scalar(root, "name", '"set"')
    found = edits.apply().root.first("name")
    assert isinstance(found, Scalar)
    assert found.text == "set"
    for field in root.fields[:2]:
        edits = Edits(document)
        edits.remove(field)
        assert len(edits.apply().root.fields) == len(root.fields) - 1
        edits = Edits(document)
        edits.replace_field(field, ["a {", UNIT + "b: 1", "}"])
        assert len(edits.apply().root.fields) == len(root.fields)
        edits = Edits(document)
        edits.insert_before(field, ["a: 1"])
        assert len(edits.apply().root.fields) == len(root.fields) + 1
        message = field.values[0] if field.values else None
        if isinstance(message, Message) and not field.is_list:
            edits = Edits(document)
            edits.set_message(message, "added", ["c: 1", UNIT + "d: 2"])
            edits.set_scalar(message, "other", "3")
            edits.apply()

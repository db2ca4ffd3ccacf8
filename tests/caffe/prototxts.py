"""Prototxt files to test with: the corpus, and random trees written down in random ways."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import strategies as st

from ristretto.caffe.textproto import Document, Message

SHARED = Path(__file__).resolve().parents[3] / "shared"
CORPUS = SHARED / "prototxt_corpus"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared material is not here: {SHARED}")

_NOT_WELL_FORMED = re.compile(r'Expected |has no field named "\d')
"""What protobuf says of the corpus files that are no text format at all, as against those with a fork's fields."""


@dataclass(frozen=True)
class CorpusFile:
    """A file of the corpus and what its manifest says of it."""

    path: Path
    type_name: str
    well_formed: bool


@cache
def corpus() -> tuple[CorpusFile, ...]:
    """The files of the corpus; none where the shared material is not here."""
    manifest = CORPUS / "MANIFEST.tsv"
    if not manifest.is_file():
        return ()
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return tuple(
        CorpusFile(
            CORPUS / row["file"],
            "SolverParameter" if "solver" in row["features"].split(",") else "NetParameter",
            not _NOT_WELL_FORMED.search(row["bvlc_parse"]),
        )
        for row in rows
    )


Plain = list[tuple[str, list[object]]]
"""A message without its layout: names and values; a scalar is (kind, text), a message again a list."""


def plain(message: Message) -> Plain:
    """What a parsed message says, without its layout."""
    return [
        (field.name, [plain(v) if isinstance(v, Message) else (v.kind, v.text) for v in field.values])
        for field in message.fields
    ]


def slices(document: Document) -> list[str]:
    """The source text of every top-level field."""
    return [document.text[field.start : field.end] for field in document.root.fields]


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
numbers = st.one_of(
    st.integers(-(2**63), 2**64).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["0x1F", "017", "1.5f", ".5", "5.", "1e-3F", "-.25e+2", "-0"]),
)
words = st.sampled_from(["MAX", "true", "inf", "nan", "SGD", "f"])
strings = st.text(st.characters(codec="utf-8"), max_size=12)
scalars = st.one_of(
    st.tuples(st.just("number"), numbers),
    st.tuples(st.just("identifier"), words),
    st.tuples(st.just("string"), strings),
)


def _fields(values: st.SearchStrategy[object]) -> st.SearchStrategy[Plain]:
    one = values.map(lambda value: [value])
    return st.lists(st.tuples(names, st.one_of(one, st.lists(values, max_size=3))), max_size=4)


trees: st.SearchStrategy[Plain] = _fields(st.recursive(scalars, _fields, max_leaves=8))

_spaces = st.sampled_from(["", " ", "\n", "\t", "\r\n", '  # a comment: { " [\n', "#\n", "\n\n    ", "\v", "\f"])
_gaps = st.sampled_from([" ", "\n", "\r\n\t", " # a { comment }\n", "\n  "])
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


@st.composite
def renderings(draw: st.DrawFn, tree: Plain) -> str:
    """A text that says a tree, laid out at random in all ways that the text format allows."""

    def space() -> str:
        return draw(_spaces)

    def quoted(text: str) -> str:
        quote = draw(st.sampled_from("\"'"))
        body = []
        for char in text:
            escape = draw(st.sampled_from(["plain", "octal", "hex", "u", "U"]))
            if char == quote or (char in _ESCAPES and escape in ("plain", "hex")):
                body.append(_ESCAPES.get(char, "\\" + char))
            elif escape == "plain":
                body.append(char)
            elif escape == "u" and ord(char) < 0x10000:
                body.append(f"\\u{ord(char):04x}")
            elif escape in ("u", "U"):
                body.append(f"\\U{ord(char):08X}")
            else:
                form = "\\{:03o}" if escape == "octal" else "\\x{:02x}"
                body.extend(form.format(byte) for byte in char.encode())
        return quote + "".join(body) + quote

    def string(text: str) -> str:
        cut = draw(st.integers(0, len(text)))
        if draw(st.booleans()):
            return quoted(text)
        return quoted(text[:cut]) + space() + quoted(text[cut:])

    def value(item: object) -> str:
        if isinstance(item, list):
            opening, closing = draw(st.sampled_from(["{}", "<>"]))
            return opening + message(item) + closing
        assert isinstance(item, tuple)
        kind, text = item
        if kind == "string":
            return string(text)
        if text.startswith("-"):
            return "-" + space() + text[1:]
        return str(text)

    def field(name: str, items: list[object]) -> str:
        as_list = len(items) != 1 or draw(st.booleans())
        is_message = not as_list and isinstance(items[0], list)
        colon = ":" if not is_message or draw(st.booleans()) else ""
        if as_list:
            text = "[" + ",".join(space() + value(item) + space() for item in items) + space() + "]"
        else:
            text = value(items[0])
        return name + space() + colon + space() + text

    def message(fields: Plain) -> str:
        pieces = [space()]
        for name, items in fields:
            pieces += [field(name, items), draw(st.sampled_from(["", "", " ,", ";"])), draw(_gaps)]
        return "".join(pieces)

    return message(tree)

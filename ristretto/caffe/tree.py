"""The lossless tree of a prototxt: frozen nodes that hold spans of the text they were parsed from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ristretto.caffe.confined import Confined

ScalarKind = Literal["string", "number", "identifier"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value: a quoted string (with its parts joined and unescaped), a number or a bare word.

    Attributes:
        kind: what was written.
        text: the string's content, or the token as written.
        start, end: its span in the document's text.
    """

    kind: ScalarKind
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message: the fields between a pair of braces, or the whole file.

    Attributes:
        fields: its fields in order.
        start, end: its span, braces included.
        body_start, body_end: the span between the braces.
    """

    fields: tuple[Field, ...]
    start: int
    end: int
    body_start: int
    body_end: int

    def named(self, name: str) -> Iterator[Field]:
        """The fields of a name, in order."""
        return (field for field in self.fields if field.name == name)

    def first(self, name: str) -> Scalar | Message | None:
        """The first value of a name, or None."""
        return next((value for field in self.named(name) for value in field.values), None)

    def all(self, name: str) -> list[Scalar | Message]:
        """All values of a name; a list counts as its elements."""
        return [value for field in self.named(name) for value in field.values]


@dataclass(frozen=True, slots=True)
class Field:
    """A field: a name with one value, or with a list of values in brackets.

    Attributes:
        name: as written (an extension's with its brackets).
        values: one value, or the elements of the list.
        is_list: whether it was written in brackets.
        start, end: the span from the name to the end of the value.
        name_end: where the name ends.
    """

    name: str
    values: tuple[Scalar | Message, ...]
    is_list: bool
    start: int
    end: int
    name_end: int


@dataclass(frozen=True)
class Document:
    """A parsed prototxt.

    Attributes:
        text: the whole text; bytes that are no UTF-8 are kept as surrogates.
        file: its name, for errors.
        root: the fields of the file.
        confined: the folders that paths in it must not leave; None where it is trusted.
    """

    text: str = field(repr=False)
    file: str
    root: Message = field(repr=False)
    confined: Confined | None = None

    def to_bytes(self) -> bytes:
        """The very bytes that it was parsed from."""
        return self.text.encode("utf-8", "surrogateescape")

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(index + 1 for index, char in enumerate(self.text) if char == "\n")]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, counted from 1, of a place in the text."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

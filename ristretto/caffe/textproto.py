"""Protobuf's text format parsed without losing anything (protobuf.dev, Text Format Specification)."""

from __future__ import annotations

import re
from typing import NoReturn

from ristretto.caffe.confined import Confined
from ristretto.caffe.limits import LAYERS, check_layers, limit
from ristretto.caffe.tree import Document, Field, Message, Scalar, ScalarKind
from ristretto.errors import PrototxtError

__all__ = ["Document", "Field", "Message", "Scalar", "parse"]

MAX_DEPTH = 100
"""As in protobuf itself, and low enough for Python's stack."""

_SPACE = re.compile(r"[ \t\r\n\v\f]*(?:\#[^\n]*(?![^\n])[ \t\r\n\v\f]*)*")
"""Comments are whole: no token begins in the middle of one."""

_TOKEN = re.compile(
    _SPACE.pattern
    + r"""(?:
        (?P<identifier>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>0[xX][0-9a-fA-F]+
                 | (?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][+-]?[0-9]+)?[fF]?)
      | (?P<string>"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"|'[^'\\\n]*(?:\\[^\n][^'\\\n]*)*')
      | (?P<symbol>[{}<>\[\]:;,./-])
    )""",
    re.VERBOSE,
)
_GLUED = re.compile(r"[A-Za-z0-9_.]+")
_CLOSING = {"{": "}", "<": ">"}
_ESCAPE = re.compile(
    r"""\\(?:([abfnrtv\\'"?])|([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))""",
    re.DOTALL,
)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34, "?": 63}


def parse(data: bytes | str, file: str = "", confined: Confined | None = None) -> Document:
    """Parse a prototxt into a tree that prints back byte for byte.

    Args:
        data: the file's content.
        file: its name, for errors.
        confined: the folders that paths in it must not leave; None where it is trusted.

    Raises:
        PrototxtError: it is not well-formed; the error names the place and the way to mend it.
        NetError: it has more layers than a net may have.
    """
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    return Document(text, file, _Parser(text, file).file(), confined)


class _Parser:
    """A recursive descent parser with one token of lookahead."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.name = file
        self.end = 1 if text.startswith("\ufeff") else 0
        self.kind = ""
        self.token = ""
        self.start = 0
        self.last_end = 0
        self.layers, self.most_layers = 0, limit(LAYERS)
        self.advance()

    def advance(self) -> None:
        """Step to the next token that is neither space nor comment; at the end of the text the kind is ""."""
        self.last_end = self.end if self.kind else self.last_end
        match = _TOKEN.match(self.text, self.end)
        if match is not None:
            self.kind = kind = match.lastgroup or ""
            self.token = match[kind]
            self.start, self.end = match.span(kind)
            if kind == "number":
                self.check_number()
            return
        space = _SPACE.match(self.text, self.end)
        self.start = self.end = space.end() if space else self.end
        if self.end < len(self.text):
            self.bad_character(self.end)
        self.kind = self.token = ""

    def check_number(self) -> None:
        """A number must not run into a word or another number, as in 1.2.3 or 5x."""
        glued = _GLUED.match(self.text, self.end)
        if glued:
            what = f"'{self.token}{glued.group()}' is no number"
            self.fail(what, self.start, "mend it, or put it into quotes")

    def bad_character(self, position: int) -> NoReturn:
        char = self.text[position]
        if char in "\"'":
            self.fail("the string is not closed on its line", position, f"add the closing {char}")
        shown = char if char.isprintable() else f"U+{ord(char):04X}"
        if "\udc80" <= char <= "\udcff":
            shown = f"\\x{ord(char) & 0xFF:02x}"
        self.fail(f"unexpected character '{shown}'", position, "take it out, or put it into a quoted string")

    def found(self) -> str:
        """The present token, for an error."""
        return f"'{self.token}'" if self.kind else "the end of the file"

    def position(self, offset: int) -> tuple[int, int]:
        return Document(self.text, self.name, Message((), 0, 0, 0, 0)).position(offset)

    def fail(self, what: str, position: int, cure: str) -> NoReturn:
        line, column = self.position(position)
        raise PrototxtError(what, file=self.name, line=line, column=column, cure=cure)

    def file(self) -> Message:
        fields = self.fields("", 0, 0)
        return Message(fields, 0, len(self.text), 0, len(self.text))

    def fields(self, closing: str, opened: int, depth: int) -> tuple[Field, ...]:
        """Fields up to the closing token (or the end of the file), which is left as the present token."""
        found = []
        while self.token != closing or (closing and self.kind != "symbol"):
            if not self.kind:
                self.fail(f"a '{self.text[opened]}' is never closed", opened, f"add the matching '{closing}'")
            if self.kind == "symbol" and self.token in "}>":
                cure = "nothing is open here: check the braces"
                if closing:
                    line, column = self.position(opened)
                    opener = self.text[opened]
                    cure = f"the '{opener}' of line {line}, column {column} needs a '{closing}' before it"
                self.fail(f"unexpected '{self.token}'", self.start, cure)
            found.append(self.field(depth))
            if depth == 0 and found[-1].name in ("layer", "layers"):
                self.layers += 1
                check_layers(self.layers, self.name, self.most_layers)
            if self.kind == "symbol" and self.token in ",;":
                self.advance()
        return tuple(found)

    def field(self, depth: int) -> Field:
        start = self.start
        name = self.field_name()
        name_end = self.last_end
        colon = self.kind == "symbol" and self.token == ":"
        if colon:
            self.advance()
        if self.kind == "symbol" and self.token in "{<":
            values: tuple[Scalar | Message, ...] = (self.message(depth + 1),)
            is_list = False
        elif self.kind == "symbol" and self.token == "[":
            values, is_list = self.list_values(depth), True
        elif colon:
            values, is_list = (self.scalar(),), False
        else:
            what = f"expected ':' or '{{' after '{name}', found {self.found()}"
            self.fail(what, self.start, f"write '{name}: value'")
        return Field(name, values, is_list, start, self.last_end, name_end)

    def field_name(self) -> str:
        start = self.start
        if self.kind == "identifier":
            name = self.token
            self.advance()
            return name
        if self.kind == "symbol" and self.token == "[":
            while self.kind and self.token != "]":
                self.advance()
            if self.kind:
                self.advance()
                return self.text[start : self.last_end]
        what = f"expected a field name, found {self.found()}"
        self.fail(what, start, "every value needs a 'name:' before it")

    def message(self, depth: int) -> Message:
        if depth > MAX_DEPTH:
            self.fail(f"messages are nested more than {MAX_DEPTH} deep", self.start, "this is no Caffe net")
        start, closing = self.start, _CLOSING[self.token]
        body_start = self.end
        self.advance()
        fields = self.fields(closing, start, depth)
        body_end = self.start
        self.advance()
        return Message(fields, start, self.last_end, body_start, body_end)

    def list_values(self, depth: int) -> tuple[Scalar | Message, ...]:
        opened = self.start
        self.advance()
        values: list[Scalar | Message] = []
        while not (self.kind == "symbol" and self.token == "]"):
            if not self.kind:
                self.fail("a '[' is never closed", opened, "add the matching ']'")
            is_message = self.kind == "symbol" and self.token in "{<"
            values.append(self.message(depth + 1) if is_message else self.scalar())
            if self.kind == "symbol" and self.token == ",":
                self.advance()
            elif self.kind and self.token != "]":
                what = f"expected ',' or ']', found '{self.token}'"
                self.fail(what, self.start, "separate the elements by commas")
        self.advance()
        return tuple(values)

    def scalar(self) -> Scalar:
        start = self.start
        if self.kind == "string":
            parts = []
            while self.kind == "string":
                parts.append(self.unescaped(self.token[1:-1], self.start + 1))
                self.advance()
            return Scalar("string", "".join(parts), start, self.last_end)
        if self.kind == "symbol" and self.token == "-":
            self.advance()
            if self.kind not in ("number", "identifier"):
                self.fail("expected a number after '-'", start, "write a number such as -1")
            return self.take("number", start, "-")
        if self.kind in ("number", "identifier"):
            return self.take("number" if self.kind == "number" else "identifier", start, "")
        what = f"expected a value, found {self.found()}"
        self.fail(what, start, "write a number, a quoted string or a word")

    def take(self, kind: ScalarKind, start: int, sign: str) -> Scalar:
        text = sign + self.token
        self.advance()
        return Scalar(kind, text, start, self.last_end)

    def unescaped(self, body: str, start: int) -> str:
        if "\\" not in body:
            return body
        pieces: list[bytes] = []
        position = 0
        for match in _ESCAPE.finditer(body):
            simple, octal, hexadecimal, short, long, unknown = match.groups()
            if unknown is not None:
                self.fail(f"unknown escape '\\{unknown}'", start + match.start(), "write a backslash as \\\\")
            pieces.append(body[position : match.start()].encode("utf-8", "surrogateescape"))
            position = match.end()
            if simple:
                pieces.append(bytes([_SIMPLE[simple]]))
            elif octal or hexadecimal:
                pieces.append(bytes([int(octal or hexadecimal, 8 if octal else 16) & 0xFF]))
            else:
                point = int(short or long, 16)
                if point > 0x10FFFF or 0xD800 <= point < 0xE000:
                    self.fail("no such character", start + match.start(), "use a valid code point")
                pieces.append(chr(point).encode())
        pieces.append(body[position:].encode("utf-8", "surrogateescape"))
        return b"".join(pieces).decode("utf-8", "surrogateescape")

"""Edits of a prototxt as splices of its text: what is not edited keeps every byte."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ristretto.caffe.textproto import Document, Field, Message, parse

UNIT = "\0"
"""Stands for one step of indentation at the start of a line that is handed to an edit."""

_INDENT = re.compile(r"[ \t]*")
_SEPARATOR = re.compile(r"[ \t]*[,;]")
_FAR_SEPARATOR = re.compile(r"(?:[ \t\r\n\v\f]|#[^\n]*\n)*([,;])")
_GLUED = re.compile(r"[\w.\-][\w.\-]")
_BLANK_LINE = re.compile(r"[ \t]*\r?\n")
_FIRST_INDENT = re.compile(r"^([ \t]{1,8})[^\s#}>]", re.MULTILINE)


class Edits:
    """A batch of edits of one document, applied together. No edits give the document back unchanged."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._splices: list[tuple[int, int, str]] = []

    def replace(self, start: int, end: int, text: str) -> None:
        """Put a text in place of a span."""
        self._splices.append((start, end, text))

    def set_scalar(self, message: Message, name: str, text: str) -> None:
        """Give a field another value, or add it at the end of the message.

        Args:
            message: the message to edit.
            name: the field.
            text: the value as it is to stand in the file, quotes included.
        """
        field = next((field for field in message.named(name) if field.values), None)
        if field is None:
            self._append(message, f"{name}: {text}", [f"{name}: {text}"])
        elif isinstance(field.values[0], Message):  # which may stand without a colon
            self.replace(field.start, field.end, f"{name}: {text}")
        else:
            self.replace(field.values[0].start, field.values[0].end, text)

    def add_message(self, message: Message, name: str, lines: Sequence[str]) -> None:
        """Add a message field at the end of a message, whether it has such a field or not.

        Args:
            message: the message to edit.
            name: the field.
            lines: the content, a field per line; UNIT at the start of a line is a step of indentation.
        """
        self._append(message, _inline(name, lines), _nested(name, lines))

    def set_message(self, message: Message, name: str, lines: Sequence[str]) -> None:
        """Give a message field another content, or add it at the end of the message.

        Args:
            message: the message to edit.
            name: the field.
            lines: the content, a field per line; UNIT at the start of a line is a step of indentation.
        """
        existing = next(message.named(name), None)
        if existing is None:
            self.add_message(message, name, lines)
        elif "\n" in self.document.text[existing.start : existing.end]:
            indent = self._indent_at(existing.start)
            block = self._block(_nested(name, lines), indent, self._unit(message), existing.start)
            self.replace(existing.start, existing.end, block.strip())
        else:
            self.replace(existing.start, existing.end, _inline(name, lines))

    def remove(self, field: Field) -> None:
        """Take a field out, with its separator, and with its line if nothing else stands there."""
        text, start, end = self.document.text, field.start, field.end
        separator = _SEPARATOR.match(text, end)
        end = separator.end() if separator else end
        far = None if separator else _FAR_SEPARATOR.match(text, end)
        line_start = text.rfind("\n", 0, start) + 1
        line_end = text.find("\n", end)
        line_end = len(text) if line_end < 0 else line_end + 1
        if text[line_start:start].strip():
            start -= len(text[line_start:start]) - len(text[line_start:start].rstrip(" \t"))
        elif not text[end:line_end].strip():
            start, end = line_start, line_end
        self.replace(start, end, "")
        if far is not None:  # on a later line, where nothing else has to go
            self.replace(max(far.start(1), end), far.end(1), "")

    def remove_blocks(self, fields: Sequence[Field]) -> None:
        """Take fields out as ``remove`` does, each with a blank line behind it if one stands before it too.

        Args:
            fields: in the order of the text; those that stand behind one another go as one block.
        """
        text, block, block_end = self.document.text, 0, -1
        for field in fields:
            self.remove(field)
            far = self._splices.pop() if self._splices[-1][0] >= field.end else None
            start, end, _ = self._splices.pop()
            block = block if start == block_end else start
            kept = text[:block].rstrip()
            blank = _BLANK_LINE.match(text, end)
            if blank and (not kept or text.count("\n", len(kept), block) > 1):
                end = blank.end()
            self.replace(start, end, "")
            if far is not None:
                self.replace(max(far[0], end), max(far[1], end), far[2])
            block_end = end

    def replace_field(self, field: Field, lines: Sequence[str]) -> None:
        """Put other fields in the place of one.

        Args:
            field: the field to replace.
            lines: the new text; UNIT at the start of a line is a step of indentation. It goes on lines of its
                own, unless the field shares a line with others and neither it nor the new text is nested.
        """
        text, indent = self.document.text, self._indent_at(field.start)
        alone = not text[text.rfind("\n", 0, field.start) + 1 : field.start].strip()
        nested = any(line.startswith(UNIT) for line in lines) or "\n" in text[field.start : field.end]
        if not alone and not nested:
            self.replace(field.start, field.end, " ".join(lines))
            return
        newline = self._newline(field.start)
        block = self._block(lines, indent, self._document_unit(), field.start).removesuffix(newline)
        self.replace(field.start, field.end, block[len(indent) :] if alone else newline + block)

    def insert_before(self, field: Field, lines: Sequence[str]) -> None:
        """Put fields, on lines of their own, before another.

        Args:
            field: the field that is to follow.
            lines: the new text; UNIT at the start of a line is a step of indentation.
        """
        indent = self._indent_at(field.start)
        block = self._block(lines, indent, self._document_unit(), field.start)
        self.replace(field.start, field.start, block[len(indent) :] + indent)

    def apply(self) -> Document:
        """The edited document.

        Raises:
            ValueError: two edits touch the same place (a fault of the caller).
        """
        if not self._splices:
            return self.document
        pieces, position = [""], 0
        for start, end, text in sorted(self._splices, key=lambda splice: splice[:2]):
            if start < position:
                message = "two edits overlap"
                raise ValueError(message)
            for piece in (self.document.text[position:start], text):
                _add(pieces, piece)
            position = end
        _add(pieces, self.document.text[position:])
        return parse("".join(pieces), self.document.file, self.document.confined)

    def _append(self, message: Message, inline: str, lines: Sequence[str]) -> None:
        """Add a field at the end of a message, in the style of what stands there."""
        text = self.document.text
        body = text[message.body_start : message.body_end]
        line_start = text.rfind("\n", 0, message.body_end) + 1
        before_brace = text[line_start : message.body_end]
        is_file = message is self.document.root
        if is_file:
            newline = "" if not text or text.endswith("\n") else self._newline(len(text))
            self.replace(len(text), len(text), newline + self._block(lines, "", self._document_unit(), len(text)))
        elif line_start > message.body_start and not before_brace.strip():
            block = self._block(lines, self._child_indent(message), self._unit(message), line_start)
            self.replace(line_start, line_start, block)
        else:
            at = message.body_start + len(body.rstrip())
            self.replace(at, at, f" {inline}" if body else f" {inline} ")

    def _block(self, lines: Sequence[str], indent: str, unit: str, offset: int) -> str:
        newline = self._newline(offset)
        return "".join(indent + line.replace(UNIT, unit) + newline for line in lines)

    def _newline(self, offset: int) -> str:
        """The line ending that is used around an offset."""
        text = self.document.text
        end = text.rfind("\n", 0, offset)
        end = text.find("\n") if end < 0 else end
        return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"

    def _document_unit(self) -> str:
        """One step of indentation, as the first indented line shows it."""
        match = _FIRST_INDENT.search(self.document.text)
        return match.group(1) if match else "  "

    def _indent_at(self, offset: int) -> str:
        """The white space at the start of the line that holds an offset."""
        line_start = self.document.text.rfind("\n", 0, offset) + 1
        match = _INDENT.match(self.document.text, line_start)
        return match.group() if match else ""

    def _child_indent(self, message: Message) -> str:
        """The indentation of the message's fields: that of the last one that starts its line."""
        for field in reversed(message.fields):
            line_start = self.document.text.rfind("\n", 0, field.start) + 1
            if line_start > message.body_start and not self.document.text[line_start : field.start].strip():
                return self.document.text[line_start : field.start]
        return self._indent_at(message.start) + self._document_unit()

    def _unit(self, message: Message) -> str:
        """One step of indentation, as the message itself shows it."""
        outer, inner = self._indent_at(message.start), self._child_indent(message)
        if inner.startswith(outer) and len(inner) > len(outer):
            return inner[len(outer) :]
        return self._document_unit()


def _add(pieces: list[str], piece: str) -> None:
    """Add a piece of text, and a space before it where two words would grow together."""
    if piece:
        pieces += [" ", piece] if _GLUED.match(pieces[-1][-1:] + piece[0]) else [piece]


def _inline(name: str, lines: Sequence[str]) -> str:
    """A message field on one line."""
    return " ".join([f"{name} {{", *(line.lstrip(UNIT) for line in lines), "}"])


def _nested(name: str, lines: Sequence[str]) -> list[str]:
    """A message field on lines of its own."""
    return [f"{name} {{", *(UNIT + line for line in lines), "}"]

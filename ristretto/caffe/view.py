"""A message of a prototxt seen through the schema: typed, with defaults, tolerant of unknown fields."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from ristretto.caffe import schema
from ristretto.caffe.textproto import Document, Field, Message, Scalar
from ristretto.errors import NetError, PrototxtError

_INT_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_STRINGS = (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM)
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_FLAGS = dict.fromkeys(("true", "True", "t", "1"), True) | dict.fromkeys(("false", "False", "f", "0"), False)
_EMPTY = Document("", "", Message((), 0, 0, 0, 0))


@dataclass(frozen=True, eq=False)
class View:
    """One message and the schema's idea of it. A value is checked when it is asked for.

    Attributes:
        document: the prototxt.
        message: the message's node; an empty one where the file does not have it.
        type_name: the message's type, such as "LayerParameter".
        owner: the layer it belongs to, or "".
        parent: the view that it is a child of, for the place of errors about a message that is not there.
    """

    document: Document
    message: Message
    type_name: str
    owner: str = ""
    parent: View | None = None

    @classmethod
    def of(cls, document: Document, type_name: str) -> View:
        """The view of a whole file."""
        return cls(document, document.root, type_name)

    @classmethod
    def empty(cls, type_name: str) -> View:
        """A message without a field: all defaults."""
        return cls(_EMPTY, _EMPTY.root, type_name)

    @property
    def _descriptor(self) -> Descriptor:
        return schema.descriptor(self.type_name)

    @property
    def line(self) -> int:
        """The line the message starts at; 0 where the file does not have it."""
        return self._position()[0]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of fields that the schema does not know, in order, each once."""
        return tuple(dict.fromkeys(field.name for field in self.unknown_fields))

    @property
    def unknown_fields(self) -> tuple[Field, ...]:
        """The fields that the schema does not know, as they stand in the file."""
        known = self._descriptor.fields_by_name
        return tuple(field for field in self.message.fields if field.name not in known)

    def raw(self, name: str) -> tuple[Scalar | Message, ...]:
        """All values of a field of any name, unchecked: for fields that the schema does not know."""
        return tuple(self.message.all(name))

    def has(self, field: str) -> bool:
        """Whether the field is set."""
        self._field(field)
        return bool(self.message.all(field))

    def integer(self, field: str) -> int:
        """A whole number, or its default."""
        value: int = self._one(field, _INT_RANGES)
        return value

    def number(self, field: str) -> float:
        """A float or double, or its default."""
        return float(self._one(field, (*_FLOATS, *_INT_RANGES)))

    def flag(self, field: str) -> bool:
        """A bool, or its default."""
        value: bool = self._one(field, (FieldDescriptor.CPPTYPE_BOOL,))
        return value

    def text(self, field: str) -> str:
        """A string, or the name of an enum's value, or the default."""
        value: str = self._one(field, _STRINGS)
        return value

    def integers(self, field: str) -> tuple[int, ...]:
        """All whole numbers of a repeated field."""
        return self._many(field, _INT_RANGES)

    def numbers(self, field: str) -> tuple[float, ...]:
        """All numbers of a repeated field."""
        return tuple(map(float, self._many(field, (*_FLOATS, *_INT_RANGES))))

    def flags(self, field: str) -> tuple[bool, ...]:
        """All bools of a repeated field."""
        return self._many(field, (FieldDescriptor.CPPTYPE_BOOL,))

    def texts(self, field: str) -> tuple[str, ...]:
        """All strings or enum names of a repeated field."""
        return self._many(field, _STRINGS)

    def child(self, field: str) -> View:
        """A message field; where it is not set, a view that answers with defaults."""
        nodes = self._messages(field)
        if len(nodes) > 1:
            raise self._bad(nodes[1], f"{field} is given twice", "join the two")
        return self._child(field, nodes[0] if nodes else _EMPTY.root, self._layer())

    def children(self, field: str) -> tuple[View, ...]:
        """All messages of a repeated field."""
        owner = self._layer()  # looked for once: a file may have as many fields as it likes
        return tuple(self._child(field, node, owner) for node in self._messages(field))

    def error(self, what: str, *, cure: str = "", field: str = "") -> NetError:
        """An error placed at a field of this message, else at the message."""
        node = self.message.first(field) if field else None
        line, column = self._position() if node is None else self.document.position(node.start)
        file = self.document.file
        return NetError(what, cure=cure, file=file, line=line, column=column, layer=self._layer())

    def _layer(self) -> str:
        if self.type_name in ("LayerParameter", "V1LayerParameter"):
            node = self.message.first("name")
            return node.text if isinstance(node, Scalar) else ""
        return self.owner

    def _position(self) -> tuple[int, int]:
        if self.message is not _EMPTY.root:
            return self.document.position(self.message.start)
        return self.parent._position() if self.parent is not None else (0, 0)

    def _field(self, name: str, kinds: Collection[int] | None = None) -> FieldDescriptor:
        """A field of the schema.

        Raises:
            ValueError: there is none of that name and kind: a fault of the program, not of the file.
        """
        found = self._descriptor.fields_by_name.get(name)
        if found is None or (kinds is not None and found.cpp_type not in kinds):
            message = f"{self.type_name} has no field {name}" + (" of this kind" if found is not None else "")
            raise ValueError(message)
        return found

    def _bad(self, node: Scalar | Message, what: str, cure: str) -> PrototxtError:
        line, column = self.document.position(node.start)
        return PrototxtError(what, file=self.document.file, line=line, column=column, cure=cure, layer=self._layer())

    def _one(self, name: str, kinds: Collection[int]) -> Any:
        field = self._field(name, kinds)
        nodes = self.message.all(name)
        if not nodes:
            default = field.default_value
            return default if field.enum_type is None else field.enum_type.values_by_number[default].name
        if len(nodes) > 1:
            raise self._bad(nodes[1], f"{name} is given {len(nodes)} times", "keep one of them")
        return self._value(field, nodes[0])

    def _many(self, name: str, kinds: Collection[int]) -> tuple[Any, ...]:
        field = self._field(name, kinds)
        return tuple(self._value(field, node) for node in self.message.all(name))

    def _messages(self, name: str) -> list[Message]:
        self._field(name, (FieldDescriptor.CPPTYPE_MESSAGE,))
        nodes = []
        for node in self.message.all(name):
            if not isinstance(node, Message):
                raise self._bad(node, f"{name} is a message", f"write {name} {{ ... }}")
            nodes.append(node)
        return nodes

    def _child(self, name: str, node: Message, owner: str) -> View:
        kind = self._field(name).message_type
        assert kind is not None  # _messages has seen to it
        return View(self.document, node, kind.name, owner, self)

    def _value(self, field: FieldDescriptor, node: Scalar | Message) -> Any:
        if isinstance(node, Message):
            raise self._bad(node, f"{field.name} is no message", f"write {field.name}: value")
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            if node.kind != "string":
                cure = f'put {node.text} into quotes: "{node.text}"'
                raise self._bad(node, f"{field.name} needs a string", cure)
            return node.text
        if node.kind == "string":
            cure = f"take the quotes away: {field.name}: {node.text}"
            raise self._bad(node, f"{field.name} takes no quoted string", cure)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self._flag(field, node)
        if field.enum_type is not None:
            return self._enum(field, field.enum_type, node)
        if kind in _FLOATS:
            return self._float(field, node)
        return self._integer(field, node)

    def _flag(self, field: FieldDescriptor, node: Scalar) -> bool:
        if node.text not in _FLAGS:
            raise self._bad(node, f"{field.name} is true or false, not '{node.text}'", "write true or false")
        return _FLAGS[node.text]

    def _enum(self, field: FieldDescriptor, enum: EnumDescriptor, node: Scalar) -> str:
        if node.text in enum.values_by_name:
            return node.text
        names = {str(value.number): value.name for value in enum.values}
        if node.text in names:
            return names[node.text]
        cure = f"use one of {', '.join(names.values())}"
        raise self._bad(node, f"{field.name} has no value '{node.text}'", cure)

    def _float(self, field: FieldDescriptor, node: Scalar) -> float:
        text = node.text.lower()
        sign, bare = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
        try:
            if bare in ("inf", "infinity", "nan"):
                return sign * float(bare)
            number = float.fromhex(bare) if bare.startswith("0x") else float(bare.removesuffix("f"))
            # As protobuf stores it, and as defaults come: a Net<double> of the original computes with 0.1f too.
            return sign * (ctypes.c_float(number).value if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else number)
        except (ValueError, OverflowError):
            what = f"{field.name} needs a number, not '{node.text}'"
            raise self._bad(node, what, "write a number") from None

    def _integer(self, field: FieldDescriptor, node: Scalar) -> int:
        try:
            value = _whole(node.text)
        except ValueError:
            cure = "write a whole number"
            raise self._bad(node, f"{field.name} needs a whole number, not '{node.text}'", cure) from None
        low, high = _INT_RANGES[field.cpp_type]
        if not low <= value <= high:
            what = f"{field.name} is {node.text}, out of its range {low} .. {high}"
            raise self._bad(node, what, "check the number")
        return value


def _whole(text: str) -> int:
    """A whole number in decimal, hexadecimal or octal, as text format writes them."""
    sign, bare = (-1, text[1:]) if text.startswith("-") else (1, text)
    if bare.lower().startswith("0x"):
        return sign * int(bare, 16)
    if len(bare) > 1 and bare.startswith("0") and bare.isdigit():
        return sign * int(bare, 8)
    if not bare.isdigit():
        value = float(bare)
        if not math.isfinite(value) or value != int(value):
            raise ValueError(text)
        return sign * int(value)
    return sign * int(bare)

"""Protobuf's wire format, read in place: no copy, no Python object per element (protobuf.dev, Encoding)."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Bytes that are no protobuf message.

    Attributes:
        offset: where they stop making sense.
        layer: the layer that they are part of, or "".
    """

    def __init__(self, what: str, offset: int, layer: str = "") -> None:
        super().__init__(what)
        self.offset = offset
        self.layer = layer


def read_varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """A varint and the position after it.

    Raises:
        WireError: it does not end, or is longer than ten bytes.
    """
    value = shift = 0
    start = position
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise WireError("a number does not end", start)


def fields(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message in data[start:end].

    Yields:
        field number, wire type, and for VARINT the value and the end, for the others start and end of the payload.

    Raises:
        WireError: the bytes are no message.
    """
    position = start
    while position < end:
        at = position
        key, position = read_varint(data, position, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError("a field has number 0", at)
        if wire == VARINT:
            value, position = read_varint(data, position, end)
            yield number, wire, value, position
            continue
        if wire == BYTES:
            length, position = read_varint(data, position, end)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise WireError(f"wire type {wire} does not exist in a net's files", at)
        if length > end - position:
            raise WireError(f"a field claims {length} bytes where {end - position} are left", at)
        yield number, wire, position, position + length
        position += length


def varint(value: int) -> bytes:
    """A number below 2**64 as a varint."""
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


def prefixed(number: int, payload_length: int) -> bytes:
    """The key and length of a length-delimited field."""
    return varint(number << 3 | BYTES) + varint(payload_length)


def signed64(value: int) -> int:
    """A varint's 64 bits as a signed number."""
    return value - (1 << 64) if value >> 63 else value

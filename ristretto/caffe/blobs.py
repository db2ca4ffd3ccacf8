"""BlobProto: an array on the wire, in today's and in the old form (caffe.proto, BlobProto; blob.cpp, FromProto)."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.limits import MAX_AXES
from ristretto.caffe.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    WireError,
    fields,
    prefixed,
    read_varint,
    signed64,
    varint,
)
from ristretto.inputs import open_input

_LEGACY = {1: 0, 2: 1, 3: 2, 4: 3}
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8
_ITEMS: dict[int, np.dtype[Any]] = {_DATA: np.dtype("<f4"), _DOUBLE_DATA: np.dtype("<f8")}
_LOOSE = {_DATA: FIXED32, _DOUBLE_DATA: FIXED64}
"""How values are written one by one."""


def parse_blob(data: memoryview, start: int, end: int) -> NDArray[np.float32]:
    """The array of the BlobProto in data[start:end]; float32 data is a view of the file's bytes where it can be.

    Raises:
        WireError: the bytes are no BlobProto, or hold another number of values than the shape says.
    """
    legacy: dict[int, int] = {}
    shape: tuple[int, ...] | None = None
    held: dict[int, memoryview | bytearray] = {}
    for number, wire, low, high in fields(data, start, end):
        if number in _LEGACY and wire == VARINT:
            legacy[_LEGACY[number]] = signed64(low)
        elif number == _SHAPE and wire == BYTES:
            shape = _parse_shape(data, low, high)
        elif number in _ITEMS and wire in (BYTES, _LOOSE[number]):
            if (high - low) % _ITEMS[number].itemsize:
                raise WireError("packed values do not fill their bytes", low)
            _hold(held, number, data[low:high])
    if shape is None:
        shape = tuple(legacy.get(axis, 0) for axis in range(4)) if legacy else ()
    if any(size < 0 for size in shape):
        raise WireError(f"a blob has the impossible shape {list(shape)}", start)
    chosen = _DOUBLE_DATA if held.get(_DOUBLE_DATA) else _DATA
    values = np.frombuffer(held.get(chosen, b""), _ITEMS[chosen])
    wanted = math.prod(shape)
    if values.size != wanted:
        raise WireError(f"a blob of shape {list(shape)} needs {wanted} values, the file holds {values.size}", start)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, as in C++
        return values.astype(np.float32, copy=False).reshape(shape)


def _hold(held: dict[int, memoryview | bytearray], number: int, piece: memoryview) -> None:
    """Add a piece of the values: one alone stays where it lies in the file, several are joined."""
    before = held.get(number)
    if not before:
        held[number] = piece
    elif isinstance(before, bytearray):
        before += piece
    else:
        held[number] = bytearray(before) + piece


def read_blob_file(path: Path) -> NDArray[np.float32]:
    """The array of a .binaryproto, a view of the file's bytes where it can be.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no BlobProto (``WireError``), or nothing at all.
    """
    with open_input(path) as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return parse_blob(data, 0, len(data))


def _parse_shape(data: memoryview, start: int, end: int) -> tuple[int, ...]:
    dims: list[int] = []
    for number, wire, low, high in fields(data, start, end):
        if number != 1:
            continue
        if wire == VARINT:
            dims.append(signed64(low))
        elif wire == BYTES:
            position = low
            while position < high:
                value, position = read_varint(data, position, high)
                dims.append(signed64(value))
                _check_axes(dims, low)
        _check_axes(dims, start)
    return tuple(dims)


def _check_axes(dims: Sized, start: int) -> None:
    if len(dims) > MAX_AXES:
        what = f"a blob has more than {MAX_AXES} axes"
        raise WireError(what, start)


def blob_pieces(array: NDArray[np.float32]) -> list[bytes | memoryview]:
    """A BlobProto in today's form, as pieces to be written one after another."""
    values = np.ascontiguousarray(array, np.dtype("<f4"))
    dims = b"".join(varint(size) for size in array.shape)
    packed = prefixed(1, len(dims)) + dims if dims else b""
    shape = prefixed(_SHAPE, len(packed)) + packed
    return [shape, prefixed(_DATA, values.nbytes), values.reshape(-1).view(np.uint8).data]

"""BlobProto: an array on the wire, in today's and in the old form (caffe.proto, BlobProto; blob.cpp, FromProto)."""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def parse_blob(data: memoryview, start: int, end: int) -> NDArray[np.float32]:
    """The array of the BlobProto in data[start:end]; float32 data is a view of the file's bytes where it can be.

    Raises:
        WireError: the bytes are no BlobProto, or hold another number of values than the shape says.
    """
    legacy: dict[int, int] = {}
    shape: tuple[int, ...] | None = None
    parts: dict[int, list[NDArray[Any]]] = {_DATA: [], _DOUBLE_DATA: []}
    loose = {_DATA: bytearray(), _DOUBLE_DATA: bytearray()}
    for number, wire, low, high in fields(data, start, end):
        if number in _LEGACY and wire == VARINT:
            legacy[_LEGACY[number]] = signed64(low)
        elif number == _SHAPE and wire == BYTES:
            shape = _parse_shape(data, low, high)
        elif number in parts and wire == BYTES:
            item = np.dtype("<f4") if number == _DATA else np.dtype("<f8")
            if (high - low) % item.itemsize:
                raise WireError("packed values do not fill their bytes", low)
            parts[number].append(np.frombuffer(data[low:high], item))
        elif (number, wire) in ((_DATA, FIXED32), (_DOUBLE_DATA, FIXED64)):
            loose[number] += data[low:high]
    for number, item in ((_DATA, np.dtype("<f4")), (_DOUBLE_DATA, np.dtype("<f8"))):
        if loose[number]:
            parts[number].append(np.frombuffer(loose[number], item))
    if shape is None:
        shape = tuple(legacy.get(axis, 0) for axis in range(4)) if legacy else ()
    if len(shape) > 32:
        what = f"a blob has {len(shape)} axes"
        raise WireError(what, start)
    if any(size < 0 for size in shape):
        raise WireError(f"a blob has the impossible shape {list(shape)}", start)
    chosen = parts[_DOUBLE_DATA] or parts[_DATA]
    values = chosen[0] if len(chosen) == 1 else np.concatenate(chosen) if chosen else np.empty(0, np.float32)
    wanted = math.prod(shape)
    if values.size != wanted:
        raise WireError(f"a blob of shape {list(shape)} needs {wanted} values, the file holds {values.size}", start)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, as in C++
        return values.astype(np.float32, copy=False).reshape(shape)


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
    return tuple(dims)


def blob_pieces(array: NDArray[np.float32]) -> list[bytes | memoryview]:
    """A BlobProto in today's form, as pieces to be written one after another."""
    values = np.ascontiguousarray(array, np.dtype("<f4"))
    dims = b"".join(varint(size) for size in array.shape)
    packed = prefixed(1, len(dims)) + dims if dims else b""
    shape = prefixed(_SHAPE, len(packed)) + packed
    return [shape, prefixed(_DATA, values.nbytes), values.reshape(-1).view(np.uint8).data]

"""Datums: the records of Caffe's databases (caffe.proto, Datum; io.cpp, DecodeDatum)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.wire import BYTES, FIXED32, VARINT, WireError, fields, read_varint, signed64
from ristretto.data.opencv import LIMIT, cv2, lacks_memory, max_pixels, quiet

Image = NDArray[np.uint8] | NDArray[np.float32]

NO_MEMORY = "needs more memory than there is"

_USUAL = re.compile(rb"\x08[\x80-\xff]{0,9}[\0-\x7f]\x10[\x80-\xff]{0,9}[\0-\x7f]\x18[\x80-\xff]{0,9}[\0-\x7f]\x22")
"""How nearly all raw Datums begin: channels, height, width, then the key of the pixels."""

_TOO_LARGE = f"holds an image of more pixels than {LIMIT} allows"

_PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG begins."""


class BadImageError(ValueError):
    """A record that holds no usable image; the caller knows which one it is."""


@dataclass(slots=True)
class _Datum:
    """The fields of a Datum."""

    shape: tuple[int, int, int] = (0, 0, 0)
    label: int = 0
    encoded: bool = False
    pixels: memoryview | None = None
    floats: list[NDArray[np.float32]] = field(default_factory=list)


def parse_datum(record: bytes | memoryview, color: int | None) -> tuple[Image, float]:
    """The image (c, h, w) and the label of a serialized Datum.

    Args:
        record: the record.
        color: channels that an encoded image is forced to; None leaves it as it is.

    Raises:
        BadImageError: it is no Datum, or its image cannot be decoded.
    """
    datum = _parse(memoryview(record))
    if datum.encoded:
        return decode_image(datum.pixels if datum.pixels is not None else b"", color), float(datum.label)
    shape, pixels = datum.shape, datum.pixels
    wanted = shape[0] * shape[1] * shape[2]
    values: Image = (
        np.frombuffer(pixels, np.uint8)
        if pixels is not None and len(pixels)
        else np.concatenate([*datum.floats, np.empty(0, np.float32)])
    )
    if wanted <= 0 or min(shape) <= 0 or values.size != wanted:
        what = f"states shape {list(shape)} and holds {values.size} values"
        raise BadImageError(what)
    if values.dtype == np.float32 and not np.isfinite(values).all():
        what = "holds NaN or infinity"
        raise BadImageError(what)
    return values.reshape(shape), float(datum.label)


def is_encoded(record: bytes | memoryview) -> bool:
    """Whether a serialized Datum holds an image file rather than pixels.

    Raises:
        BadImageError: it is no Datum.
    """
    return _parse(memoryview(record)).encoded


def _parse(data: memoryview) -> _Datum:
    try:
        usual = _USUAL.match(data)
        if usual is not None:
            start = usual.end()
            length, start = read_varint(data, start, len(data))
            end = start + length
            tail = _tail(bytes(data[end:])) if end <= len(data) <= end + 32 else None
            if tail is not None:
                return _Datum(_head(usual[0]), *tail, data[start:end])
        return _parse_any(data)
    except (WireError, ValueError) as error:
        what = f"is no Datum ({error})"
        raise BadImageError(what) from error


@lru_cache(maxsize=64)
def _head(data: bytes) -> tuple[int, int, int]:
    """The shape that a usual beginning states; the records of a database share few of them."""
    whole = memoryview(data)[:-1]
    return _parse_any(whole).shape


@lru_cache(maxsize=4096)
def _tail(data: bytes) -> tuple[int, bool] | None:
    """Label and encoded of the bytes that follow the pixels; None if they hold more than that, or make no sense."""
    rest = memoryview(data)
    try:
        if any(number not in (5, 7) or wire != VARINT for number, wire, _, _ in fields(rest, 0, len(rest))):
            return None
    except WireError:
        return None
    datum = _parse_any(rest)
    return datum.label, datum.encoded


def _parse_any(data: memoryview) -> _Datum:
    """A Datum whose fields come in any order."""
    sizes = {1: 0, 2: 0, 3: 0}
    datum = _Datum()
    for number, wire, low, high in fields(data, 0, len(data)):
        if number in sizes and wire == VARINT:
            sizes[number] = signed64(low)
        elif number == 4 and wire == BYTES:
            datum.pixels = data[low:high]
        elif number == 5 and wire == VARINT:
            datum.label = signed64(low)
        elif number == 6 and wire in (BYTES, FIXED32):
            datum.floats.append(np.frombuffer(data[low:high], "<f4"))
        elif number == 7 and wire == VARINT:
            datum.encoded = bool(low)
    datum.shape = sizes[1], sizes[2], sizes[3]
    return datum


def decode_image(encoded: bytes | memoryview, color: int | None) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or the like to (c, h, w), channels in OpenCV's order blue, green, red.

    Raises:
        BadImageError: it cannot be decoded.
    """
    flag = {None: cv2.IMREAD_UNCHANGED, 3: cv2.IMREAD_COLOR, 1: cv2.IMREAD_GRAYSCALE}[color]
    try:
        with quiet():
            # For a part that a PNG claims to hold and does not OpenCV would take memory all the same.
            whole = len(encoded) > 0 and not _is_cut_png(encoded)
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag) if whole else None
        if image is not None and image.shape[0] * image.shape[1] > max_pixels():
            raise BadImageError(_TOO_LARGE)  # who imports cv2 before this tool has OpenCV's own limit, which is larger
        if image is not None:
            return planar(image)
    except cv2.error as error:
        if lacks_memory(error):
            raise BadImageError(NO_MEMORY) from error
        if "MAX_IMAGE" in str(error):
            raise BadImageError(_TOO_LARGE) from error
    what = "holds an image that cannot be decoded"
    raise BadImageError(what)


def _is_cut_png(encoded: bytes | memoryview) -> bool:
    """Whether it is a PNG with a chunk that claims more bytes than there are (PNG specification, 5.3)."""
    if bytes(encoded[: len(_PNG)]) != _PNG:
        return False
    place = len(_PNG)
    while place + 12 <= len(encoded):  # length, type, data, checksum
        kind = bytes(encoded[place + 4 : place + 8])
        place += 12 + int.from_bytes(encoded[place : place + 4], "big")
        if kind == b"IEND":
            return place > len(encoded)
    return True


def planar(image: NDArray[Any]) -> NDArray[np.uint8]:
    """From OpenCV's (h, w) or (h, w, c) to (c, h, w), in memory in that order: what follows is several times faster so.

    Raises:
        BadImageError: it has more than 8 bits per channel.
    """
    if image.dtype != np.uint8:
        what = f"has {image.dtype} pixels, 8 bits are needed"
        raise BadImageError(what)
    pixels: NDArray[np.uint8] = image[np.newaxis] if image.ndim == 2 else np.array(cv2.split(image))
    return pixels

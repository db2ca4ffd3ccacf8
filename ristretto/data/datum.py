"""Datums: the records of Caffe's databases (caffe.proto, Datum; io.cpp, DecodeDatum)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.wire import BYTES, FIXED32, VARINT, WireError, fields, signed64

Image = NDArray[np.uint8] | NDArray[np.float32]


class BadImageError(ValueError):
    """A record that holds no usable image; the caller knows which one it is."""


def parse_datum(record: bytes | memoryview, color: int | None) -> tuple[Image, float]:
    """The image (c, h, w) and the label of a serialized Datum.

    Args:
        record: the record.
        color: channels that an encoded image is forced to; None leaves it as it is.

    Raises:
        BadImageError: it is no Datum, or its image cannot be decoded.
    """
    data = memoryview(record)
    sizes = {1: 0, 2: 0, 3: 0}
    label, encoded = 0, False
    pixels: memoryview | None = None
    floats: list[NDArray[np.float32]] = []
    try:
        for number, wire, low, high in fields(data, 0, len(data)):
            if number in sizes and wire == VARINT:
                sizes[number] = signed64(low)
            elif number == 4 and wire == BYTES:
                pixels = data[low:high]
            elif number == 5 and wire == VARINT:
                label = signed64(low)
            elif number == 6 and wire in (BYTES, FIXED32):
                floats.append(np.frombuffer(data[low:high], "<f4"))
            elif number == 7 and wire == VARINT:
                encoded = bool(low)
    except (WireError, ValueError) as error:
        what = f"is no Datum ({error})"
        raise BadImageError(what) from error
    if encoded:
        return decode_image(pixels if pixels is not None else b"", color), float(label)
    shape = (sizes[1], sizes[2], sizes[3])
    wanted = shape[0] * shape[1] * shape[2]
    values: Image = (
        np.frombuffer(pixels, np.uint8)
        if pixels is not None and len(pixels)
        else np.concatenate([*floats, np.empty(0, np.float32)])
    )
    if wanted <= 0 or min(shape) <= 0 or values.size != wanted:
        what = f"states shape {list(shape)} and holds {values.size} values"
        raise BadImageError(what)
    return values.reshape(shape), float(label)


def decode_image(encoded: bytes | memoryview, color: int | None) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or the like to (c, h, w), channels in OpenCV's order blue, green, red.

    Raises:
        BadImageError: it cannot be decoded.
    """
    flag = {None: cv2.IMREAD_UNCHANGED, 3: cv2.IMREAD_COLOR, 1: cv2.IMREAD_GRAYSCALE}[color]
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag) if len(encoded) else None
    except cv2.error:
        image = None
    if image is None:
        what = "holds an image that cannot be decoded"
        raise BadImageError(what)
    return planar(image)


def planar(image: NDArray[Any]) -> NDArray[np.uint8]:
    """From OpenCV's (h, w) or (h, w, c) to (c, h, w).

    Raises:
        BadImageError: it has more than 8 bits per channel.
    """
    if image.dtype != np.uint8:
        what = f"has {image.dtype} pixels, 8 bits are needed"
        raise BadImageError(what)
    pixels: NDArray[np.uint8] = image[np.newaxis] if image.ndim == 2 else image.transpose(2, 0, 1)
    return pixels

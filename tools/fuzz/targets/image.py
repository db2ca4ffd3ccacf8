"""Image files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import binary_seeds as made

from ristretto.data.datum import BadImageError, decode_image
from ristretto.data.opencv import MAX_PIXELS


def seeds() -> Iterable[bytes]:
    return made.images()


def one_input(data: bytes) -> None:
    for color in (None, 3, 1):
        with suppress(BadImageError):
            image = decode_image(data, color)
            assert image.shape[1] * image.shape[2] <= MAX_PIXELS

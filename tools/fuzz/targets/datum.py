"""The records of databases, raw and encoded."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import binary_seeds as made

from ristretto.data.datum import BadImageError, is_encoded, parse_datum


def seeds() -> Iterable[bytes]:
    return made.datums()


def one_input(data: bytes) -> None:
    for color in (None, 3, 1):
        with suppress(BadImageError):
            image, _ = parse_datum(data, color)
            assert image.ndim == 3
            assert is_encoded(data) or image.nbytes <= 4 * len(data)

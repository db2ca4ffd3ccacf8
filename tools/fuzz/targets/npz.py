"""Arrays in npz files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import binary_seeds as made

from ristretto.data.npz_source import open_npz
from ristretto.errors import RistrettoError


def seeds() -> Iterable[bytes]:
    return made.arrays()


def words() -> Iterable[str]:
    return (
        "data.npy",
        "label.npy",
        "'descr': '",
        "'fortran_order': True",
        "'shape': (2, ",
        "<f4",
        "|O",
        str(1 << 40),
    )


def one_input(data: bytes) -> None:
    path = made.file_of(data)
    with suppress(RistrettoError):
        next(open_npz(path, {"data": None, "label": None}).batches())
    with suppress(RistrettoError):
        next(open_npz(path, {"data": (2, 1, 2, 2)}, 1).batches())

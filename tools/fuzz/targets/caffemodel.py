"""Weights files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import binary_seeds as made

from ristretto.caffe.weights import read_weights
from ristretto.errors import RistrettoError


def seeds() -> Iterable[bytes]:
    return made.weights()


def one_input(data: bytes) -> None:
    with suppress(RistrettoError):
        for layer in read_weights([made.file_of(data)]).layers:
            assert sum(blob.nbytes for blob in layer.blobs) <= len(data)

"""Mean files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import binary_seeds as made
import numpy as np

from ristretto.data.mean import read_mean
from ristretto.errors import RistrettoError


def seeds() -> Iterable[bytes]:
    yield made.blob(np.ones((1, 3, 2, 2)))
    yield made.blob(np.ones((1, 2, 2)))
    yield made.old_blob()


def one_input(data: bytes) -> None:
    with suppress(RistrettoError):
        mean = read_mean(made.file_of(data))
        assert mean.ndim == 3
        assert mean.nbytes <= len(data)

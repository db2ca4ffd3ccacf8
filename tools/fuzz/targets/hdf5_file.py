"""HDF5 files: weights and data. The library that reads them is C; what is looked for are crashes too."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import binary_seeds as made

from ristretto.caffe.weights_hdf5 import read_hdf5_layers
from ristretto.errors import RistrettoError

LONGEST = 8192


def seeds() -> Iterable[bytes]:
    yield made.hdf5(groups=True)
    yield made.hdf5(groups=False)
    yield list(made.solver_states())[1]


def one_input(data: bytes) -> None:
    with suppress(RistrettoError):
        read_hdf5_layers(made.file_of(data))

"""HDF5 files: weights and data. The library that reads them is C; what is looked for are crashes too.

They are read without the trial in another process that comes before it elsewhere: here a crash is to be seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from unittest.mock import patch

import binary_seeds as made

from ristretto.caffe import hdf5
from ristretto.caffe.solver_state import read_solver_state
from ristretto.caffe.weights_hdf5 import read_hdf5_layers
from ristretto.errors import RistrettoError

LONGEST = 8192


def seeds() -> Iterable[bytes]:
    yield made.hdf5(groups=True)
    yield made.hdf5(groups=False)
    yield list(made.solver_states())[1]


def one_input(data: bytes) -> None:
    path = made.file_of(data)
    with patch.object(hdf5, "try_hdf5"):
        with suppress(RistrettoError):
            read_hdf5_layers(path)
        if data.startswith(hdf5.HDF5_MAGIC):
            with suppress(RistrettoError):
                read_solver_state(path)

"""Snapshots of solvers."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import binary_seeds as made

from ristretto.caffe.solver_state import read_solver_state
from ristretto.errors import RistrettoError


def seeds() -> Iterable[bytes]:
    return list(made.solver_states())[:1]


def one_input(data: bytes) -> None:
    if not data.startswith(b"\x89HDF"):
        with suppress(RistrettoError):
            read_solver_state(made.file_of(data))

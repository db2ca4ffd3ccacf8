"""LMDBs: what passes the check is opened and read to the end by the library itself."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import binary_seeds as made
import lmdb

from ristretto.data.lmdb_check import LmdbError, check_lmdb

LONGEST = 1 << 16


def seeds() -> Iterable[bytes]:
    return made.databases()


def one_input(data: bytes) -> None:
    with made.folder() as folder:
        file = folder / "data.mdb"
        file.write_bytes(data)
        try:
            check_lmdb(file)
        except LmdbError:
            return
        with suppress(lmdb.Error):
            read(folder, len(data))


def read(folder: Path, size: int) -> None:
    """Every record by its key, as a source reads them."""
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin(buffers=True) as reading:
        for key in [bytes(key) for key in reading.cursor().iternext(keys=True, values=False)]:
            record = reading.get(key)
            assert record is None or len(bytes(record)) <= size

"""Databases that tests read themselves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb


@contextmanager
def reading(path: Path | str) -> Iterator[Any]:
    """A transaction of an LMDB; a net that was run in this process keeps its own open until it is collected."""
    gc.collect()
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        yield transaction

"""Pages of mapped files: what was read of them counts as this process's memory until it is given back.

Nothing is lost with that: the pages stay in the system's file cache as long as it has room, and are mapped again when
they are looked at. The system maps neighbours of a page along with it, two megabytes of them at times.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_MAPS = Path("/proc/self/maps")

_DONT_NEED: int | None = getattr(mmap, "MADV_DONTNEED", None)


def give_back(mapped: mmap.mmap) -> None:
    """Give back the pages of a mapping that nobody writes to."""
    if _DONT_NEED is not None:
        mapped.madvise(_DONT_NEED)


class MappedFile:
    """Where a library has mapped a file to read it; nowhere, if that cannot be told.

    May be used only as long as the library has it mapped: later something else may lie there.
    """

    def __init__(self, held: memoryview) -> None:
        """Find it by a part of it that the library gave out."""
        self._place = _place(np.frombuffer(held, np.uint8).ctypes.data)

    def give_back(self) -> None:
        """Give back its pages."""
        advise = _madvise()
        if advise is not None and _DONT_NEED is not None and self._place is not None:
            start, end = self._place
            advise(start, end - start, _DONT_NEED)


def _place(address: int) -> tuple[int, int] | None:
    """The mapping of a file around an address, to be read and shared: pages of a private one may be nowhere else."""
    try:
        lines = _MAPS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:  # not on Linux
        return None
    for line in lines:
        place, permissions, _, _, inode, *_ = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in place.split("-"))
        if start <= address < end:
            return (start, end) if permissions == "r--s" and inode != "0" else None
    return None


@cache
def _madvise() -> Callable[[int, int, int], Any] | None:
    """The C library's function of that name."""
    try:
        found = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):  # another system
        return None
    found.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return found

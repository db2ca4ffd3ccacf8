"""What was decoded once, kept for the passes to come: in memory, then in a temporary file, both bounded."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from io import FileIO
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], ...]

ENTRY_BYTES = 512
"""What an entry costs beside its values: array and dictionary objects. It matters for images of a few hundred bytes."""


@dataclass(frozen=True, slots=True)
class _Held:
    """How an array is held: float32 that are whole numbers from 0 to 255 take a byte each."""

    values: NDArray[Any]
    widened: bool

    def given(self) -> NDArray[Any]:
        """The array as it came."""
        return self.values.astype(np.float32) if self.widened else self.values

    def copied(self) -> _Held:
        """The same in memory of its own, never to be written to."""
        values = np.array(self.values, order="C")
        values.flags.writeable = False
        return _Held(values, self.widened)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an entry lies in the file, and what its arrays are: dtype, shape, whether they are widened."""

    offset: int
    arrays: tuple[tuple[np.dtype[Any], tuple[int, ...], bool], ...]


class Cache:
    """Arrays by key, each of which can be made again: what finds no room is not kept, and that is no error.

    The first that come stay, nothing is replaced: passes go round and round, and whatever replaced the oldest entry
    would throw away the very one that is wanted soonest. May be used by several threads.

    Attributes:
        memory: bytes to keep in memory.
        disk: bytes to keep in the temporary file; 0 once it could not be written.
        in_memory, on_disk: bytes that are kept there.
        hits, misses: how often what was asked for was there, and was not.
    """

    def __init__(self, memory: int = 0, disk: int = 0) -> None:
        self.memory, self.disk = memory, disk
        self.in_memory = self.on_disk = 0
        self.hits = self.misses = 0
        self._held: dict[Hashable, tuple[_Held, ...] | _Place] = {}
        self._file: FileIO | None = None
        self._lock = Lock()

    def __str__(self) -> str:
        places = f"{self.in_memory / 2**20:.1f} MiB in memory, {self.on_disk / 2**20:.1f} MiB on disk"
        return f"{len(self._held)} entries, {places}; {self.hits} hits, {self.misses} misses"

    @property
    def keeps(self) -> bool:
        """Whether it was given any room at all."""
        return self.memory > 0 or self.disk > 0

    def get(self, key: Hashable) -> Arrays | None:
        """What was kept under a key, bit by bit, not to be written to; None if it was not, or cannot be read back."""
        found = self._held.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        if isinstance(found, _Place):
            with self._lock:
                return self._read(found)
        return tuple([stored.given() for stored in found])

    def put(self, key: Hashable, arrays: Sequence[NDArray[Any]], *, spill: bool = True) -> None:
        """Keep copies of some arrays if there is room; a key is given once.

        Args:
            key: what they will be asked for by.
            arrays: the arrays.
            spill: whether they are worth writing to the file: not if they lie in another file just so.
        """
        if not spill and self.in_memory >= self.memory:
            return
        packed = tuple([_packed(array) for array in arrays])
        size = ENTRY_BYTES + sum(stored.values.nbytes for stored in packed)
        with self._lock:
            if key in self._held:
                return
            if self.in_memory + size <= self.memory:
                self._held[key] = tuple(stored.copied() for stored in packed)
                self.in_memory += size
            elif spill:
                self._write(key, packed)

    def _write(self, key: Hashable, packed: tuple[_Held, ...]) -> None:
        size = sum(stored.values.nbytes for stored in packed)
        if self.on_disk + size > self.disk:
            return
        try:
            if self._file is None:
                self._file = _unnamed_file()
                finalize(self, self._file.close)
            self._file.seek(self.on_disk)
            for stored in packed:
                left = _bytes_of(np.ascontiguousarray(stored.values))
                while left:
                    left = left[self._file.write(left) :]
        except OSError:  # the disk is full, or there is no folder for temporary files
            self.disk = 0
            return
        arrays = tuple((stored.values.dtype, stored.values.shape, stored.widened) for stored in packed)
        self._held[key] = _Place(self.on_disk, arrays)
        self.on_disk += size

    def _read(self, place: _Place) -> Arrays | None:
        """The arrays at a place; None where the file does not give them back."""
        assert self._file is not None
        read = []
        try:
            self._file.seek(place.offset)
            for dtype, shape, widened in place.arrays:
                values = np.empty(shape, dtype)
                left = _bytes_of(values)
                while left:
                    count = self._file.readinto(left)
                    if not count:
                        return None
                    left = left[count:]
                read.append(_Held(values, widened).given())
        except OSError:
            return None
        return tuple(read)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _unnamed_file() -> FileIO:
    """A file without a name, gone with the process however that ends.

    It has no buffer: what cannot be written fails at once, and not when the file is read or closed.
    """
    file = tempfile.TemporaryFile(prefix="ristretto-", buffering=0)  # noqa: SIM115 - closed with its cache
    assert isinstance(file, FileIO)
    return file


def _packed(array: NDArray[Any]) -> _Held:
    """An array as it will be held: in bytes where that changes no bit of it (-0.0 would lose its sign)."""
    if array.dtype != np.float32 or array.ndim == 0:
        return _Held(array, False)
    with np.errstate(invalid="ignore"):
        values = array.astype(np.uint8, order="C")
    same = np.array_equal(values.astype(np.float32).view(np.uint32), np.ascontiguousarray(array).view(np.uint32))
    return _Held(values, True) if same else _Held(array, False)

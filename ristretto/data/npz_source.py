"""Arrays from an npz file, fed in place of a net's data layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

import numpy as np
from numpy.lib.format import MAGIC_PREFIX, read_array_header_1_0, read_array_header_2_0, read_magic
from numpy.typing import NDArray

from ristretto.caffe.limits import ARRAYS_MB, limit, to_raise
from ristretto.caffe.netspec import Shape
from ristretto.data.source import Batch, DataSource, Picker, first_broken
from ristretto.errors import DataError, RistrettoError
from ristretto.inputs import open_input

_HEADER_BYTES = 10_012
"""The longest beginning of an array that numpy takes: magic, length, header."""


class NpzSource(DataSource):
    """Arrays by blob name, handed out in batches along their first axis."""

    images: int

    def __init__(self, path: Path, wanted: Mapping[str, Shape | None], batch_size: int | None) -> None:
        self._arrays = _load(path, wanted)
        self.tops = tuple(wanted)
        lengths = {name: array.shape[0] if array.ndim else 1 for name, array in self._arrays.items()}
        self.images = next(iter(lengths.values()), 0)
        self._one_batch = batch_size is None
        if not self._one_batch:
            self._check_finite(path)
        if not self._one_batch and len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise DataError(f"the arrays have different lengths: {listed}", file=str(path))
        self.batch_size = self.images if batch_size is None else min(batch_size, self.images)
        self.shapes = {
            name: array.shape if self._one_batch else (self.batch_size, *array.shape[1:])
            for name, array in self._arrays.items()
        }

    def _check_finite(self, path: Path) -> None:
        """Refuse NaN and infinity: no score can be had from them. What is run as one batch may hold anything."""
        for name, array in self._arrays.items():
            row = first_broken(array)
            if row is not None:
                raise DataError(f"image {row} of array '{name}' holds NaN or infinity", file=str(path), cure="mend it")

    def batches(self) -> Iterator[Batch]:
        """See DataSource."""
        start = 0
        while True:
            if self._one_batch:
                yield dict(self._arrays)
                continue
            rows = np.arange(start, start + self.batch_size) % self.images
            start += self.batch_size
            yield {name: array[rows] for name, array in self._arrays.items()}

    def single_pass(self) -> Iterator[Batch]:
        """See DataSource."""
        if self._one_batch:
            yield dict(self._arrays)
            return
        for start in range(0, self.images, self.batch_size):
            yield {name: array[start : start + self.batch_size] for name, array in self._arrays.items()}

    def picker(self, batches: int | None) -> Picker | None:
        """See DataSource."""
        if self._one_batch:
            return None
        return lambda places: {
            name: array[np.asarray(places, np.intp) % self.images] for name, array in self._arrays.items()
        }


def open_npz(path: Path, wanted: Mapping[str, Shape | None], batch_size: int | None = None) -> NpzSource:
    """Open an npz file for a net's blobs.

    Args:
        path: the file.
        wanted: the blobs that the net reads, with the shape its prototxt declares, or None. The file may hold more:
            the same inputs serve nets that read fewer of them.
        batch_size: images per batch; None takes the arrays whole, whatever their shapes.

    Raises:
        DataError: it is no npz file, a blob is missing, or an array does not suit its blob.
    """
    return NpzSource(path, wanted, batch_size)


def _load(path: Path, wanted: Mapping[str, Shape | None]) -> dict[str, NDArray[np.float32]]:
    try:
        with open_input(path) as stream:  # numpy leaves a file open that it opened itself and found damaged
            arrays = _arrays(stream, wanted, path)
    except RistrettoError:
        raise
    except Exception as error:
        # numpy, zipfile and whatever unpacks check little: bytes that others wrote make them raise nearly anything.
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no npz file, or damaged"
        raise DataError(f"cannot read the arrays: {why}", file=str(path), cure="write it with numpy.savez") from error
    return {name: fitting(array, wanted[name], name, str(path)) for name, array in arrays.items()}


def _arrays(stream: BinaryIO, wanted: Mapping[str, Shape | None], path: Path) -> dict[str, NDArray[np.generic]]:
    """The wanted arrays of a file."""
    if stream.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX:
        raise DataError("it holds one array without a name", file=str(path), cure="write it with numpy.savez")
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as file:
        missing = [name for name in wanted if name not in file.files]
        if missing:
            what = f"no array for blob '{missing[0]}'"
            held = ", ".join(file.files) or "nothing"
            cure = f"save the arrays under the names {', '.join(wanted)}; the file holds {held}"
            raise DataError(what, file=str(path), cure=cure)
        left, found = limit(ARRAYS_MB) << 20, {}
        for name in wanted:
            left -= _bytes_of(file.zip, name)
            if left < 0:
                what = f"the arrays take more than {limit(ARRAYS_MB)} MB"
                raise DataError(what, file=str(path), cure=to_raise(ARRAYS_MB))
            found[name] = np.asarray(file[name])
        return found


def _bytes_of(archive: ZipFile, name: str) -> int:
    """What an array takes, once as it is stored and once as float32: its beginning tells, before it is unpacked.

    Raises:
        ValueError: the file does not hold as much as that says, or it makes no sense.
    """
    stored = archive.getinfo(name if name in archive.NameToInfo else f"{name}.npy")  # as numpy looks for it
    with archive.open(stored) as member:
        start = member.read(_HEADER_BYTES)
    if not start.startswith(MAGIC_PREFIX):
        return stored.file_size  # no array, which numpy gives as bytes
    begun = BytesIO(start)
    read = read_array_header_1_0 if read_magic(begun) == (1, 0) else read_array_header_2_0
    shape, _, dtype = read(begun)
    count = math.prod(shape)
    if not 0 <= count * dtype.itemsize <= stored.file_size:
        what = f"{stored.file_size} bytes for an array of shape {shape}"
        raise ValueError(what)
    return count * (dtype.itemsize + 4)


def fitting(array: NDArray[np.generic], declared: Shape | None, name: str, file: str = "") -> NDArray[np.float32]:
    """An array as it is fed to a blob: float32, with the axes that the net declares.

    Args:
        array: numbers of any kind.
        declared: the shape that the prototxt declares, or None; its lengths may differ, but not their number, unless
            it has as many elements.
        name: the blob's name.
        file: where the array comes from, for errors.

    Raises:
        DataError: it holds no numbers, nothing at all, or has another number of axes.
    """
    if array.dtype.kind not in "fiub":
        raise DataError(f"array '{name}' holds {array.dtype}, numbers are needed", file=file)
    if not array.size:
        raise DataError(f"array '{name}' is empty", file=file)
    if declared is not None and array.ndim != len(declared):
        if array.size == math.prod(declared):
            return array.reshape(declared).astype(np.float32)
        what = f"array '{name}' has shape {list(array.shape)}, the net declares {list(declared)}"
        raise DataError(what, file=file, cure=f"give it {len(declared)} axes")
    return array.astype(np.float32)

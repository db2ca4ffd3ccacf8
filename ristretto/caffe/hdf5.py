"""HDF5 files: opened once another process has come through them, and read within the memory that there is.

They are read by libhdf5, in C. A damaged file that crashes or holds up the library would take this process along, so
each file is tried in a process of its own first.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.confined import Confined
from ristretto.caffe.limits import ARRAYS_MB, limit, to_raise
from ristretto.errors import UsageError
from ristretto.inputs import open_input

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError, MemoryError)
"""What h5py raises for a file whose inside is damaged: it depends on where the damage is."""

_SECONDS, _BYTES_A_SECOND = 60, 10 << 20
"""How long a trial may take, and how much longer for how many bytes."""

_NO_CRASH = (0, 1, 2)
"""Statuses with which Python itself ends: h5py cannot be imported there, or the script is in an archive."""

_MOST_LINKS = 100_000
"""More than any file of weights or data has."""

_TRIAL = Path(__file__).with_name("hdf5_trial.py")

_tried: dict[tuple[Path, bool], tuple[int, int]] = {}
"""Files that were come through, and whether with those that they lead to, as they were then: size and last change."""


def import_h5py(file: str) -> Any:
    """h5py, or an error that says how to get it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        cure = "pip install 'ristretto-fixed-point[hdf5]'"
        raise UsageError("HDF5 files need the package h5py", file=file, cure=cure) from error
    return h5py


@contextmanager
def open_hdf5(path: Path, confined: Confined | None = None) -> Iterator[Any]:
    """An HDF5 file as an ``h5py.File``, open for reading.

    Args:
        path: the file.
        confined: not None if the file is somebody else's, and has to hold all that it gives; see ``check_alone``.

    Raises:
        OSError: it is no such file, or one that crashes the library. Reading it raises any of ``HDF5_ERRORS``.
        UsageError: h5py is not installed, or the file leads to others and must not.
    """
    h5py = import_h5py(str(path))
    with open_input(path):  # the library would wait for a pipe
        pass
    try_hdf5([path], confined)
    with h5py.File(path, "r") as file:
        if confined is not None:
            check_alone(file, h5py, path)
        yield file


def check_alone(file: Any, h5py: Any, path: Path) -> None:
    """Refuse an open HDF5 file that takes anything from another file, wherever that lies.

    libhdf5 looks for the names in a file in several places, the current folder among them, and what they lead to may
    lead on: only a file without such names is known to stay where it is.

    Args:
        file: the open file, an ``h5py.File``.
        h5py: the package.
        path: the file's path.

    Raises:
        UsageError: there is a link to another file, or a dataset is stored in one.
    """
    cure = "save it as one file, or leave --untrusted out if you trust it"
    seen: set[int] = set()
    waiting, count = [file], 0
    while waiting:
        group = waiting.pop()
        for name in group:
            count += 1
            if count > _MOST_LINKS:
                raise UsageError(f"the file has more than {_MOST_LINKS} links", file=str(path), cure="is it damaged?")
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise UsageError(f"'{name}' is a link to another file, '{link.filename}'", file=str(path), cure=cure)
            if not isinstance(link, h5py.HardLink):
                continue
            item = group.get(name)
            if isinstance(item, h5py.Dataset):
                for other in _files_of(item):
                    raise UsageError(f"'{name}' is stored in another file, '{other}'", file=str(path), cure=cure)
            elif isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address not in seen:
                    seen.add(address)
                    waiting.append(item)


def _files_of(dataset: Any) -> list[str]:
    """Other files that a dataset's values lie in."""
    names = [name for name, _, _ in dataset.external or ()]
    if dataset.is_virtual:
        names += [source.file_name for source in dataset.virtual_sources()]
    return [name for name in names if name != "."]


def try_hdf5(paths: Sequence[Path], confined: Confined | None = None) -> None:
    """Let another process read files, unless that was done before.

    Args:
        paths: the files.
        confined: not None to leave alone what lies in other files.

    Raises:
        OSError: the process crashed at a file, or took too long.
    """
    alone = confined is not None
    new = [path for path in paths if path.is_file() and _tried.get((path.absolute(), alone)) != _state(path)]
    if not new:
        return
    asked = json.dumps({"paths": [str(path) for path in new], "bytes": limit(ARRAYS_MB) << 20, "alone": alone})
    seconds = _SECONDS + sum(path.stat().st_size for path in new) // _BYTES_A_SECOND
    packages = {Path(str(module.__file__)).parents[1] for module in (import_h5py(str(new[0])), np)}
    command = [sys.executable, "-I", str(_TRIAL), *map(str, packages)]
    try:
        done = subprocess.run(command, input=asked.encode(), capture_output=True, timeout=seconds, check=False)
        come_through, crashed = done.stdout.count(b"\n"), done.returncode not in _NO_CRASH
    except subprocess.TimeoutExpired as error:
        come_through, crashed = (error.stdout or b"").count(b"\n"), True
    except OSError:  # there is no program to start: an embedded Python
        return
    if crashed and come_through < len(new):
        message = f"'{new[come_through]}' crashes or holds up the library that reads it"
        raise OSError(message)
    _tried.update(((path.absolute(), alone), _state(path)) for path in new)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class ArrayReader:
    """Reads the arrays of one file, as many as the memory is meant to hold."""

    def __init__(self) -> None:
        self._left = limit(ARRAYS_MB) << 20

    def read(self, dataset: Any) -> NDArray[np.float32]:
        """A dataset's values; see ``check``."""
        self.check(dataset)
        return np.asarray(dataset, np.float32)

    def check(self, dataset: Any) -> None:
        """Take a dataset off what may be read.

        Raises:
            ValueError: it claims more than the file stores, which would be filled up with zeros, or than the memory
                is meant to hold, or holds no numbers.
        """
        if dataset.dtype.kind not in "fiub":
            message = f"{dataset.name} holds {dataset.dtype}, numbers are needed"
            raise ValueError(message)
        if not dataset.is_virtual and not _is_whole(dataset):
            message = f"{dataset.name} has shape {dataset.shape}, and fewer values are stored"
            raise ValueError(message)
        self._left -= max(dataset.nbytes, 4 * dataset.size)
        if self._left < 0:
            message = f"its arrays take more than {limit(ARRAYS_MB)} MB: {to_raise(ARRAYS_MB)}"
            raise ValueError(message)


def _is_whole(dataset: Any) -> bool:
    """Whether as much is stored as a dataset claims."""
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size() >= dataset.nbytes)
    wanted = math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() == wanted)

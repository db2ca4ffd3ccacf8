"""Opening files to read, so that what is no file holds nobody up: a named pipe waits until somebody writes to it.

What a job has read is noted, so that none of its results takes the place of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

_OPENED_BEFORE = frozenset(map(Path, ("/dev/fd", "/proc/self/fd")))
"""Folders of what a process was started with, such as the pipe of ``<(...)`` in a shell."""


_Identity = tuple[int, int]
"""The device and the number of a file: the same however it is spelled, through links and hard links."""

_OF_DATABASES = frozenset(("data.mdb", "lock.mdb", "CURRENT", "LOCK"))
"""Files of a database that must not be made either where they are missing."""


@dataclass
class _Inputs:
    """What a job has read so far."""

    files: dict[_Identity, Path] = field(default_factory=dict)
    folders: dict[Path, None] = field(default_factory=dict)
    lists: list[Callable[[], Iterable[Path]]] = field(default_factory=list)

    def at(self, path: Path) -> Path | None:
        """The input that is at a path, or None."""
        target = Path(os.path.realpath(path))
        for folder in self.folders:
            if target.name in _OF_DATABASES and target.parent == Path(os.path.realpath(folder)):
                return target
        identity = _identity(target)
        if identity is None:  # nothing is there that could be lost
            return None
        noted = self.files.get(identity)
        if noted is not None and _identity(noted) == identity:  # a file that is gone has left its number to others
            return noted
        return next((each for each in self._unopened() if _identity(each) == identity), None)

    def inside(self, folder: Path) -> Path | None:
        """An input that lies in a folder, or None."""
        real = Path(os.path.realpath(folder))
        known = (*self.files.values(), *self.folders, *self._unopened())
        return next((path for path in known if real in Path(os.path.realpath(path)).parents), None)

    def _unopened(self) -> Iterator[Path]:
        for folder in self.folders:
            with suppress(OSError):
                yield from folder.iterdir()
        for paths in self.lists:
            yield from paths()


_inputs: ContextVar[_Inputs | None] = ContextVar("inputs", default=None)


@contextmanager
def noting_inputs() -> Iterator[None]:
    """Note what is opened to read inside; a block inside another one adds to it."""
    if _inputs.get() is not None:
        yield
        return
    token = _inputs.set(_Inputs())
    try:
        yield
    finally:
        _inputs.reset(token)


def note_input(path: Path) -> None:
    """Note what is read by other means: a file, or a database's folder with all files in it."""
    inputs = _inputs.get()
    if inputs is None:
        return
    if path.is_dir():
        inputs.folders[path] = None
    elif (identity := _identity(path)) is not None:
        inputs.files[identity] = path


def note_inputs(paths: Callable[[], Iterable[Path]]) -> None:
    """Note files that are to be read, which may be very many: they are listed only if something is to be written."""
    inputs = _inputs.get()
    if inputs is not None:
        inputs.lists.append(paths)


def input_at(path: Path) -> Path | None:
    """The input that a result at a path would take the place of, or None."""
    inputs = _inputs.get()
    return None if inputs is None else inputs.at(path)


def input_inside(folder: Path) -> Path | None:
    """An input that lies in a folder, or None."""
    inputs = _inputs.get()
    return None if inputs is None else inputs.inside(folder)


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file that is there, by links or hard links too."""
    identity = _identity(first)
    return identity is not None and identity == _identity(second)


def open_input(path: Path, *, piped: bool = False, noted: bool = True) -> BinaryIO:
    """Open a file to read its bytes.

    Args:
        path: the file.
        piped: whether it may also be what we were started with, by such a path as /dev/stdin or /dev/fd/63.
        noted: whether no result may take its place; not so of what the job has written itself.

    Raises:
        OSError: it cannot be opened, or is no file; ``strerror`` says what it is.
    """
    file = _opened(path, piped=piped)
    inputs = _inputs.get()
    if noted and inputs is not None:
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode):
            inputs.files[found.st_dev, found.st_ino] = path
    return file


def read_input(path: Path) -> bytes:
    """The content of a file; see ``open_input``.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with open_input(path) as file:
        return file.read()


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _opened(path: Path, *, piped: bool) -> BinaryIO:
    any_kind = piped and (path == Path("/dev/stdin") or path.parent in _OPENED_BEFORE)
    return path.open("rb") if any_kind else open(path, "rb", opener=_open_file)


def _open_file(path: str, flags: int) -> int:
    """Open what is a file, or a folder, which is refused by those who call this."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"it is a {'named pipe' if stat.S_ISFIFO(mode) else 'device'}, not a file", path)

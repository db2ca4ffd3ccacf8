"""Opening files to read, so that what is no file holds nobody up: a named pipe waits until somebody writes to it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_OPENED_BEFORE = frozenset(map(Path, ("/dev/fd", "/proc/self/fd")))
"""Folders of what a process was started with, such as the pipe of ``<(...)`` in a shell."""


def open_input(path: Path, *, piped: bool = False) -> BinaryIO:
    """Open a file to read its bytes.

    Args:
        path: the file.
        piped: whether it may also be what we were started with, by such a path as /dev/stdin or /dev/fd/63.

    Raises:
        OSError: it cannot be opened, or is no file; ``strerror`` says what it is.
    """
    any_kind = piped and (path == Path("/dev/stdin") or path.parent in _OPENED_BEFORE)
    return path.open("rb") if any_kind else open(path, "rb", opener=_open_file)


def read_input(path: Path) -> bytes:
    """The content of a file; see ``open_input``.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with open_input(path) as file:
        return file.read()


def _open_file(path: str, flags: int) -> int:
    """Open what is a file, or a folder, which is refused by those who call this."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"it is a {'named pipe' if stat.S_ISFIFO(mode) else 'device'}, not a file", path)

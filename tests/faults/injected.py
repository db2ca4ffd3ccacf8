"""Faults of the system, at the n-th call that changes a folder: Python tells every such call to an audit hook first."""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
EVENTS = {"open": 1, "os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.remove": 1, "os.rmdir": 1}
"""What changes a folder, and how many of its arguments are paths."""
REMOVALS = ("os.remove", "os.rmdir")
"""What is no call to count: to remove something fails only where nothing can be changed any more."""
NEED_ROOM = ("open", "os.mkdir", "os.link", "fsync")


@dataclass
class Faults:
    """What fails.

    Attributes:
        root: only below this folder.
        first: the number of the first call that fails, from 0 on; None for none.
        for_good: whether all after it that need room fail too, as on a disk that stays full.
        read_only: whether simply all after it fail, as on a disk that broke and cannot be written to any more.
        error: what is said.
        calls: what was called, in words.
    """

    root: Path
    first: int | None = None
    for_good: bool = False
    read_only: bool = False
    error: int = errno.ENOSPC
    calls: list[str] = field(default_factory=list)

    def hear(self, event: str, paths: str = "") -> None:
        number = len(self.calls)
        if event not in REMOVALS:
            self.calls.append(f"{event} {paths}")
        if self.first is None or number < self.first:
            return
        if self.read_only or (
            event not in REMOVALS and (number == self.first or (self.for_good and event in NEED_ROOM))
        ):
            raise OSError(self.error, os.strerror(self.error))


_armed: list[Faults] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _armed or event not in EVENTS:
        return
    if event == "open":
        _, mode, flags = arguments
        if not (isinstance(mode, str) and set(mode) & set("wax+")) and not (isinstance(flags, int) and flags & WRITING):
            return
    paths = [os.fsdecode(path) for path in arguments[: EVENTS[event]] if isinstance(path, (str, bytes, os.PathLike))]
    root = str(_armed[-1].root)
    # A link's target is relative to a folder's descriptor; its source is below /proc.
    if event == "os.link" or any(Path(path).absolute().is_relative_to(root) for path in paths):
        _armed[-1].hear(event, " ".join(paths))


sys.addaudithook(_hook)  # for good: Python takes none away


@contextmanager
def faults(root: Path, first: int | None = None, **how: Any) -> Iterator[Faults]:
    """Have calls fail inside the block; files that are brought to the disk (fsync) count as well."""
    found = Faults(root, first, **how)
    fsync = os.fsync

    def heard(descriptor: int) -> None:
        found.hear("fsync")
        fsync(descriptor)

    os.fsync = heard
    _armed.append(found)
    try:
        yield found
    finally:
        _armed.remove(found)
        os.fsync = fsync


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes inside the block, -1 for any: writing more says that the file is too large."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size < 0 else size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

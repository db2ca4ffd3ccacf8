"""A file that is not finished: it has no name where the system can do that, else a hidden one beside its target."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ristretto.atomic.owned import hidden_name, lock, remove_left_over

_DESCRIPTORS = Path("/proc/self/fd")


@dataclass
class Part:
    """What will be a file.

    Attributes:
        asked: where it is to appear, as the caller said.
        target: the same without links.
        file: to write to.
        name: its hidden name; None while it has none, and then a killed process leaves nothing.
    """

    asked: Path
    target: Path
    file: BinaryIO
    name: Path | None

    @property
    def readable(self) -> Path:
        """Where its content can be read before it appears."""
        return self.name or _DESCRIPTORS / str(self.file.fileno())

    def finish(self) -> None:
        """Bring all that was written to the disk: a full one may not be noticed before.

        Raises:
            OSError: it cannot be written.
        """
        self.file.flush()
        os.fsync(self.file.fileno())

    def take_name(self) -> None:
        """Take a hidden name: all that may still need room is done then.

        Raises:
            OSError: it cannot.
        """
        if self.name is not None:
            return
        name = hidden_name(self.target)
        try:
            self._link(name)
            self.name = name
        except OSError:  # there are file systems that make files without a name, and cannot name them
            self._copy()

    def appear(self) -> None:
        """Take the place of what is at the target, at once.

        Raises:
            OSError: it cannot.
        """
        if self.name is None and not self.target.exists():
            with suppress(OSError):
                self._link(self.target)
                return
        self.take_name()
        assert self.name is not None
        if os.name == "nt":  # which renames nothing that is open
            self.file.close()
        self.name.replace(self.target)
        self.name = None

    def drop(self) -> None:
        """Let go of it; what has not appeared is gone."""
        with suppress(OSError):  # what could not be written cannot be flushed either
            self.file.close()
        if self.name is not None:
            with suppress(OSError):
                self.name.unlink()

    def _link(self, path: Path) -> None:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # With a folder's descriptor Python calls linkat, which follows the link in /proc to what is open.
            os.link(self.readable, path.name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)

    def _copy(self) -> None:
        named = _named(self.asked, self.target)
        self.name = named.name
        self.file.seek(0)
        shutil.copyfileobj(self.file, named.file)
        self.file.close()
        self.file = named.file
        self.finish()


def open_part(asked: Path, target: Path) -> Part:
    """Begin a file, and remove what killed writers of the same one have left.

    Raises:
        OSError: it cannot be made.
    """
    remove_left_over(target)
    if not hasattr(os, "O_TMPFILE") or not _DESCRIPTORS.is_dir():
        return _named(asked, target)
    try:
        descriptor = os.open(target.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError:  # not every file system can; if it is another reason, a named file meets it too
        return _named(asked, target)
    lock(descriptor)
    return Part(asked, target, os.fdopen(descriptor, "w+b"), None)


def _named(asked: Path, target: Path) -> Part:
    while True:
        name = hidden_name(target)
        descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
        lock(descriptor)
        part = Part(asked, target, os.fdopen(descriptor, "w+b"), name)
        if os.fstat(descriptor).st_nlink:
            return part
        part.drop()  # who looks for what is left over was quicker than the lock

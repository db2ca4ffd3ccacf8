"""Folders that are written whole or not at all, and folders for what is needed for a moment."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ristretto.atomic.checks import check_folder, check_no_input_inside, target_of
from ristretto.atomic.held import signals_held
from ristretto.atomic.owned import OLD, hidden_name, locked_folder, remove_left_over, remove_ownerless
from ristretto.errors import UsageError

_log = logging.getLogger(__name__)

_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""

_SCRATCH = re.compile(r"ristretto-[0-9a-f]{16}\.scratch")


@contextmanager
def atomic_folder(path: Path, inputs: Iterable[Path] = (), mark: str = "", *, force: bool = False) -> Iterator[Path]:
    """A folder to fill, which appears under its name when the block ends without an exception, and not before.

    The arguments are those of ``check_folder``, which is called first.

    Raises:
        UsageError: it cannot be written. An OSError inside the block counts as that.
    """
    check_folder(path, inputs, mark, force=force)
    target = target_of(path)
    try:
        remove_left_over(target)
        with _owned(hidden_name(target)) as part:
            yield part
            if target.exists():
                check_no_input_inside(target)
            _to_disk(part)
            with signals_held():
                _appear(part, target)
        _log.debug("wrote %s", path)
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise UsageError(what, file=str(path), cure="free some space or choose another place") from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder among the system's temporary files for as long as the block takes; those of killed processes go too.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        place = Path(tempfile.gettempdir())
    except OSError as error:
        raise UsageError(f"no folder for temporary files: {error.strerror}", cure="set TMPDIR to one") from error
    remove_ownerless(place, _SCRATCH)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(_owned(place / f"ristretto-{secrets.token_hex(8)}.scratch", 0o700))
        except OSError as error:
            what = f"cannot make a folder for temporary files: {error.strerror}"
            cure = "free some space, or set TMPDIR to another place"
            raise UsageError(what, file=str(place), cure=cure) from error
        yield folder


@contextmanager
def _owned(path: Path, mode: int = 0o777) -> Iterator[Path]:
    """A folder of this process's own; what has its name in the end is removed."""
    descriptor = locked_folder(path, mode)
    try:
        yield path
    finally:
        with signals_held():
            shutil.rmtree(path, ignore_errors=True)
            if descriptor >= 0:
                os.close(descriptor)


def _to_disk(folder: Path) -> None:
    """Wait until all files are on the disk: a full one may not be noticed before."""
    for place, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(place) / name, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _appear(part: Path, target: Path) -> None:
    """Give a folder its name; after that the old one has the other name, or is gone."""
    if not target.exists():
        part.rename(target)
        return
    if _exchanged(part, target):
        return
    old = hidden_name(target, OLD)
    target.rename(old)
    try:
        part.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change their names at once, where the system can do that (Linux, renameat2)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)

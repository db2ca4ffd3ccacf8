"""Files that are written whole or not at all."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ristretto.errors import UsageError

_log = logging.getLogger(__name__)


def check_writable(path: Path) -> None:
    """Find out before a long job whether its result can be written.

    Raises:
        UsageError: the path is a folder, its folder does not exist, or it is not writable.
    """
    target = _target(path)
    folder = target.parent
    if path.is_dir():
        raise UsageError("this is a folder, a file is to be written", file=str(path), cure="give a file name")
    if not folder.is_dir():
        raise UsageError("cannot write: the folder does not exist", file=str(path), cure=f"make {folder} first")
    writable = os.access(path, os.W_OK) if path.exists() else True
    if not writable or not (_is_device(path) or os.access(folder, os.W_OK)):
        raise UsageError("cannot write: no permission", file=str(path), cure="choose another place")


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Find out before a job whether its results can be written, each to a file of its own and none over what is read.

    Raises:
        UsageError: one cannot be written, two are the same file, or one is an input.
    """
    read = {_target(path): path for path in inputs}
    written: set[Path] = set()
    for path in outputs:
        check_writable(path)
        if _is_device(path):
            continue
        target = _target(path)
        if target in read:
            raise UsageError("this file is an input too: it would be lost", file=str(path), cure="write elsewhere")
        if target in written:
            raise UsageError("two results would go into this one file", file=str(path), cure="give each its own")
        written.add(target)


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of the one at the path when the block ends without an exception.

    A reader sees the old content or the whole new one, never a part. Links are followed. What is no regular file
    (a pipe, /dev/stdout, /dev/null) can only be written straight.

    Raises:
        UsageError: it cannot be written. An OSError inside the block counts as that.
    """
    check_writable(path)
    target = _target(path)
    # The name is cut so that one of the greatest length still has room for what is added.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        if _is_device(path):
            with path.open("wb") as file:
                yield file
            return
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _log.debug("wrote %s: %d bytes", path, target.stat().st_size)
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise UsageError(what, file=str(path), cure="free some space or choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file so that a reader sees the old content or the whole new one, never a part.

    Args:
        path: where to.
        data: the content, or its pieces in order.

    Raises:
        UsageError: it cannot be written.
    """
    pieces = (data,) if isinstance(data, bytes) else data
    with atomic_writer(path) as file:
        for piece in pieces:
            file.write(piece)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; bytes that came in as surrogates go out as they were.

    Raises:
        UsageError: it cannot be written.
    """
    atomic_write_bytes(path, text.encode("utf-8", "surrogateescape"))


def check_folder(path: Path, inputs: Iterable[Path] = (), mark: str = "", *, force: bool = False) -> None:
    """Find out before a job whether a folder can be written whole.

    Args:
        path: the folder.
        inputs: what is read: a folder that holds some of it is never replaced.
        mark: a file that every such folder has; without it a folder is not ours to replace.
        force: whether an older one is replaced.

    Raises:
        UsageError: it cannot be written, or something is there already.
    """
    target = _target(path)
    if not target.parent.is_dir():
        raise UsageError("cannot write: the folder does not exist", file=str(path), cure=f"make {target.parent} first")
    if not os.access(target.parent, os.W_OK):
        raise UsageError("cannot write: no permission", file=str(path), cure="choose another place")
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError("this is a file, a folder is to be written", file=str(path), cure="give another name")
    real = target.resolve()
    if real == Path.cwd().resolve() or any(real in file.resolve().parents for file in inputs):
        raise UsageError(
            "this folder holds what is read, or is the current one", file=str(path), cure="write elsewhere"
        )
    if not any(target.iterdir()):
        return
    if not force:
        raise UsageError("this folder is not empty", file=str(path), cure="give a new one, or --force to replace it")
    if not mark or not (target / mark).is_file():
        what = f"this folder is not empty and no older export: it has no {mark}" if mark else "this folder is not empty"
        raise UsageError(what, file=str(path), cure="give a new one")


@contextmanager
def atomic_folder(path: Path, inputs: Iterable[Path] = (), mark: str = "", *, force: bool = False) -> Iterator[Path]:
    """A folder to fill, which appears under its name when the block ends without an exception, and not before.

    The arguments are those of ``check_folder``, which is called first.

    Raises:
        UsageError: it cannot be written. An OSError inside the block counts as that.
    """
    check_folder(path, inputs, mark, force=force)
    target = _target(path)
    beside = [target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.{end}") for end in ("part", "old")]
    temporary, old = beside
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        _log.debug("wrote %s", path)
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise UsageError(what, file=str(path), cure="free some space or choose another place") from error
    finally:
        for folder in beside:
            shutil.rmtree(folder, ignore_errors=True)


def _target(path: Path) -> Path:
    """The file that a link leads to, so that the link stays one; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() and not _is_device(path) else path


def _is_device(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder: replacing it would destroy it."""
    return path.exists() and not path.is_file() and not path.is_dir()

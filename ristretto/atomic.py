"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ristretto.errors import UsageError


def check_writable(path: Path) -> None:
    """Find out before a long job whether its result can be written.

    Raises:
        UsageError: the path is a folder, its folder does not exist, or it is not writable.
    """
    folder = path.parent
    if path.is_dir():
        raise UsageError("this is a folder, a file is to be written", file=str(path), cure="give a file name")
    if not folder.is_dir():
        raise UsageError("cannot write: the folder does not exist", file=str(path), cure=f"make {folder} first")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UsageError("cannot write: no permission", file=str(path), cure="choose another place")


def atomic_write_bytes(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file so that a reader sees the old content or the whole new one, never a part.

    Args:
        path: where to.
        data: the content, or its pieces in order.

    Raises:
        UsageError: it cannot be written.
    """
    check_writable(path)
    pieces = (data,) if isinstance(data, bytes) else data
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101  (mkstemp makes files private)
        os.replace(temporary, path)  # noqa: PTH105
        temporary = ""
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise UsageError(what, file=str(path), cure="free some space or choose another place") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    atomic_write_bytes(path, text.encode("utf-8"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

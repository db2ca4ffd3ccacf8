"""Files that are written whole or not at all, one by one or several together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from ristretto.atomic.checks import check_no_input, check_writable, is_device, target_of
from ristretto.atomic.held import signals_held
from ristretto.atomic.owned import hidden_name
from ristretto.atomic.parts import Part, open_part
from ristretto.errors import UsageError

_log = logging.getLogger(__name__)

_together: ContextVar[list[Part] | None] = ContextVar("together", default=None)


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of the one at the path when the block ends without an exception.

    A reader sees the old content or the whole new one, never a part. Links are followed. What is no regular file
    (a pipe, /dev/stdout, /dev/null) can only be written straight. Inside ``atomic_together`` it waits for the others.

    Raises:
        UsageError: it cannot be written, or this job has read it. An OSError inside the block counts as the first.
    """
    check_writable(path)
    if not is_device(path):
        check_no_input(path)
    together = _together.get()
    with _said(path):
        if is_device(path):
            with path.open("wb") as file:
                yield file
            return
        part = open_part(path, target_of(path))
        kept = False
        try:
            yield part.file
            part.finish()
            if together is not None:
                together.append(part)
                kept = True
                return
            with signals_held():
                part.appear()
            _tell(part)
        finally:
            if not kept:
                part.drop()


@contextmanager
def atomic_together() -> Iterator[None]:
    """Files written inside appear together when the block ends, all or none, in the order in which they were written.

    Old ones are moved away first, the last one first. So a killed process leaves some of the new ones or some of the
    old ones, never a new one beside an old one; and where the last one is there, all are. An error puts the old ones
    back. Blocks inside each other are apart: the files of the inner one appear when that ends.

    Raises:
        UsageError: one of them cannot take its place.
    """
    parts: list[Part] = []
    token = _together.set(parts)
    try:
        try:
            yield
        finally:
            _together.reset(token)
        _appear(parts)
    finally:
        for part in parts:
            part.drop()


def content_of(path: Path) -> Path:
    """Where the content of a file can be read that waits in the present ``atomic_together``; of any other its path."""
    found = [part.readable for part in _together.get() or () if part.asked == path]
    return found[-1] if found else path


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


def _appear(parts: Sequence[Part]) -> None:
    """Have several files take their places, or none of them."""
    if len(parts) == 1:  # then nothing has to be moved away, and there is no moment without one
        with _said(parts[0].asked), signals_held():
            parts[0].appear()
        _tell(parts[0])
        return
    away: list[tuple[Path, Path]] = []
    there: list[Path] = []
    with signals_held():
        try:
            if any(part.target.exists() for part in parts):  # what may need room comes before what is hard to undo
                for part in parts:
                    with _said(part.asked):
                        part.take_name()
            for part in reversed(parts):
                with _said(part.asked):
                    _move_away(part.target, away)
            for part in parts:
                with _said(part.asked):
                    part.appear()
                    there.append(part.target)
        except BaseException:
            with suppress(OSError):  # what cannot be removed must not get old ones beside it
                for target in there:
                    target.unlink()
                for target, old in reversed(away):
                    old.rename(target)
            raise
        for _, old in away:
            with suppress(OSError):
                old.unlink()
    for part in parts:
        _tell(part)


def _tell(part: Part) -> None:
    with suppress(OSError):  # it may be gone again
        _log.debug("wrote %s: %d bytes", part.asked, part.target.stat().st_size)


def _move_away(target: Path, away: list[tuple[Path, Path]]) -> None:
    old = hidden_name(target)
    with suppress(FileNotFoundError):
        target.rename(old)
        away.append((target, old))


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise UsageError(what, file=str(path), cure="free some space or choose another place") from error

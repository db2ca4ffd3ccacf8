"""Finding out before a job whether its results can be written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ristretto.errors import UsageError
from ristretto.inputs import input_at, input_inside, noting_inputs, same_file

_RENAME = "give the result another name"

_outputs: ContextVar[dict[Path, bool] | None] = ContextVar("outputs", default=None)


@contextmanager
def one_job() -> Iterator[None]:
    """Inside, no result takes the place of what was read inside; a block inside another one belongs to it."""
    if _outputs.get() is not None:
        yield
        return
    with noting_inputs():
        token = _outputs.set({})
        try:
            yield
        finally:
            _outputs.reset(token)


def check_writable(path: Path) -> None:
    """Find out before a long job whether its result can be written.

    Raises:
        UsageError: the path is a folder, its folder does not exist, or it is not writable.
    """
    target = target_of(path)
    folder = target.parent
    if path.is_dir():
        raise UsageError("this is a folder, a file is to be written", file=str(path), cure="give a file name")
    if not folder.is_dir():
        raise UsageError("cannot write: the folder does not exist", file=str(path), cure=f"make {folder} first")
    writable = os.access(path, os.W_OK) if path.exists() else True
    if not writable or not (is_device(path) or os.access(folder, os.W_OK)):
        raise UsageError("cannot write: no permission", file=str(path), cure="choose another place")
    if _is_anothers(target):
        what = "cannot write: the old file is another user's, and in this folder only its owner may replace it"
        raise UsageError(what, file=str(path), cure="give another name, or have its owner remove it")


def check_outputs(
    outputs: Iterable[Path], inputs: Iterable[Path] = (), beside: Iterable[Path] = (), *, again: bool = True
) -> None:
    """Find out before a job whether its results can be written, each to a file of its own and none over what is read.

    Args:
        outputs: the results.
        inputs: what is known to be read; what was read already need not be named.
        beside: files that the job keeps while it runs: it can do without, but they must not go over others.
        again: whether ``check_again`` looks at them once more, when more is known of what is read.

    Raises:
        UsageError: one cannot be written, two are the same file, or one is an input.
    """
    inputs = list(inputs)
    read = {os.path.realpath(path) for path in inputs}
    written: set[str] = set()
    later = _outputs.get()
    for path, kept in (*((each, False) for each in outputs), *((each, True) for each in beside)):
        if not kept:
            check_writable(path)
        if is_device(path):
            continue
        target = os.path.realpath(path)  # however it is spelled
        if target in read or any(same_file(path, each) for each in inputs):
            raise _lost(path, kept=kept)
        check_no_input(path, kept=kept)
        if target in written:
            if kept:
                what = "the job keeps this file while it runs, and a result would go into it"
                raise UsageError(what, file=str(path), cure=_RENAME)
            raise UsageError("two results would go into this one file", file=str(path), cure="give each its own")
        written.add(target)
        if again and later is not None:
            later[path] = kept


def check_again() -> None:
    """Find out whether a result of this job would go over something that it reads, as far as that is known now.

    Raises:
        UsageError: it would.
    """
    for path, kept in (_outputs.get() or {}).items():
        check_no_input(path, kept=kept)


def check_no_input(path: Path, *, kept: bool = False) -> None:
    """Find out whether a result, or a file that the job keeps beside it, would go over something that was read.

    Raises:
        UsageError: it would.
    """
    if input_at(path) is not None:
        raise _lost(path, kept=kept)


def check_no_input_inside(folder: Path) -> None:
    """Find out whether a folder that is to be replaced holds something that this job has read.

    Raises:
        UsageError: it does.
    """
    if input_inside(folder) is not None:
        raise UsageError("this folder holds what is read", file=str(folder), cure="write elsewhere")


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
    target = target_of(path)
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


def target_of(path: Path) -> Path:
    """The file that a link leads to, so that the link stays one; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() and not is_device(path) else path


def is_device(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder: replacing it would destroy it."""
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except OSError:  # as with a name that is too long
        return False


def _lost(path: Path, *, kept: bool) -> UsageError:
    if kept:
        return UsageError("the job keeps this file while it runs, and it is an input", file=str(path), cure=_RENAME)
    return UsageError("this file is an input too: it would be lost", file=str(path), cure="write elsewhere")


def _is_anothers(target: Path) -> bool:
    """Whether a file is there that the system lets only others replace: the folder's sticky bit says so (/tmp)."""
    user = getattr(os, "geteuid", int)()
    try:
        folder, found = target.parent.stat(), target.lstat()
    except OSError:
        return False
    sticky = bool(folder.st_mode & stat.S_ISVTX) and stat.S_ISREG(found.st_mode)
    return sticky and user not in (0, folder.st_uid, found.st_uid)

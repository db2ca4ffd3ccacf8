"""Finding out before a job whether its results can be written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ristretto.errors import UsageError


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


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Find out before a job whether its results can be written, each to a file of its own and none over what is read.

    Raises:
        UsageError: one cannot be written, two are the same file, or one is an input.
    """
    read = {os.path.realpath(path) for path in inputs}
    written: set[str] = set()
    for path in outputs:
        check_writable(path)
        if is_device(path):
            continue
        target = os.path.realpath(path)  # however it is spelled
        if target in read:
            raise UsageError("this file is an input too: it would be lost", file=str(path), cure="write elsewhere")
        if target in written:
            raise UsageError("two results would go into this one file", file=str(path), cure="give each its own")
        written.add(target)


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
    return path.exists() and not path.is_file() and not path.is_dir()

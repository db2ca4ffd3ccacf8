"""Hidden names for what is not finished, locked while their owner lives, so that those of a killed one are found.

The lock is the system's (flock): it ends with its process, however that ends, and it is seen from other containers and,
where the file system says so, from other machines. The number of a process in a name would be neither.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing of others removed
    fcntl = None  # type: ignore[assignment]

PART, OLD = "part", "old"
"""How the names end: of what is not finished or not needed any more, and of a folder that a new one is to replace."""


def hidden_name(target: Path, end: str = PART) -> Path:
    """A name beside a target that nothing has; cut, so that one of the greatest length has room for what is added."""
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.{end}")


def lock(descriptor: int) -> None:
    """Say that what is open here has an owner, until it is closed; where there are no locks nothing happens."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def locked_folder(path: Path, mode: int) -> int:
    """Make a folder and own it; returns what is to be closed in the end, or -1.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        path.mkdir(mode)
        if fcntl is None:
            return -1
        descriptor = os.open(path, os.O_RDONLY)
        lock(descriptor)
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # who looks for what is left over was quicker than the lock


def remove_left_over(target: Path) -> None:
    """Remove what killed processes have left beside a target; an old folder comes back where no new one is."""
    pattern = re.compile(rf"\.{re.escape(target.name[:40])}\.[0-9a-f]{{16}}\.({PART}|{OLD})")
    remove_ownerless(target.parent, pattern, target)


def remove_ownerless(folder: Path, pattern: re.Pattern[str], target: Path | None = None) -> None:
    """Remove everything in a folder whose whole name matches and that no living process owns."""
    if fcntl is None:
        return
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if pattern.fullmatch(entry.name)]
    except OSError:
        return
    for path in found:
        with suppress(OSError):
            _remove_ownerless(path, target)


def _remove_ownerless(path: Path, target: Path | None) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner lives
        if stat.S_ISREG(found.st_mode):
            path.unlink()
        elif path.suffix == f".{OLD}" and target is not None and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)

"""How much memory there is: what cannot fit is refused before the system ends the process for it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/memory.max")


@cache
def memory_bytes() -> int:
    """Bytes that this process may have at most: those of the machine, of its container, or of its limits."""
    known = [_of_machine(), _of_container(), _of_process()]
    return min((size for size in known if size > 0), default=1 << 62)


def _of_machine() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # a system without that name
        return 0


def _of_container() -> int:
    try:
        text = _CGROUP.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return 0
    return int(text) if text.isdigit() else 0


def _of_process() -> int:
    try:
        import resource
    except ImportError:  # no such thing on Windows
        return 0
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if limit == resource.RLIM_INFINITY else int(limit)

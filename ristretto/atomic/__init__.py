"""Files and folders that are written whole or not at all."""

from __future__ import annotations

from ristretto.atomic.checks import (
    check_again,
    check_folder,
    check_outputs,
    check_writable,
    is_device,
    one_job,
)
from ristretto.atomic.files import (
    atomic_together,
    atomic_write_bytes,
    atomic_write_text,
    atomic_writer,
    content_of,
)
from ristretto.atomic.folders import atomic_folder, scratch_folder

__all__ = [
    "atomic_folder",
    "atomic_together",
    "atomic_write_bytes",
    "atomic_write_text",
    "atomic_writer",
    "check_again",
    "check_folder",
    "check_outputs",
    "check_writable",
    "content_of",
    "is_device",
    "one_job",
    "scratch_folder",
]

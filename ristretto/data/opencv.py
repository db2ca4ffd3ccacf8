"""OpenCV, which decodes images, with a limit on what it believes, and silent: who reads an image says what is wrong.

A few bytes can claim billions of pixels. The libraries inside OpenCV write warnings and errors to stderr on their own,
without the name of a file.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
"""The environment variable in which OpenCV looks for it when it is loaded, and where a user may set another."""

MAX_PIXELS = 1 << 26

os.environ.setdefault(LIMIT, str(MAX_PIXELS))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import cv2  # noqa: E402

__all__ = ["LIMIT", "MAX_PIXELS", "cv2", "lacks_memory", "max_pixels", "quiet"]

_UNITS = {"": 1, "kb": 1 << 10, "mb": 1 << 20}


def max_pixels() -> int:
    """The most pixels that an image may have: what the environment says, as OpenCV reads it, or ``MAX_PIXELS``."""
    found = re.fullmatch("([0-9]{1,18})(|[kK][bB]|[mM][bB])", os.environ.get(LIMIT, ""))
    return int(found[1]) * _UNITS[found[2].lower()] if found else MAX_PIXELS


def lacks_memory(error: cv2.error) -> bool:
    """Whether OpenCV failed because memory did not suffice."""
    return getattr(error, "code", 0) == cv2.Error.StsNoMem


class _Stderr:
    """The variable ``stderr`` of the C library, through which libpng and libjpeg write."""

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._stream: ctypes.c_void_p | None = None
        self._loud: int | None = None
        self._null: int | None = None
        try:
            library = ctypes.CDLL(None)
            # glibc documents that it can be set like any variable; elsewhere it may be a constant.
            if hasattr(library, "gnu_get_libc_version"):
                library.fopen.restype = ctypes.c_void_p
                self._null = library.fopen(os.devnull.encode(), b"we")
                self._stream = ctypes.c_void_p.in_dll(library, "stderr")
        except (OSError, TypeError, ValueError, AttributeError):
            self._stream = None

    @contextmanager
    def nowhere(self) -> Iterator[None]:
        """Inside, what C code writes is lost; Python writes to the file descriptor, and is heard in all threads."""
        if self._stream is None or self._null is None:
            yield
            return
        with self._lock:
            if not self._inside:
                self._loud, self._stream.value = self._stream.value, self._null
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._stream.value = self._loud


quiet = _Stderr().nowhere

"""OpenCV, which decodes images, with a limit on what it believes: a few bytes can claim billions of pixels."""

from __future__ import annotations

import os

LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
"""The environment variable in which OpenCV looks for it when it is loaded, and where a user may set another."""

MAX_PIXELS = 1 << 26

os.environ.setdefault(LIMIT, str(MAX_PIXELS))

import cv2  # noqa: E402

__all__ = ["LIMIT", "MAX_PIXELS", "cv2"]

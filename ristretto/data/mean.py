"""Mean files: a BlobProto in a .binaryproto."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.blobs import parse_blob
from ristretto.caffe.wire import WireError
from ristretto.errors import DataError

MAX_BYTES = 1 << 30


def read_mean(path: Path) -> NDArray[np.float32]:
    """The mean image (c, h, w) of a .binaryproto.

    Raises:
        DataError: the file is no mean image.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError("the mean file is larger than any mean image", file=str(path))
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        mean = parse_blob(data, 0, len(data))
    except (OSError, ValueError, WireError) as error:
        raise DataError(
            f"cannot read the mean file: {error}", file=str(path), cure="it must be a .binaryproto"
        ) from error
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or not mean.size:
        raise DataError(
            f"the mean file holds an array of shape {list(mean.shape)}",
            file=str(path),
            cure="one image (1, channels, height, width) is needed",
        )
    return mean

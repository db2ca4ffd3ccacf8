"""Mean files: a BlobProto in a .binaryproto."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.blobs import read_blob_file
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
        mean = read_blob_file(path)
    except (OSError, ValueError) as error:
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
    broken = int((~np.isfinite(mean)).sum())
    if broken:
        what = f"{broken} of the {mean.size} values of the mean file are NaN or infinite"
        raise DataError(what, file=str(path), cure="compute it again")
    return mean

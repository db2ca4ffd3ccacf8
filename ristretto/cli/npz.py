"""Saving arrays as an npz file, whole or not at all."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.atomic import atomic_write_bytes


def save_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays under their names; names may hold slashes, as blob names do."""
    buffer = io.BytesIO()
    # Not np.savez: that takes names as keywords, of which it has some itself, and others from version to version.
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    atomic_write_bytes(path, buffer.getvalue())

"""Weights in HDF5, as Caffe snapshots them: /data/LAYER/NUMBER (net.cpp, CopyTrainedLayersFromHDF5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.errors import UsageError, WeightsError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def import_h5py(file: str) -> Any:
    """h5py, or an error that says how to get it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        cure = "pip install 'ristretto-fixed-point[hdf5]'"
        raise UsageError("HDF5 files need the package h5py", file=file, cure=cure) from error
    return h5py


def read_hdf5_layers(path: Path) -> list[tuple[str, tuple[NDArray[np.float32], ...]]]:
    """The (layer name, blobs) pairs of a .caffemodel.h5. A layer name with slashes is a path of groups.

    Raises:
        WeightsError: it is no such file.
        UsageError: h5py is not installed.
    """
    h5py = import_h5py(str(path))
    try:
        with h5py.File(path, "r") as file:
            if "data" not in file:
                raise WeightsError("the HDF5 file has no group 'data'", file=str(path), cure="is it a snapshot?")
            return _layers(file["data"], "", h5py)
    except OSError as error:
        raise WeightsError("damaged HDF5 file", file=str(path), cure="fetch or save it again") from error


def _layers(group: Any, name: str, h5py: Any) -> list[tuple[str, tuple[NDArray[np.float32], ...]]]:
    numbers = sorted(int(key) for key, item in group.items() if key.isdigit() and isinstance(item, h5py.Dataset))
    blobs = tuple(np.asarray(group[str(number)], np.float32) for number in numbers)
    found = [(name, blobs)] if blobs else []
    for key, item in group.items():
        if isinstance(item, h5py.Group):
            found += _layers(item, f"{name}/{key}" if name else key, h5py)
    return found

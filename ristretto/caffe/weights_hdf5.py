"""Weights in HDF5, as Caffe snapshots them: /data/LAYER/NUMBER (net.cpp, CopyTrainedLayersFromHDF5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.confined import confined_to
from ristretto.caffe.hdf5 import HDF5_ERRORS, ArrayReader, import_h5py, open_hdf5
from ristretto.caffe.limits import MAX_LAYER_BLOBS
from ristretto.errors import WeightsError

Blobs = tuple[NDArray[np.float32], ...]


def read_hdf5_layers(path: Path, untrusted: bool = False) -> list[tuple[str, Blobs]]:
    """The (layer name, blobs) pairs of a .caffemodel.h5. A layer name with slashes is a path of groups.

    Caffe stores a shared parameter once, with the layer that owns it. In the others its place is taken by an array
    without values, so that the blobs after it keep their numbers.

    Raises:
        WeightsError: it is no such file.
        UsageError: h5py is not installed.
    """
    h5py = import_h5py(str(path))
    try:
        with open_hdf5(path, confined_to(untrusted, path)) as file:
            if not isinstance(file.get("data"), h5py.Group):
                what = "the HDF5 file holds no weights: it has no group 'data'"
                raise WeightsError(what, file=str(path), cure="give the .caffemodel.h5 that Caffe saved")
            return _layers(file["data"], "", h5py, ArrayReader())
    except HDF5_ERRORS as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"damaged HDF5 file: {reason}", file=str(path), cure="fetch or save it again") from error


def _layers(group: Any, name: str, h5py: Any, reader: ArrayReader) -> list[tuple[str, Blobs]]:
    """The layers in a group and in the groups inside it; ``name`` is the layer that the group itself stands for."""
    datasets = {int(key): item for key, item in group.items() if key.isdecimal() and isinstance(item, h5py.Dataset)}
    found = []
    if datasets:
        count = max(datasets) + 1
        if count > MAX_LAYER_BLOBS:  # damage, not the index of a blob
            message = f"layer '{name}' has a blob {count - 1}"
            raise ValueError(message)
        found.append((name, tuple(reader.read(datasets[n]) if n in datasets else _absent() for n in range(count))))
    for key, item in group.items():
        if isinstance(item, h5py.Group):
            found += _layers(item, f"{name}/{key}" if name else key, h5py, reader)
    return found


def _absent() -> NDArray[np.float32]:
    return np.empty(0, np.float32)

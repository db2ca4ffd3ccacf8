"""Data sources, transform_param and batches."""

from __future__ import annotations

from pathlib import Path

from ristretto.caffe.netspec import LayerSpec
from ristretto.data.cache import Cache
from ristretto.data.npz_source import NpzSource, fitting, open_npz
from ristretto.data.prefetch import prefetched
from ristretto.data.source import Batch, DataSource, Noted, Picker, noting_files, relative_to
from ristretto.errors import UsageError

__all__ = [
    "Batch", "Cache", "DataSource", "Noted", "NpzSource", "Picker", "fitting", "noting_files", "open_data", "open_npz",
    "prefetched", "relative_to",
]  # fmt: skip


def open_data(layer: LayerSpec, *, data_root: Path | None, seed: int, cache: Cache | None = None) -> DataSource:
    """Open the source of a data layer.

    Args:
        layer: a layer of type Data, ImageData or HDF5Data.
        data_root: where relative paths are looked for when the current folder does not have them.
        seed: of skipping, shuffling, crops and mirrors.
        cache: keeps what was read and decoded, so that it is not done twice; several sources may share it. None keeps
            nothing. The batches are the same, bit by bit.

    Raises:
        DataError: the source is missing or damaged.
        UsageError: it needs an optional package, or the seed is negative.
        NetError: the layer's parameters make no sense, or it is of another type.
    """
    if seed < 0:
        raise UsageError(f"the seed must not be negative, got {seed}", cure="give 0 or a positive whole number")
    cache = cache if cache is not None else Cache()
    if layer.type == "Data":
        from ristretto.data.database import DatabaseSource

        return DatabaseSource(layer, data_root, seed, cache)
    if layer.type == "ImageData":
        from ristretto.data.image_list import ImageListSource

        return ImageListSource(layer, data_root, seed, cache)
    if layer.type == "HDF5Data":
        from ristretto.data.hdf5_source import Hdf5Source

        return Hdf5Source(layer, data_root, seed, cache)
    cure = "Data, ImageData and HDF5Data can; give the arrays of others with --inputs data.npz"
    raise layer.view.error(f"a {layer.type} layer cannot be read", field="type", cure=cure)

"""HDF5Data layers: a list of HDF5 files with a dataset per top (hdf5_data_layer.cpp)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.hdf5 import HDF5_ERRORS, ArrayReader, import_h5py, open_hdf5, try_hdf5
from ristretto.caffe.netspec import LayerSpec
from ristretto.data.cache import Cache
from ristretto.data.source import Batch, DataSource, Resolver, first_broken, read_batch_size


class Hdf5Source(DataSource):
    """The rows of several HDF5 files, one file after another."""

    images: int

    def __init__(self, layer: LayerSpec, data_root: Path | None, seed: int, cache: Cache) -> None:
        view = layer.view.child("hdf5_data_param")
        self._resolver = Resolver(layer, data_root)
        if layer.view.has("transform_param"):
            cure = "transform the data beforehand and take it out"
            raise layer.view.error("an HDF5Data layer takes no transform_param", field="transform_param", cure=cure)
        if not layer.tops:
            raise layer.view.error("an HDF5Data layer needs a top", cure="name the datasets of the files as tops")
        listing = self._resolver.find(view.text("source"), "the list of HDF5 files")
        names = [line.strip() for line in self._resolver.lines(listing, "the list of HDF5 files")]
        self._files = [self._resolver.find(name, "the HDF5 file") for name in names if name]
        if not self._files:
            raise self._resolver.error(f"the list '{listing}' names no HDF5 file", "write one path a line")
        self._h5py = import_h5py(str(listing))
        self.batch_size = read_batch_size(view)
        self._shuffle, self._seed = view.flag("shuffle"), seed
        self._cache = cache
        self.tops = layer.tops
        self._try()
        self._rows, rows_shape = self._measure()
        self.images = sum(self._rows)
        if not self.images:
            raise self._resolver.error(f"the HDF5 files of '{listing}' hold no rows", "save some into them")
        self.shapes = {top: (self.batch_size, *shape) for top, shape in rows_shape.items()}

    def _try(self) -> None:
        """Try all files at once."""
        try:
            try_hdf5(self._files, self._resolver.confined)
        except OSError as error:
            raise self._resolver.error(f"cannot read an HDF5 file: {error}", "save it again") from error

    def _measure(self) -> tuple[list[int], dict[str, tuple[int, ...]]]:
        """How many rows each file has, and the shape of a row of each top. Reads no data."""
        counts: list[int] = []
        expected: dict[str, tuple[int, ...]] = {}
        for path in self._files:
            with self._datasets(path) as datasets:
                counts.append(int(datasets[self.tops[0]].shape[0]))
                for top, dataset in datasets.items():
                    shape = tuple(map(int, dataset.shape[1:]))
                    if expected.setdefault(top, shape) != shape:
                        wanted = f"{list(expected[top])} as in '{self._files[0]}'"
                        what = f"'{path}' has rows of shape {list(shape)} in '{top}', not {wanted}"
                        raise self._resolver.error(what, "list files with rows of one shape")
        return counts, expected

    @contextmanager
    def _datasets(self, path: Path) -> Iterator[dict[str, Any]]:
        """The dataset of each top in an open file; numbers, with equally many rows.

        Raises:
            DataError: it is no such file, or damaged; also for errors of h5py while the datasets are read.
        """
        try:
            with open_hdf5(path, self._resolver.confined) as file:
                found = {top: file.get(top) for top in self.tops}
                for top, dataset in found.items():
                    if not isinstance(dataset, self._h5py.Dataset):
                        cure = f"it holds {', '.join(file) or 'nothing'}: name the tops so"
                        raise self._resolver.error(f"'{path}' has no dataset '{top}'", cure)
                    if dataset.dtype.kind not in "fiub" or not dataset.shape:
                        what = f"dataset '{top}' of '{path}' is no array of numbers with a row per image"
                        raise self._resolver.error(what, "save it as a float32 array")
                if len({dataset.shape[0] for dataset in found.values()}) != 1:
                    shapes = ", ".join(f"{top} {list(dataset.shape)}" for top, dataset in found.items())
                    what = f"the datasets of '{path}' have different numbers of rows: {shapes}"
                    raise self._resolver.error(what, "give each image a row in every dataset")
                yield found
        except HDF5_ERRORS as error:
            raise self._resolver.error(f"cannot read the HDF5 file '{path}': {error}", "save it again") from error

    def _load(self, path: Path) -> dict[str, NDArray[np.float32]]:
        """All tops' data of a file, in memory as Caffe keeps them."""
        key = ("HDF5Data", path.resolve(), self.tops)
        found = self._cache.get(key)
        if found is not None:
            return dict(zip(self.tops, found, strict=True))
        with self._datasets(path) as datasets:
            reader = ArrayReader()
            arrays = {top: reader.read(dataset) for top, dataset in datasets.items()}
            packed = any(dataset.compression is not None for dataset in datasets.values())
        for top, array in arrays.items():
            row = first_broken(array)
            if row is not None:
                what = f"row {row} of dataset '{top}' of '{path}' holds NaN or infinity"
                raise self._resolver.error(what, "mend the file: no score can be had from it")
        self._cache.put(key, tuple(arrays.values()), spill=packed)
        return arrays

    def _round(self, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """(file, row) pairs of one round: file after file, shuffled within a file and among the files if at all."""
        files = rng.permutation(len(self._files)) if self._shuffle else np.arange(len(self._files))
        for file in map(int, files):
            rows = rng.permutation(self._rows[file]) if self._shuffle else np.arange(self._rows[file])
            yield from ((file, int(row)) for row in rows)

    def batches(self) -> Iterator[Batch]:
        """See DataSource."""
        rng = np.random.default_rng(self._seed)
        return self._grouped(pair for generator in repeat(rng) for pair in self._round(generator))

    def single_pass(self) -> Iterator[Batch]:
        """See DataSource."""
        return self._grouped(self._round(np.random.default_rng(self._seed)))

    def _grouped(self, pairs: Iterator[tuple[int, int]]) -> Iterator[Batch]:
        held, arrays = -1, dict[str, NDArray[np.float32]]()
        rows: list[dict[str, NDArray[np.float32]]] = []
        for file, row in pairs:
            if file != held:
                held, arrays = file, self._load(self._files[file])
            rows.append({top: array[row] for top, array in arrays.items()})
            if len(rows) == self.batch_size:
                yield _stacked(rows)
                rows = []
        if rows:
            yield _stacked(rows)


def _stacked(rows: list[dict[str, NDArray[np.float32]]]) -> Batch:
    return {top: np.stack([row[top] for row in rows]) for top in rows[0]}

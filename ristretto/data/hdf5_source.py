"""HDF5Data layers: a list of HDF5 files with a dataset per top (hdf5_data_layer.cpp)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec
from ristretto.caffe.weights_hdf5 import import_h5py
from ristretto.data.source import Batch, DataSource, Resolver


class Hdf5Source(DataSource):
    """The rows of several HDF5 files, one file after another."""

    images: int

    def __init__(self, layer: LayerSpec, data_root: Path | None, seed: int) -> None:
        view = layer.view.child("hdf5_data_param")
        self._resolver = Resolver(layer, data_root)
        if layer.view.has("transform_param"):
            cure = "transform the data beforehand and take it out"
            raise layer.view.error("an HDF5Data layer takes no transform_param", field="transform_param", cure=cure)
        listing = self._resolver.find(view.text("source"), "the list of HDF5 files")
        names = [line.strip() for line in listing.read_text(encoding="utf-8", errors="replace").splitlines()]
        self._files = [self._resolver.find(name, "the HDF5 file") for name in names if name]
        if not self._files:
            raise self._resolver.error(f"the list '{listing}' names no HDF5 file")
        self._h5py = import_h5py(str(listing))
        self.batch_size = view.integer("batch_size")
        if self.batch_size < 1:
            raise view.error("batch_size must be at least 1", field="batch_size")
        self._shuffle, self._seed = view.flag("shuffle"), seed
        self.tops = layer.tops
        self._rows = [self._open(path)[self.tops[0]].shape[0] for path in self._files]
        self.images = sum(self._rows)
        if not self.images:
            raise self._resolver.error("the HDF5 files hold no rows")
        first = self._open(self._files[0])
        self.shapes = {top: (self.batch_size, *first[top].shape[1:]) for top in self.tops}

    def _open(self, path: Path) -> dict[str, NDArray[np.float32]]:
        """All tops' datasets of a file, in memory as Caffe keeps them."""
        try:
            with self._h5py.File(path, "r") as file:
                missing = [top for top in self.tops if top not in file]
                if missing:
                    held = ", ".join(file)
                    what = f"'{path}' has no dataset '{missing[0]}'"
                    raise self._resolver.error(what, f"it holds {held}: name the tops so")
                arrays = {top: np.asarray(file[top], np.float32) for top in self.tops}
        except (OSError, TypeError, ValueError) as error:
            raise self._resolver.error(f"cannot read the HDF5 file '{path}': {error}", "save it again") from error
        if len({array.shape[0] if array.ndim else -1 for array in arrays.values()}) != 1:
            shapes = ", ".join(f"{top} {list(array.shape)}" for top, array in arrays.items())
            raise self._resolver.error(f"the datasets of '{path}' have different numbers of rows: {shapes}")
        return arrays

    def _row_order(self, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """(file, row) pairs of one round."""
        files = rng.permutation(len(self._files)) if self._shuffle else np.arange(len(self._files))
        for file in map(int, files):
            rows = rng.permutation(self._rows[file]) if self._shuffle else np.arange(self._rows[file])
            yield from ((file, int(row)) for row in rows)

    def batches(self) -> Iterator[Batch]:
        """See DataSource."""
        rng = np.random.default_rng(self._seed)
        return self._grouped(pair for _ in iter(int, 1) for pair in self._row_order(rng))

    def single_pass(self) -> Iterator[Batch]:
        """See DataSource."""
        return self._grouped(self._row_order(np.random.default_rng(self._seed)))

    def _grouped(self, pairs: Iterator[tuple[int, int]]) -> Iterator[Batch]:
        held, arrays = -1, dict[str, NDArray[np.float32]]()
        rows: list[dict[str, NDArray[np.float32]]] = []
        for file, row in pairs:
            if file != held:
                held, arrays = file, self._open(self._files[file])
            rows.append({top: array[row] for top, array in arrays.items()})
            if len(rows) == self.batch_size:
                yield _stacked(rows)
                rows = []
        if rows:
            yield _stacked(rows)


def _stacked(rows: list[dict[str, NDArray[np.float32]]]) -> Batch:
    return {top: np.stack([row[top] for row in rows]) for top in rows[0]}

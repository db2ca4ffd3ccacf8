"""What a data source is, and where its files are looked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.errors import DataError

Batch = dict[str, NDArray[np.float32]]


class DataSource(ABC):
    """The batches of one data layer. All values, labels too, are float32 as Caffe's blobs are.

    Attributes:
        tops: the blobs it fills.
        shapes: the shape of each, for a full batch.
        batch_size: images in a full batch.
        images: images in the source; None where it does not know.
    """

    tops: tuple[str, ...]
    shapes: dict[str, Shape]
    batch_size: int
    images: int | None

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Full batches from the first image on, for ever: the end wraps around to the start.

        Every call starts anew and draws the same random numbers.
        """

    @abstractmethod
    def single_pass(self) -> Iterator[Batch]:
        """Every image once; the last batch holds what is left."""


class Resolver:
    """Finds the files that a data layer names.

    Attributes:
        layer: the layer, for errors.
        data_root: where relative paths are looked for when the current folder does not have them.
    """

    def __init__(self, layer: LayerSpec, data_root: Path | None) -> None:
        self.layer = layer
        self.data_root = data_root

    def find(self, source: str, what: str) -> Path:
        """The path of a file or folder.

        Args:
            source: as the prototxt says.
            what: what it is, for the error.

        Raises:
            DataError: it is in none of the places; the error names them.
        """
        if not source:
            raise self.error(f"no {what} is given", "add it to the layer's parameters")
        tried = [Path(source)]
        if self.data_root is not None and not tried[0].is_absolute():
            tried.append(self.data_root / source)
        for path in tried:
            if path.exists():
                return path
        places = " nor ".join(str(path if path.is_absolute() else Path.cwd() / path) for path in tried)
        cure = "correct the path in the prototxt"
        if not tried[0].is_absolute():
            cure += ", or name the folder that it is relative to with --data-root"
        raise self.error(
            f"{what} '{source}' does not exist: neither {places}"
            if len(tried) > 1
            else f"{what} '{source}' does not exist: looked for {places}",
            cure,
        )

    def error(self, what: str, cure: str = "") -> DataError:
        """An error placed at the layer."""
        at = self.layer.view
        return DataError(what, cure=cure, file=at.document.file, line=at.line, layer=self.layer.name)

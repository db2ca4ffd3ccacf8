"""What a data source is, and where its files are looked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.view import View
from ristretto.errors import DataError
from ristretto.inputs import note_input, read_input

Batch = dict[str, NDArray[np.float32]]

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


@dataclass(frozen=True, slots=True)
class Noted:
    """A file that a source has found.

    Attributes:
        role: what it is.
        path: where it is.
        images: of an image list what stands before each name in it; None for all other files.
    """

    role: str
    path: Path
    images: str | None = None


_noted: ContextVar[list[Noted] | None] = ContextVar("noted", default=None)

Picker = Callable[[Sequence[int]], Batch]
"""Makes a batch of the images at any places of a pass, each as it is when the pass comes to it."""


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

    def picker(self, batches: int | None) -> Picker | None:
        """Reads the images of a pass in any order; None where the source is read from its start only.

        Args:
            batches: the pass: so many batches, or with None every image once.
        """
        return None


@contextmanager
def relative_to(folder: Path) -> Iterator[None]:
    """Take a folder for the current one in all sources that are opened inside: another process may be in another."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


@contextmanager
def noting_files() -> Iterator[list[Noted]]:
    """Note what the sources that are opened inside find; the images of a list together."""
    found: list[Noted] = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


class Resolver:
    """Finds the files that a data layer names.

    Attributes:
        layer: the layer, for errors.
        data_root: where relative paths are looked for when the current folder does not have them.
        confined: the folders that paths must not leave; None where the prototxt is trusted.
    """

    def __init__(self, layer: LayerSpec, data_root: Path | None) -> None:
        self.layer = layer
        self.data_root = data_root
        self.confined = layer.view.document.confined
        self._folder = _folder.get() or Path()

    def find(self, source: str, what: str) -> Path:
        """The path of a file or folder.

        Args:
            source: as the prototxt says.
            what: what it is, for the error.

        Raises:
            DataError: it is in none of the places, which the error names, or cannot be looked at.
        """
        if not source:
            raise self.error(f"{what} is not given", "add it to the layer's parameters")
        tried = [self._folder / source]
        if self.data_root is not None and not Path(source).is_absolute():
            tried.append(self.data_root / source)
        tried = self._inside(tried, source, what)
        try:
            found = next((path for path in tried if path.exists()), None)
        except OSError as error:  # a name that is too long, or a folder that may not be entered
            why = error.strerror or str(error)
            raise self.error(f"{what} '{source[:200]}' cannot be looked for: {why}", "correct the path") from error
        if found is not None:
            if what != "the image":
                note_input(found)
                noted = _noted.get()
                if noted is not None:
                    noted.append(Noted(what.removeprefix("the "), found))
            return found
        places = " nor ".join(str(path if path.is_absolute() else Path.cwd() / path) for path in tried)
        cure = "correct the path in the prototxt"
        if not Path(source).is_absolute():
            cure += ", or name the folder that it is relative to with --data-root"
        raise self.error(
            f"{what} '{source}' does not exist: neither {places}"
            if len(tried) > 1
            else f"{what} '{source}' does not exist: looked for {places}",
            cure,
        )

    def _inside(self, tried: list[Path], source: str, what: str) -> list[Path]:
        """Those places that an untrusted prototxt may name; nobody is told whether something is at the others."""
        if self.confined is None:
            return tried
        inside = [path for path in tried if self.confined.holds_all(path)]
        if not inside:
            raise self.error(f"{what} '{source[:200]}' lies elsewhere", self.confined.cure)
        return inside

    def note_images(self, listing: Path, folder: str, first: str) -> None:
        """Note the images that a list names, whose names follow a folder's.

        Args:
            listing: the list.
            folder: what stands before each name.
            first: the first name; it tells where all are looked for.
        """
        noted = _noted.get()
        if noted is None:
            return
        elsewhere = self.data_root is not None and not (self._folder / (folder + first)).exists()
        noted.append(Noted("images", listing, f"{self.data_root}/{folder}" if elsewhere else folder))

    def lines(self, path: Path, what: str) -> list[str]:
        """The lines of a text file, without their ends; bytes that are no UTF-8 survive in file names.

        Only the newline ends a line, as for C++: a name may hold any other character that Unicode counts as a break.

        Raises:
            DataError: it cannot be read.
        """
        try:
            text = read_input(path).decode("utf-8", "surrogateescape")
        except OSError as error:
            why = error.strerror or str(error)
            raise self.error(f"cannot read {what} '{path}': {why}", "name a text file") from error
        return [line.removesuffix("\r") for line in text.split("\n")]

    def error(self, what: str, cure: str = "") -> DataError:
        """An error placed at the layer."""
        at = self.layer.view
        return DataError(what, cure=cure, file=at.document.file, line=at.line, layer=self.layer.name)


def first_broken(array: NDArray[np.float32]) -> int | None:
    """The first row of an array that holds NaN or infinity, or None; an array without axes has one row."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(array)):
            return None
        finite = np.isfinite(array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)).all(axis=1)
    return None if finite.all() else int(np.argmin(finite))


def read_batch_size(view: View) -> int:
    """The batch_size of a data layer's own parameters, such as data_param.

    Raises:
        NetError: it is not set, or 0.
    """
    size = view.integer("batch_size")
    if size < 1:
        raise view.error("batch_size must be at least 1", field="batch_size", cure="set it to the images per batch")
    return size


def image_and_label_shapes(layer: LayerSpec, batch_size: int, image: Shape) -> dict[str, Shape]:
    """The shapes of the tops of a layer that makes images and, where it has a second top, labels.

    Raises:
        NetError: it has no top, or more than two (data_layer.hpp, MaxTopBlobs).
    """
    if not 1 <= len(layer.tops) <= 2:
        what = f"a {layer.type} layer has one top for the images and one for the labels, not {len(layer.tops)}"
        raise layer.view.error(what, field="top", cure="keep two")
    return dict(zip(layer.tops, ((batch_size, *image), (batch_size,)), strict=False))

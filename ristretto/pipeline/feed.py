"""The batches that a net reads: from its own data layers, or from an npz file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.atomic import check_again
from ristretto.caffe.netspec import LayerSpec, NetSpec, Shape
from ristretto.caffe.shapes import FED_TYPES, declared_shapes
from ristretto.data import Cache, DataSource, Picker, open_data, open_npz, relative_to
from ristretto.errors import UsageError

_log = logging.getLogger(__name__)

Batch = dict[str, NDArray[np.float32]]

NPZ_BATCH = 50
"""Images per batch where arrays take the place of a net's own data layers."""

_READS_ITSELF = frozenset({"Data", "ImageData", "HDF5Data"})


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to open a feed, in whatever process.

    Attributes:
        net, inputs, data_root, seed, batched: see ``open_feed``.
        folder: what relative paths are relative to.
        cache: bytes of memory that decoded images were given.
    """

    net: NetSpec
    inputs: Path | None
    data_root: Path | None
    seed: int
    batched: bool
    folder: Path
    cache: int

    def open(self, cache: Cache | None = None) -> Feed:
        """Open it; see ``open_feed``."""
        inputs = None if self.inputs is None else self.folder / self.inputs
        data_root = None if self.data_root is None else self.folder / self.data_root
        with relative_to(self.folder):
            return open_feed(
                self.net, inputs=inputs, data_root=data_root, seed=self.seed, batched=self.batched, cache=cache
            )


@dataclass(frozen=True, slots=True)
class Feed:
    """All that is fed to a net, several sources side by side.

    Attributes:
        sources: one per fed layer, or one npz for all.
        recipe: how it was opened.
    """

    sources: tuple[DataSource, ...]
    recipe: Recipe | None = None

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each fed blob, for a full batch."""
        return {top: shape for source in self.sources for top, shape in source.shapes.items()}

    @property
    def images(self) -> int | None:
        """How many images one pass over the sources has; None where none of them knows."""
        known = [source.images for source in self.sources if source.images is not None]
        return min(known) if known else None

    @property
    def batch_size(self) -> int:
        """Images in a full batch."""
        return self.sources[0].batch_size if self.sources else 1

    def batches(self) -> Iterator[Batch]:
        """Batches from the first image on, without end: the sources wrap around."""
        if not self.sources:
            return iter([{}])
        return map(_joined, zip(*(source.batches() for source in self.sources), strict=False))

    def single_pass(self) -> Iterator[Batch]:
        """Every image once; the last batch may be smaller."""
        if not self.sources:
            return iter([{}])
        return map(_joined, zip(*(source.single_pass() for source in self.sources), strict=False))

    def picker(self, batches: int | None) -> Picker | None:
        """Reads the images of a pass in any order; None where a source cannot (``DataSource.picker``)."""
        pickers = [picker for source in self.sources if (picker := source.picker(batches)) is not None]
        if not pickers or len(pickers) < len(self.sources):
            return None
        if len({source.batch_size for source in self.sources}) > 1:
            return None  # an image's place differs from source to source

        def pick(places: Sequence[int]) -> Batch:
            return _joined(tuple(picker(places) for picker in pickers))

        return pick

    def batches_of(self, batches: int | None) -> int | None:
        """How many batches a pass has: so many, or with None every image once; None where that is not known."""
        if not self.sources or batches is not None:
            return batches
        counts = [-(-source.images // source.batch_size) for source in self.sources if source.images is not None]
        return min(counts) if len(counts) == len(self.sources) else None

    def section(self, batches: int | None, first: int, count: int, picker: Picker | None = None) -> Iterator[Batch]:
        """Some batches of a pass, as they are when the pass comes to them.

        Args:
            batches: the pass: so many batches, or with None every image once.
            first: number of the first batch.
            count: how many batches.
            picker: that of the pass, made once for several sections; a source without one is read from its start.
        """
        # Without wrapping around, sources of different lengths end in different batches.
        if picker is None or (batches is None and len({source.images for source in self.sources}) > 1):
            whole = self.single_pass() if batches is None else self.batches()
            yield from islice(whole, first, first + count)
            return
        end = batches * self.batch_size if batches is not None else self.images or 0
        for number in range(first, first + count):
            yield picker(range(number * self.batch_size, min((number + 1) * self.batch_size, end)))


@dataclass(frozen=True, slots=True)
class Picked:
    """The images of a pass in an order of their own.

    Attributes:
        picker: that of the pass.
        batches: how many batches the pass has; None for every image once.
        places: the place of each image in the pass, batch by batch.
    """

    picker: Picker
    batches: int | None
    places: tuple[tuple[int, ...], ...]

    def __iter__(self) -> Iterator[Batch]:
        """The batches."""
        return map(self.picker, self.places)


def _joined(parts: tuple[Batch, ...]) -> Batch:
    return {top: array for part in parts for top, array in part.items()}


def fed_layers(net: NetSpec) -> list[LayerSpec]:
    """The layers whose tops come from outside the net."""
    return [layer for layer in net.layers if layer.type in FED_TYPES]


def open_feed(
    net: NetSpec,
    *,
    inputs: Path | None,
    data_root: Path | None,
    seed: int,
    batched: bool = False,
    cache: Cache | None = None,
) -> Feed:
    """Open everything a net reads.

    Args:
        net: the net.
        inputs: an npz file that feeds all blobs in place of the net's data layers, or None.
        data_root: a folder for sources whose relative paths do not resolve.
        seed: for shuffling, random crops and mirrors.
        batched: whether the arrays of an npz file are handed out in batches (of the size that the net declares), or
            all at once, whatever their shapes.
        cache: keeps what was read and decoded for later passes; several feeds may share it. None keeps nothing.

    Raises:
        DataError: a source cannot be read.
        UsageError: the net cannot read its own data and no npz is given, or a result would go over what is read.
    """
    layers = fed_layers(net)
    recipe = Recipe(net, inputs, data_root, seed, batched, Path.cwd(), cache.memory if cache is not None else 0)
    if inputs is not None:
        wanted = {top: None for layer in layers for top in layer.tops}
        declared: dict[str, Shape | None] = dict(wanted)
        for layer in layers:
            shapes = None if layer.type in _READS_ITSELF else declared_shapes(layer)
            declared.update(zip(layer.tops, shapes or (), strict=False))
        if not wanted:  # a net that makes its own data
            return Feed((), recipe)
        sizes = [shape[0] for shape in declared.values() if shape]
        size = (sizes[0] if sizes else NPZ_BATCH) if batched else None
        return _told(Feed((open_npz(inputs, declared, size),), recipe), str(inputs))
    silent = [layer for layer in layers if layer.type not in _READS_ITSELF]
    if silent:
        tops = ", ".join(top for layer in silent for top in layer.tops)
        what = f"layers of type {silent[0].type} have no data of their own"
        cure = f"give arrays for {tops} with --inputs data.npz"
        raise UsageError(what, layer=silent[0].name, file=net.file, cure=cure)
    sources = tuple(open_data(layer, data_root=data_root, seed=seed, cache=cache) for layer in layers)
    return _told(Feed(sources, recipe), f"phase {net.phase}, {', '.join(layer.name for layer in layers) or 'no layer'}")


def _told(feed: Feed, source: str) -> Feed:
    check_again()
    shapes = ", ".join(f"{blob} {'x'.join(map(str, shape))}" for blob, shape in feed.shapes.items())
    _log.debug("data of %s: %s images; %s", source, "unknown" if feed.images is None else feed.images, shapes)
    return feed

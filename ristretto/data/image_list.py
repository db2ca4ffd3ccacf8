"""ImageData layers: a list of image files and labels (image_data_layer.cpp)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec
from ristretto.data.cache import Cache
from ristretto.data.datum import NO_MEMORY, BadImageError, decode_image, planar
from ristretto.data.opencv import LIMIT, cv2, lacks_memory, max_pixels
from ristretto.data.records import RecordSource
from ristretto.data.source import Resolver, image_and_label_shapes, read_batch_size
from ristretto.data.transform import read_transform
from ristretto.inputs import note_inputs, read_input

_LABEL = re.compile("-?[0-9]{1,10}")


def split_line(line: str) -> tuple[str, str]:
    """The name and the label of a line of an image list: the label is what follows the last space."""
    name, _, label = line.rstrip().rpartition(" ")
    return name, label


class ImageListSource(RecordSource):
    """Images named by a text file, one "path label" a line."""

    def __init__(self, layer: LayerSpec, data_root: Path | None, seed: int, cache: Cache) -> None:
        view = layer.view.child("image_data_param")
        self._resolver = Resolver(layer, data_root)
        self._list = self._resolver.find(view.text("source"), "the image list")
        self._folder = view.text("root_folder")
        self._size = view.integer("new_height"), view.integer("new_width")
        if (self._size[0] > 0) != (self._size[1] > 0):
            cure = "set both or none"
            raise view.error("new_height and new_width go together", field="new_height", cure=cure)
        if self._size[0] * self._size[1] > max_pixels():
            what = f"images of {self._size[0]} x {self._size[1]} pixels are larger than {LIMIT} allows"
            cure = f"make new_height and new_width smaller; {max_pixels()} pixels are allowed"
            raise view.error(what, field="new_height", cure=cure)
        self._color = 3 if view.flag("is_color") else 1
        self.batch_size = read_batch_size(view)
        self._shuffle = view.flag("shuffle")
        self._skip = view.integer("rand_skip")
        self.transform = read_transform(layer, self._resolver)
        self.seed, self.cache, self.encoded = seed, cache, True
        self.identity = ("ImageData", self._list.resolve(), self._folder, self._size, self._color)
        self.tops = layer.tops
        self._items = self._read_list()
        self.images = len(self._items)
        if not self.images:
            raise self._resolver.error(f"the image list '{self._list}' names no image", "write one 'path label' a line")
        image, _ = self.kept()(0)
        self._resolver.note_images(self._list, self._folder, self._items[0][0])
        items, folder, roots = self._items, self._folder, self._roots()
        note_inputs(lambda: (root / (folder + name) for name, _ in items for root in roots))
        self.shapes = image_and_label_shapes(layer, self.batch_size, self.transform.output_shape(image.shape))

    def _read_list(self) -> list[tuple[str, int]]:
        """The (path, label) pairs; the label is what follows the last space, so that paths may hold spaces."""
        items = []
        for number, line in enumerate(self._resolver.lines(self._list, "the image list"), 1):
            if not line.strip():
                continue
            name, label = split_line(line)
            if not name or not _LABEL.fullmatch(label):
                what = f"{self._list}:{number}: expected 'path label', found '{line.strip()[:80]}'"
                raise self._resolver.error(what, "end each line with a space and a whole number")
            items.append((name, int(label)))
        return items

    def missing(self) -> list[str]:
        """The images that the list names and that are not there."""
        roots = self._roots()
        names = dict.fromkeys(self._folder + name for name, _ in self._items)
        return [name for name in names if not any((root / name).exists() for root in roots)]

    def _roots(self) -> tuple[Path, ...]:
        """Where images are looked for."""
        return (Path(), *filter(None, [self._resolver.data_root]))

    def order(self, rng: np.random.Generator) -> Iterator[int]:
        """List order, or a new shuffle every round."""
        skip = int(rng.integers(self._skip)) if self._skip else 0
        while True:
            numbers = rng.permutation(self.images) if self._shuffle else np.arange(self.images)
            yield from map(int, numbers[skip % self.images :])
            skip = 0

    def read(self) -> Callable[[int], tuple[NDArray[np.uint8], float]]:
        """Reads, decodes and resizes one image."""

        def read_one(number: int) -> tuple[NDArray[np.uint8], float]:
            name, label = self._items[number]
            path = self._resolver.find(self._folder + name, "the image")
            try:
                image = self._resized(decode_image(read_input(path), self._color))
            except (OSError, BadImageError) as error:
                why = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)
                raise self._resolver.error(
                    f"the image '{path}' {why}", "replace it, or take it off the list"
                ) from error
            return image, float(label)

        return read_one

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self._size
        if not height or image.shape[1:] == (height, width):
            return image
        try:
            return planar(cv2.resize(image.transpose(1, 2, 0), (width, height)))
        except cv2.error as error:
            why = NO_MEMORY if lacks_memory(error) else f"cannot be resized to {height} x {width} pixels"
            raise BadImageError(why) from error

    def describe(self, number: int) -> str:
        """The image's path."""
        return f"image '{self._items[number][0]}'"

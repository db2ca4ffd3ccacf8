"""A source of numbered items, and the batches that Caffe's cursors make of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ristretto.data.source import Batch, DataSource
from ristretto.data.transform import Transform

Item = tuple[NDArray[np.float32], float]


class RecordSource(DataSource):
    """Items that are read one after another, transformed and put into batches.

    Attributes:
        transform: what is done to each image.
        seed: of skipping, shuffling, crops and mirrors.
        images: how many items there are.
    """

    transform: Transform
    seed: int
    images: int

    @abstractmethod
    def order(self, rng: np.random.Generator) -> Iterator[int]:
        """Item numbers in reading order, for ever."""

    @abstractmethod
    def read(self) -> Callable[[int], tuple[NDArray[np.uint8] | NDArray[np.float32], float]]:
        """A function that reads an item by its number: the image (c, h, w) and its label."""

    def batches(self) -> Iterator[Batch]:
        """See DataSource."""
        rng = np.random.default_rng(self.seed)
        order, read = self.order(rng), self.read()
        while True:
            yield self._batch([self._item(read, next(order), rng) for _ in range(self.batch_size)])

    def single_pass(self) -> Iterator[Batch]:
        """See DataSource."""
        rng = np.random.default_rng(self.seed)
        read = self.read()
        for start in range(0, self.images, self.batch_size):
            numbers = range(start, min(start + self.batch_size, self.images))
            yield self._batch([self._item(read, number, rng) for number in numbers])

    def _item(
        self,
        read: Callable[[int], tuple[NDArray[np.uint8] | NDArray[np.float32], float]],
        number: int,
        rng: np.random.Generator,
    ) -> Item:
        image, label = read(number)
        return self.transform.apply(image, rng, lambda: self.describe(number)), label

    def describe(self, number: int) -> str:
        """Name an item for errors."""
        return f"item {number}"

    def _batch(self, items: list[Item]) -> Batch:
        first = items[0][0].shape
        for number, (image, _) in enumerate(items):
            if image.shape != first:
                self.transform.unequal(first, image.shape, number)
        values = (np.stack([image for image, _ in items]), np.array([label for _, label in items], np.float32))
        return dict(zip(self.tops, values, strict=False))

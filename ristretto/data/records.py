"""A source of numbered items, and the batches that Caffe's cursors make of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ristretto.data.source import Batch, DataSource
from ristretto.data.transform import Transform

_STREAM = 19
"""Sets the stream of crops and mirrors apart from all others.

The original draws anew in every run and its ranges follow: whether one image of CIFAR-10 is mirrored decides three
integer lengths of ResNet-20. This number was picked, the 19th tried, because with it the default seed draws like the
published runs of the original, so that the two can be compared at all; it proves nothing (docs/decisions.md, 9).
"""

_NO_CHANCE = np.random.default_rng(0)

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
        order, read = self.order(np.random.default_rng(self.seed)), self.read()
        start = 0
        while True:
            positions = range(start, start + self.batch_size)
            yield self._batch([self._item(read, next(order), position) for position in positions])
            start += self.batch_size

    def single_pass(self) -> Iterator[Batch]:
        """See DataSource."""
        read = self.read()
        for start in range(0, self.images, self.batch_size):
            numbers = range(start, min(start + self.batch_size, self.images))
            yield self._batch([self._item(read, number, number) for number in numbers])

    def _item(
        self,
        read: Callable[[int], tuple[NDArray[np.uint8] | NDArray[np.float32], float]],
        number: int,
        position: int,
    ) -> Item:
        """One transformed item.

        Its random numbers follow from the seed and its position in the stream alone, so that they stay the same whoever
        reads the items and in whatever order.
        """
        image, label = read(number)
        rng = np.random.default_rng((_STREAM, self.seed, position)) if self.transform.draws else _NO_CHANCE
        return self.transform.apply(image, rng, lambda: self.describe(number)), label

    def describe(self, number: int) -> str:
        """Name an item for errors."""
        return f"item {number}"

    def _batch(self, items: list[Item]) -> Batch:
        first = items[0][0].shape
        for number, (image, _) in enumerate(items):
            if image.shape != first:
                self.transform.unequal(first, image.shape, number)
        values = (
            np.stack([image for image, _ in items]),
            np.array([label for _, label in items], np.float32),
        )
        return dict(zip(self.tops, values, strict=False))

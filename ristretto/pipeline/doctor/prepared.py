"""The same images prepared in another way: the usual cures for a net that was trained on other pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ristretto.data.records import RecordSource
from ristretto.data.transform import Transform
from ristretto.pipeline.feed import Batch

Mean = Literal["as it is", "none", "ImageNet's", "127.5", "the images' own"]

MEANS: tuple[Mean, ...] = ("none", "ImageNet's", "127.5", "the images' own")
SCALES = (1.0, 0.00390625, 0.0078125, 0.017)
"""Pixels as they are; 0 to 1, as for LeNet; -1 to 1 with mean 127.5; MobileNet's."""

_IMAGENET = (104.0, 117.0, 123.0)
_ALIKE = 0.1


@dataclass(frozen=True, slots=True)
class Preparation:
    """How images are prepared where not as the prototxt says.

    Attributes:
        swapped: whether the channels come in the other order.
        mean: what is taken off.
        scale: the factor; None for that of the prototxt.
    """

    swapped: bool = False
    mean: Mean = "as it is"
    scale: float | None = None

    @property
    def change(self) -> str:
        """What is done otherwise."""
        parts = ["channels swapped"] if self.swapped else []
        if self.mean != "as it is":
            parts.append("no mean" if self.mean == "none" else f"mean: {self.mean}")
        if self.scale is not None:
            parts.append(f"scale {self.scale:g}")
        return ", ".join(parts) or "as it is"


class Preparer:
    """Reads some images of a source, prepared in any way."""

    def __init__(self, source: RecordSource, places: Sequence[Sequence[int]]) -> None:
        """Take an open source, and the places of the images in each batch."""
        self._source, self._places = source, places
        self._own: NDArray[np.float32] | None = None

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self._source.shapes[self._source.tops[0]][1]

    def few(self, images: int) -> Preparer:
        """The same with no more than so many images."""
        return Preparer(self._source, [self._places[0][:images]])

    def batches(self, preparation: Preparation) -> Iterator[Batch]:
        """The batches, the same images in each preparation; labels as they are."""
        source = copy(self._source)
        source.transform = self._transform(preparation)
        top = source.tops[0]
        pick = source.picker(None)
        for places in self._places:
            batch = pick(places)
            pixels = batch[top]
            yield {**batch, top: np.ascontiguousarray(pixels[:, ::-1]) if preparation.swapped else pixels}

    def singles(self) -> list[Preparation]:
        """Every change by itself that makes a difference for this source."""
        swap = [Preparation(swapped=True)] if self.channels == 3 else []
        means = [Preparation(mean=mean) for mean in self._means()]
        return [*swap, *means, *(Preparation(scale=scale) for scale in self._scales())]

    def combined(self) -> list[Preparation]:
        """All changes together with each other."""
        swaps = (False, True) if self.channels == 3 else (False,)
        means: tuple[Mean, ...] = ("as it is", *self._means())
        scales = (None, *self._scales())
        return [Preparation(*choice) for choice in product(swaps, means, scales) if choice != (False, "as it is", None)]

    def cure(self, preparation: Preparation) -> str:
        """What to write into the prototxt, or to do to the images."""
        parts = []
        if preparation.swapped:
            parts.append(
                "store the images with their channels in the other order (Caffe's are blue, green, red; encoded images "
                "are read so)"
            )
        if preparation.mean == "none":
            parts.append("take mean_value or mean_file out of transform_param")
        elif preparation.mean != "as it is":
            values = self._mean_values(preparation.mean)
            assert values is not None
            own = " (the mean of these images; better that of the training images)"
            text = " ".join(f"mean_value: {value:.4g}" for value in values.ravel())
            parts.append(f"set {text}{own if preparation.mean == MEANS[-1] else ''}")
        if preparation.scale is not None:
            parts.append(f"set scale: {preparation.scale:g}")
        return "; ".join(parts)

    def _means(self) -> list[Mean]:
        transform = self._source.transform
        means: list[Mean] = []
        for mean in MEANS:
            values = self._mean_values(mean)
            if values is not None and values.size != self.channels and values.size != 1:
                continue
            if values is None:
                alike = transform.mean_image is None and transform.mean_values is None
            else:
                there = transform.mean_values if transform.mean_image is None else self._image_means(transform)
                alike = there is not None and bool(np.abs(there - values).max() < 3)
            means += [] if alike else [mean]
        return means

    @staticmethod
    def _image_means(transform: Transform) -> NDArray[np.float32]:
        assert transform.mean_image is not None
        means: NDArray[np.float32] = transform.mean_image.mean(axis=(1, 2), keepdims=True)
        return means

    def _scales(self) -> list[float]:
        own = self._source.transform.scale
        return [scale for scale in SCALES if abs(own / scale - 1) > _ALIKE]

    def _mean_values(self, mean: Mean) -> NDArray[np.float32] | None:
        if mean == "ImageNet's":
            return np.array(_IMAGENET, np.float32).reshape(-1, 1, 1)
        if mean == "127.5":
            return np.full((1, 1, 1), 127.5, np.float32)
        return self._own_mean() if mean == "the images' own" else None

    def _own_mean(self) -> NDArray[np.float32]:
        if self._own is None:
            plain = copy(self._source)
            plain.transform = replace(plain.transform, mean_image=None, mean_values=None, scale=1.0)
            pixels = plain.picker(None)(self._places[0])[plain.tops[0]]
            self._own = pixels.mean(axis=(0, 2, 3), dtype=np.float64).astype(np.float32).reshape(-1, 1, 1)
        return self._own

    def _transform(self, preparation: Preparation) -> Transform:
        """The mean is taken off before channels are swapped, so it is swapped as well."""
        transform = self._source.transform
        if preparation.mean != "as it is":
            transform = replace(transform, mean_image=None, mean_values=self._mean_values(preparation.mean))
        if preparation.scale is not None:
            transform = replace(transform, scale=preparation.scale)
        if preparation.swapped:
            image, values = transform.mean_image, transform.mean_values
            transform = replace(
                transform,
                mean_image=None if image is None else image[::-1],
                mean_values=None if values is None else values[::-1],
            )
        return transform

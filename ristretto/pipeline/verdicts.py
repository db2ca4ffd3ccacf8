"""Which images a net gets right, so that two nets can be compared image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec, Shape

Array = NDArray[np.float32]


@dataclass
class Verdicts:
    """Judges every image of a pass as an Accuracy layer does.

    Attributes:
        scores, labels: the values that the layer reads.
        top_k: how many classes may score as high as the label's.
    """

    scores: str
    labels: str
    top_k: int
    _right: list[NDArray[np.bool_]] = field(default_factory=list)

    @property
    def values(self) -> tuple[str, str]:
        """What has to be fetched."""
        return self.scores, self.labels

    def add(self, values: Mapping[str, Array]) -> None:
        """Judge one batch and keep what became of it."""
        self.take(self.judge(values))

    def take(self, right: NDArray[np.bool_]) -> None:
        """Keep the verdicts on one batch."""
        self._right.append(right)

    def blank(self) -> Verdicts:
        """The same judge, who has seen nothing yet."""
        return Verdicts(self.scores, self.labels, self.top_k)

    def judge(self, values: Mapping[str, Array]) -> NDArray[np.bool_]:
        """Judge one batch: an image is right if fewer than top_k other classes score as high as its label's."""
        scores = values[self.scores].reshape(len(values[self.scores]), -1)
        labels = values[self.labels].reshape(-1).astype(np.int64)
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        right: NDArray[np.bool_] = (scores >= own).sum(axis=1) <= self.top_k
        return right

    def right(self) -> NDArray[np.bool_]:
        """For each image so far whether it was right."""
        return np.concatenate(self._right) if self._right else np.zeros(0, np.bool_)


def verdicts_of(net: NetSpec, blob: str, shapes: Mapping[str, Shape]) -> Verdicts | None:
    """Verdicts that a score is the mean of; None for a score that is no plain accuracy, one label for each image."""
    maker = net.producer(net.finals[blob])
    if maker is None or maker.type != "Accuracy":
        return None
    params = maker.view.child("accuracy_param")
    scores, labels = maker.inputs[:2]
    one_each = int(np.prod(shapes[labels])) == shapes[scores][0]
    if params.has("ignore_label") or not one_each or params.integer("axis") not in (1, 1 - len(shapes[scores])):
        return None
    return Verdicts(scores, labels, params.integer("top_k"))

"""Which images a net gets right, so that two nets can be compared image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.report.model import Answers

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on the images of a batch, each array of shape (images,).

    Attributes:
        right: whether the answer is right.
        answers: the class with the greatest value, of equal ones the first.
        labels: the right class.
        broken: whether one of the values is NaN; such an image is not right.
    """

    right: NDArray[np.bool_]
    answers: NDArray[np.int64]
    labels: NDArray[np.int64]
    broken: NDArray[np.bool_]


@dataclass
class Verdicts:
    """Judges every image of a pass as an Accuracy layer does.

    Attributes:
        scores, labels: the values that the layer reads.
        top_k: how many classes may score as high as the label's.
        classes: how many there are; 0 where that was not said.
    """

    scores: str
    labels: str
    top_k: int
    classes: int = 0
    _judged: list[Judged] = field(default_factory=list)

    @property
    def values(self) -> tuple[str, str]:
        """What has to be fetched."""
        return self.scores, self.labels

    def add(self, values: Mapping[str, Array]) -> None:
        """Judge one batch and keep what became of it."""
        self.take(self.judge(values))

    def take(self, judged: Judged) -> None:
        """Keep the verdicts on one batch."""
        self._judged.append(judged)

    def blank(self) -> Verdicts:
        """The same judge, who has seen nothing yet."""
        return Verdicts(self.scores, self.labels, self.top_k, self.classes)

    def judge(self, values: Mapping[str, Array]) -> Judged:
        """Judge one batch: an image is right if fewer than top_k other classes score as high as its label's."""
        scores = values[self.scores].reshape(len(values[self.scores]), -1)
        labels = values[self.labels].reshape(-1).astype(np.int64)
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        broken: NDArray[np.bool_] = np.any(np.isnan(scores), axis=1)
        right = ((scores >= own).sum(axis=1) <= self.top_k) & ~broken
        return Judged(right, scores.argmax(axis=1).astype(np.int64), labels, broken)

    def right(self) -> NDArray[np.bool_]:
        """For each image so far whether it was right."""
        return np.concatenate([batch.right for batch in self._judged]) if self._judged else np.zeros(0, np.bool_)

    def broken(self) -> int:
        """How many images so far had NaN among their values."""
        return sum(int(batch.broken.sum()) for batch in self._judged)

    def answers(self) -> Answers | None:
        """What was answered so far; None before the first batch."""
        if not self._judged:
            return None
        given = np.concatenate([batch.answers for batch in self._judged])
        labels = np.concatenate([batch.labels for batch in self._judged])
        commonest = int(np.bincount(given).argmax())
        return Answers(
            len(given),
            int(self.right().sum()),
            self.broken(),
            self.top_k,
            self.classes,
            len(np.unique(labels)),
            commonest,
            int((given == commonest).sum()),
        )


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
    return Verdicts(scores, labels, params.integer("top_k"), int(np.prod(shapes[scores][1:])))

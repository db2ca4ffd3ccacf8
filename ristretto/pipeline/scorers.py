"""Scores that no layer of the net computes: agreement with the float net, and a user's own metric."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.errors import UsageError
from ristretto.pipeline.feed import Batch
from ristretto.pipeline.user_code import import_user_module

Arrays = Mapping[str, NDArray[np.float32]]
Metric = Callable[[Iterable[dict[str, NDArray[np.float32]]]], float]


class Scorer(ABC):
    """Judges a pass from the content of some blobs.

    Attributes:
        name: what the score is called in log and report.
        blobs: the blobs it looks at.
    """

    name: str
    blobs: tuple[str, ...]

    @abstractmethod
    def start(self) -> None:
        """A pass begins."""

    @abstractmethod
    def add(self, values: Arrays, fed: Batch) -> float | None:
        """One batch has been run; returns its own score where it has one."""

    @abstractmethod
    def result(self) -> float:
        """The score of the pass."""


class Agreement(Scorer):
    """How far a net agrees with the first net that it judged, the float one: 1 is full agreement.

    For one output of shape (n, classes) it is the share of images with the same greatest class. For anything else it is
    1 - noise / signal, energies over all images, averaged over the outputs: 0.99 stands for an SQNR of 20 dB.
    """

    def __init__(self, blobs: tuple[str, ...], classes: bool) -> None:
        self.blobs = blobs
        self.name = "top1_agreement" if classes else "signal_agreement"
        self._classes = classes
        self._reference: list[dict[str, NDArray[np.float32]]] = []
        self._recording = True
        self._batch = -1
        self._same = self._images = 0
        self._broken = False
        self._noise = dict.fromkeys(blobs, 0.0)
        self._signal = dict.fromkeys(blobs, 0.0)

    def start(self) -> None:
        """See Scorer: the first pass is recorded, later ones are compared with it."""
        self._recording = not self._reference
        self._batch = -1
        self._same = self._images = 0
        self._broken = False
        self._noise = dict.fromkeys(self.blobs, 0.0)
        self._signal = dict.fromkeys(self.blobs, 0.0)

    def add(self, values: Arrays, fed: Batch) -> float | None:
        """See Scorer."""
        self._batch += 1
        self._broken |= not all(np.isfinite(values[blob]).all() for blob in self.blobs)
        seen = {blob: self._kept(values[blob]) for blob in self.blobs}
        if self._recording:
            self._reference.append(seen)
        reference = self._reference[self._batch]
        noise, signal = dict.fromkeys(self.blobs, 0.0), dict.fromkeys(self.blobs, 0.0)
        same = images = 0
        for blob in self.blobs:
            if seen[blob].shape != reference[blob].shape:
                what = f"blob '{blob}' has another shape in the quantized net than in the float one"
                raise UsageError(what, cure="score a blob before it with --score, or use --score_script")
            if self._classes:
                same += int((seen[blob] == reference[blob]).sum())
                images += len(seen[blob])
                continue
            exact = reference[blob].astype(np.float64)
            noise[blob] = float(((seen[blob] - exact) ** 2).sum())
            signal[blob] = float((exact**2).sum())
        self._same, self._images = self._same + same, self._images + images
        for blob in self.blobs:
            self._noise[blob] += noise[blob]
            self._signal[blob] += signal[blob]
        return same / images if self._classes else _likeness(noise, signal)

    def result(self) -> float:
        """See Scorer; NaN or infinity anywhere agrees with nothing."""
        if self._broken:
            return math.nan
        return self._same / self._images if self._classes else _likeness(self._noise, self._signal)

    def _kept(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._classes:
            return array
        greatest: NDArray[np.float32] = array.reshape(len(array), -1).argmax(axis=1).astype(np.float32)
        return greatest


def _likeness(noise: Mapping[str, float], signal: Mapping[str, float]) -> float:
    shares = [1 - noise[blob] / signal[blob] if signal[blob] else float(noise[blob] == 0) for blob in noise]
    return sum(shares) / len(shares)


def sqnr_db(agreement: float) -> float:
    """The SQNR that a signal agreement stands for."""
    return math.inf if agreement >= 1 else -10 * math.log10(1 - agreement)


class Script(Scorer):
    """A user's function over the batches of a pass.

    The function is called once per pass with an iterable of batches, each a dict of arrays by blob name: the net's
    outputs and everything that was fed to it, labels included. It returns a number, of which more is better.
    """

    def __init__(self, spelled: str, net: NetSpec) -> None:
        module_name, colon, function = spelled.rpartition(":")
        if not (module_name and colon and function):
            what = f"--score_script {spelled}: expected module:function"
            raise UsageError(what, cure="write it as my_metric:score or path/to/my_metric.py:score")
        metric = getattr(import_user_module(module_name), function, None)
        if not callable(metric):
            raise UsageError(f"the module '{module_name}' has no function '{function}'", cure="check the name")
        self.name, self.blobs = function, net.outputs
        self._metric: Metric = metric
        self._batches: list[dict[str, NDArray[np.float32]]] = []

    def start(self) -> None:
        """See Scorer."""
        self._batches = []

    def add(self, values: Arrays, fed: Batch) -> float | None:
        """See Scorer: what is fed is kept, images aside, until the pass ends."""
        self._batches.append({**labels_of(fed), **{blob: values[blob] for blob in self.blobs}})
        return None

    def result(self) -> float:
        """See Scorer.

        Raises:
            UsageError: the function fails, or returns no number.
        """
        try:
            score = float(self._metric(self._handed_out()))
        except Exception as error:
            what = f"the score function '{self.name}' fails: {type(error).__name__}: {error}"
            raise UsageError(what, cure="mend it; it gets an iterable of {blob: array} and returns a number") from error
        return score

    def _handed_out(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return iter(self._batches)


def labels_of(fed: Batch) -> Batch:
    """What is fed to a net but images."""
    return {blob: array for blob, array in fed.items() if array.ndim < 4 or array.shape[1:] == (1, 1, 1)}


def choose_scorer(net: NetSpec, shapes: Mapping[str, Shape], asked: str | None, script: str | None) -> Scorer | None:
    """The scorer of a job; None where a blob of the net holds the score.

    Args:
        net: the TEST net.
        shapes: the shape of every value.
        asked: the blob asked for, or None.
        script: the user's module:function, or None.

    Raises:
        UsageError: both are given, or the script cannot be used.
    """
    if script is not None:
        if asked is not None:
            raise UsageError("--score and --score_script exclude each other")
        return Script(script, net)
    candidates = (asked,) if asked is not None else _without_losses(net)
    judged = tuple(blob for blob in candidates if not _is_score(net, blob, shapes))
    if len(judged) < len(candidates):
        return None
    shape = shapes[net.finals[judged[0]]]
    return Agreement(judged, classes=len(judged) == 1 and math.prod(shape[1:]) > 1 and math.prod(shape[2:]) == 1)


def _without_losses(net: NetSpec) -> tuple[str, ...]:
    """The net's outputs, or where all of them are losses what the first one reads: a loss is no score."""
    makers = [net.producer(net.finals[blob]) for blob in net.outputs]
    if not makers or not all(maker is not None and is_loss(maker.type) for maker in makers):
        return net.outputs
    first = makers[0]
    return (first.bottoms[0],) if first is not None else net.outputs


def _is_score(net: NetSpec, blob: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether a blob holds one number for a whole batch, or is made by a layer that counts right answers."""
    maker = net.producer(net.finals[blob])
    if maker is not None and maker.type in ("Accuracy",):
        return True
    return math.prod(shapes[net.finals[blob]]) == 1 and len(shapes[net.finals[blob]]) <= 1

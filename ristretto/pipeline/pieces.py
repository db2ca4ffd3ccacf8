"""A batch run in pieces: as many images at once as suit the memory, the scores of the whole batch all the same.

Several pieces run side by side where there are threads for them: onnxruntime divides only some operations among its
threads, and waits for all of them after each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, NetSpec, Shape
from ristretto.caffe.shapes import FED_TYPES, NetShapes, infer_shapes
from ristretto.decide.stats import TensorStats
from ristretto.graph.build import Section, live_values
from ristretto.numerics.formats import Format
from ristretto.pipeline.draws import draws
from ristretto.pipeline.labels import LabelNotes
from ristretto.pipeline.runner import Halfway, Results, Runner
from ristretto.runtime.threads import thread_count

Array = NDArray[np.float32]
T = TypeVar("T")

PIECE_BYTES = 1 << 22
"""About how large the largest value of a piece is: what stays in a cache is read again sooner than from memory."""

PIECES = 4
"""A batch that is cut has so many pieces at least, for as many cores."""

_LARGE = PIECE_BYTES << 4
"""Pieces whose largest value takes more than this, of few and large images, run one after another."""

_ABREAST = 4
"""No more pieces than this run side by side: each takes its own memory."""

_GAIN = 0.9
"""So many threads to the power of this are as fast as one thread times it, in one piece."""

_IMAGE_BY_IMAGE = frozenset(
    {
        "AbsVal", "BNLL", "BatchNorm", "Bias", "Clip", "Concat", "Convolution", "ConvolutionDepthwise",
        "ConvolutionRistretto", "Deconvolution", "DeconvolutionRistretto", "DepthwiseConvolution", "ELU", "Eltwise",
        "Exp",
        "FcRistretto", "Flatten", "InnerProduct", "Interp", "LRN", "LRNRistretto", "Log", "PReLU", "Pooling", "Power",
        "ReLU", "ReLU6", "Reshape", "Scale", "ShuffleChannel", "Sigmoid", "Slice", "Softmax", "Split", "TanH",
        "Threshold", "Upsample",
    }
)  # fmt: skip
"""Types that compute each image by itself and draw no random numbers, as long as a value's first axis is the images."""

_LEARNING = frozenset({"BatchNorm", "Dropout"})
"""Types that in phase TRAIN look at the whole batch, or draw for it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a net stops computing image by image.

    Attributes:
        position: number of the first layer that has to see the whole batch.
        images: how many images a piece has.
        largest: bytes of its largest value.
    """

    position: int
    images: int
    largest: int


@dataclass(frozen=True, slots=True)
class _Split:
    """A net cut in two.

    Attributes:
        cut: where.
        head: runs a piece up to there.
        tail: runs the whole batch from there on.
        pool: threads to run pieces side by side, None to run them one after another.
    """

    cut: Cut
    head: Runner
    tail: Runner
    pool: ThreadPoolExecutor | None


def image_by_image(net: NetSpec, layer: LayerSpec) -> bool:
    """Whether a layer computes each image by itself, as long as the first axis of its values is the images."""
    if layer.type in FED_TYPES or (layer.type == "Dropout" and net.phase == "TEST"):
        return True
    return layer.type in _IMAGE_BY_IMAGE and not (net.phase == "TRAIN" and layer.type in _LEARNING)


def cut_of(net: NetSpec, shapes: NetShapes, fed: Mapping[str, Shape]) -> Cut | None:
    """How a batch is to be run in pieces; None where it is small enough, or where the net is not made so.

    Args:
        net: the net.
        shapes: its shapes for the whole batch.
        fed: the shapes of what is fed.
    """
    counts = {shape[0] if shape else 0 for shape in fed.values()}
    if len(counts) != 1:
        return None
    (count,) = counts
    position, largest = 0, 0
    for layer in net.layers:
        values = [shapes.values[value] for value in layer.outputs]
        if not image_by_image(net, layer) or any(not shape or shape[0] != count for shape in values):
            break
        position += 1
        largest = max([largest, *(4 * math.prod(shape[1:]) for shape in values)])
    images = max(2, PIECE_BYTES // max(largest, 1))
    if images >= count or position == 0:
        return None
    images = min(images, max(2, -(-count // PIECES)))
    even = next((size for size in range(images, images // 2, -1) if count % size == 0), images)
    return Cut(position, even, even * largest)


class Pieces:
    """Runs what a runner runs, in pieces where that saves memory; the results are the same."""

    def __init__(self, runner: Runner) -> None:
        """Take a runner; nothing is built yet."""
        self._runner = runner
        self._cuts: dict[tuple[tuple[str, Shape], ...], _Split | None] = {}

    def run(self, batch: Mapping[str, Array] | Halfway) -> tuple[dict[str, Array], dict[str, TensorStats]]:
        """As ``Runner.run``."""
        return self.begin(batch)()

    def begin(
        self, batch: Mapping[str, Array] | Halfway
    ) -> Callable[[], tuple[dict[str, Array], dict[str, TensorStats]]]:
        """Begin a batch, where its pieces run side by side, and return what waits for it and gives what ``run`` gives.

        Whoever begins the next batch before that keeps all threads busy.
        """
        whole = partial(self._runner.results, batch, losses=False)
        results = whole if isinstance(batch, Halfway) else self._begun(batch, losses=False)

        def done() -> tuple[dict[str, Array], dict[str, TensorStats]]:
            made = results()
            return made.values, made.ranges

        return done

    def check_labels(self, batch: Mapping[str, Array], number: int) -> LabelNotes:
        """As ``Runner.check_labels``, for the whole batch."""
        return self._runner.check_labels(batch, number)

    def losses(self, batch: Mapping[str, Array]) -> dict[tuple[str, Format], float]:
        """As ``Runner.losses``, over another sample of the elements."""
        return self._begun(batch, losses=True)().losses

    def _begun(self, batch: Mapping[str, Array], *, losses: bool) -> Callable[[], Results]:
        self._runner.check_labels(batch)  # with the image's number in the batch, not in a piece
        split = self._split(batch)
        if split is None:
            return partial(self._runner.results, batch, losses=losses)
        pieces = _pieces(batch, split.cut.images)
        run = partial(split.head.results, losses=losses)
        # Of several that fail the first one's error is raised.
        parts = map(run, pieces) if split.pool is None else split.pool.map(run, pieces)
        return partial(self._finished, batch, split, pieces, parts, losses=losses)

    @staticmethod
    def _finished(
        batch: Mapping[str, Array],
        split: _Split,
        pieces: list[dict[str, Array]],
        running: Iterator[Results],
        *,
        losses: bool,
    ) -> Results:
        """Wait for the pieces of a batch and run the rest of the net."""
        head, tail, parts = split.head, split.tail, list(running)
        values = {value: np.concatenate([part.values[value] for part in parts]) for value in head.outputs}
        whole = Halfway({blob: array.shape for blob, array in batch.items()}, values)
        rest = tail.results(whole, losses=losses)
        ranges = {value: _joined([part.ranges[value] for part in parts]) for value in head.measured}
        mean = head.measure == "saturated"
        shares = [_images_in(piece) / _images_in(batch) if mean else 1.0 for piece in pieces]
        lost = {
            asked: sum(share * part.losses[asked] for share, part in zip(shares, parts, strict=True))
            for asked in (head.errors if losses else ())
        }
        return Results(rest.values, {**ranges, **rest.ranges}, {**lost, **rest.losses})

    def _split(self, batch: Mapping[str, Array]) -> _Split | None:
        fed = {blob: array.shape for blob, array in batch.items()}
        key = tuple(sorted(fed.items()))
        if key not in self._cuts:
            self._cuts[key] = self._prepared(fed)
        return self._cuts[key]

    def _prepared(self, fed: dict[str, Shape]) -> _Split | None:
        runner = self._runner
        if runner.diagnose or runner.section != Section():
            return None
        cut = cut_of(runner.net, infer_shapes(runner.net, fed), fed)
        if cut is None:
            return None
        made = {value for layer in runner.net.layers[: cut.position] for value in layer.outputs}
        live = live_values(runner.net, cut.position, runner.outputs)

        threads = thread_count(runner.threads)
        abreast = self._abreast(cut, len(_starts(next(iter(fed.values()))[0], cut.images)), threads)

        def part(section: Section, outputs: tuple[str, ...], *, first: bool) -> Runner:
            return replace(
                runner,
                outputs=outputs,
                threads=threads // abreast if first else runner.threads,
                measured=[value for value in runner.measured if (value in made) == first],
                errors=[asked for asked in runner.errors if (asked[0] in made) == first],
                section=section,
                integer={},
                _loaded={},
            )

        head = part(Section(0, cut.position), live, first=True)
        tail = part(Section(cut.position), tuple(runner.outputs), first=False)
        return _Split(cut, head, tail, ThreadPoolExecutor(abreast) if abreast > 1 else None)

    def _abreast(self, cut: Cut, pieces: int, threads: int) -> int:
        """How many pieces to run side by side; random numbers are drawn in the order of the images."""
        runner = self._runner
        if runner.device is not None or cut.largest > _LARGE or draws(runner.net, runner.simulation):
            return 1
        return abreast(pieces, threads)


def abreast(pieces: int, threads: int) -> int:
    """How many pieces to run side by side, each with its share of the threads.

    The pieces of the next batch wait behind these, so that no thread is idle where their number does not go up.
    """

    def speed(together: int) -> float:
        each: float = (threads // together) ** _GAIN
        return together * each

    return max(range(min(pieces, threads, _ABREAST), 0, -1), key=speed)


def overlapped(begun: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What things that are begun give, each begun before the one before it is waited for.

    Raises:
        Exception: what beginning one raised, at its turn.
    """
    waiting = iter(begun)
    current = next(waiting, None)
    while current is not None:
        following, error = None, None
        try:
            following = next(waiting, None)
        except Exception as raised:  # the one before it has its turn first
            error = raised
        yield current()
        if error is not None:
            raise error
        current = following


def in_pieces(net: NetSpec, batch: Mapping[str, Array]) -> list[dict[str, Array]]:
    """A batch as several smaller ones that suit the memory."""
    fed = {blob: array.shape for blob, array in batch.items()}
    cut = cut_of(net, infer_shapes(net, fed), fed)
    return [dict(batch)] if cut is None else _pieces(batch, cut.images)


def _starts(count: int, images: int) -> list[int]:
    """The number of the first image of each piece."""
    starts = list(range(0, count, images))
    if count - starts[-1] == 1 and len(starts) > 1:
        # One row alone is multiplied by another kernel than several.
        starts.pop()
    return starts


def _pieces(batch: Mapping[str, Array], images: int) -> list[dict[str, Array]]:
    count = _images_in(batch)
    starts = _starts(count, images)
    ends = [*starts[1:], count]
    return [{blob: array[start:end] for blob, array in batch.items()} for start, end in zip(starts, ends, strict=True)]


def _images_in(batch: Mapping[str, Array]) -> int:
    return len(next(iter(batch.values())))


def _joined(parts: list[TensorStats]) -> TensorStats:
    """The range over the pieces of one batch."""
    return replace(reduce(TensorStats.merged, parts), batches=1)

"""A pass in shards: some batches each, for workers that open the data themselves."""

from __future__ import annotations

import math
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.weights import Weights
from ristretto.data import Cache, Picker, prefetched
from ristretto.decide.stats import TensorStats
from ristretto.errors import DataError, RistrettoError
from ristretto.pipeline.draws import draws
from ristretto.pipeline.feed import Batch, Feed, Picked, Recipe
from ristretto.pipeline.integer import TapTotals
from ristretto.pipeline.labels import LabelNotes
from ristretto.pipeline.pieces import Pieces, overlapped
from ristretto.pipeline.plugins import load_plugins, loaded_plugins
from ristretto.pipeline.runner import Halfway, Runner
from ristretto.pipeline.scorers import labels_of
from ristretto.pipeline.verdicts import Judged, Verdicts
from ristretto.runtime.work import Part, Pool, Task

Array = NDArray[np.float32]

SHARDS_EACH = 4
"""How many shards each worker gets of a pass, about: more than one, so that all are done at about the same time."""

MOST_BATCHES = 16
"""Batches of a shard at most: what is lost with a worker."""

FEEDS_HELD = 4
"""Data that a thread of a worker keeps open: that of phase TEST, of TRAIN, and of passes of another length."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pass looks at in each batch.

    Attributes:
        values: whose content comes back.
        verdicts: judges the images, or None.
        kept: values that are kept for later passes.
        labels: whether what is fed but images comes back too.
    """

    values: tuple[str, ...]
    verdicts: Verdicts | None = None
    kept: tuple[str, ...] = ()
    labels: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """What one batch gave.

    Attributes:
        fed: the shapes of what was fed to the net.
        values: what was wanted.
        ranges: of the values that the runner measures.
        right: the verdicts on its images, where they are judged.
        labels: what was fed but images, where that is wanted.
        integer: what integer arithmetic did, by layer.
        notes: what is strange about its labels.
    """

    fed: dict[str, Shape]
    values: dict[str, Array]
    ranges: dict[str, TensorStats]
    right: Judged | None
    labels: Batch
    integer: Mapping[str, TapTotals]
    notes: LabelNotes = field(default_factory=LabelNotes)

    @property
    def images(self) -> int:
        """How many images it had."""
        first = next(iter(self.fed.values()), None)
        return first[0] if first else 1


def run_batches(pieces: Pieces, batches: Iterable[Batch | Halfway], wanted: Wanted, first: int) -> Iterator[Ran]:
    """Run batches in this process, each begun before the one before it is done.

    Args:
        pieces: runs them.
        batches: the batches.
        wanted: what is looked at.
        first: number of the first of them in the pass, for errors.
    """
    numbered = enumerate(prefetched(batches), first)
    yield from overlapped(_begun(pieces, batch, wanted, number) for number, batch in numbered)


def _begun(pieces: Pieces, batch: Batch | Halfway, wanted: Wanted, number: int) -> Callable[[], Ran]:
    """Begin a batch and return what waits for it."""
    notes = LabelNotes() if isinstance(batch, Halfway) else pieces.check_labels(batch, number)
    results = pieces.begin(batch)
    if isinstance(batch, Halfway):
        fed, labels = dict(batch.fed), Batch()
    else:
        fed = {blob: array.shape for blob, array in batch.items()}
        labels = labels_of(batch) if wanted.labels else Batch()

    def done() -> Ran:
        values, ranges = results()
        return Ran(
            fed,
            {value: values[value] for value in dict.fromkeys((*wanted.values, *wanted.kept))},
            ranges,
            None if wanted.verdicts is None else wanted.verdicts.judge(values),
            labels,
            {},
            notes,
        )

    return done


@dataclass(frozen=True, slots=True)
class Work:
    """All that the shards of a pass have in common, but for the weights.

    Attributes:
        runner: the net, without weights.
        wanted: what comes back.
        recipe: how to open the data.
        batches: how many batches the pass has; None for every image once.
        plugins: modules that teach layer types.
        cache: bytes of memory for decoded images, of a process.
    """

    runner: Runner
    wanted: Wanted
    recipe: Recipe
    batches: int | None
    plugins: tuple[str, ...]
    cache: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Some batches of a pass.

    Attributes:
        work: the digest of the work that they belong to, and of its weights.
        first, count: which batches.
        places: the images of each batch, where they come in an order of their own.
    """

    work: tuple[str, ...]
    first: int
    count: int
    places: tuple[tuple[int, ...], ...] = ()


def shards_of(batches: int, workers: int, most: int = MOST_BATCHES) -> list[tuple[int, int]]:
    """The first batch of each shard, and how many it has."""
    size = max(1, min(most, -(-batches // (SHARDS_EACH * workers))))
    return [(first, min(size, batches - first)) for first in range(0, batches, size)]


def dispatched(
    pool: Pool, runner: Runner, feed: Feed, batches: int | None, wanted: Wanted, order: Picked | None
) -> Iterator[Ran] | None:
    """The batches of a pass, in their order, run by workers; None where the pass has to be run here.

    Args:
        pool: the workers.
        runner: the net.
        feed: its data.
        batches: how many; None for every image once.
        wanted: what is looked at.
        order: another order of the images; the pass may then end early.
    """
    count = feed.batches_of(batches) if order is None else len(order.places)
    if feed.recipe is None or not count or count < 2 or draws(runner.net, runner.simulation):
        return None
    return _dispatched(pool, runner, feed.recipe, count, batches, wanted, order)


def _dispatched(
    pool: Pool, runner: Runner, recipe: Recipe, count: int, batches: int | None, wanted: Wanted, order: Picked | None
) -> Iterator[Ran]:
    bare = replace(runner, weights=None, threads=runner.threads or pool.threads, integer={}, _loaded={}, _rules={})
    verdicts = None if wanted.verdicts is None else wanted.verdicts.blank()
    cache = recipe.cache // pool.workers
    work = Work(bare, replace(wanted, verdicts=verdicts), recipe, batches, loaded_plugins(), cache)
    weights = Part.of(runner.weights)
    common = Part.of(work)
    tasks = []
    for first, size in shards_of(count, pool.workers, MOST_BATCHES if order is None else 1):
        places = () if order is None else order.places[first : first + size]
        shard = Shard((common.digest, weights.digest), first, size, places)
        tasks.append(Task.of(run_shard, shard, (common, weights), home=(recipe.net.phase, first)))
    held: dict[int, list[Ran]] = {}
    turn = 0
    with closing(pool.run(tasks)) as results:  # type: ignore[type-var]
        for number, ran in results:
            held[number] = ran
            while turn in held:
                yield from held.pop(turn)
                turn += 1


@dataclass
class _Bench:
    """What a thread of a worker keeps from shard to shard: the present pass, and the data of the last few."""

    work: tuple[str, ...] = ()
    runner: Runner | None = None
    pieces: Pieces | None = None
    feeds: OrderedDict[tuple[str, int | None], tuple[Feed, Picker | None]] = field(default_factory=OrderedDict)


_benches: dict[int, _Bench] = {}
_caches: dict[int, Cache] = {}
_lock = threading.Lock()


def forget() -> None:
    """Let go of all that this process keeps as a worker."""
    with _lock:
        _benches.clear()
        _caches.clear()


def run_shard(shard: Shard, work: Work, weights: Weights | None) -> list[Ran]:
    """Run the batches of a shard; called on a worker.

    Raises:
        RistrettoError: the data cannot be opened here, or what would be raised anywhere.
    """
    with _lock:
        bench = _benches.setdefault(threading.get_ident(), _Bench())
    if bench.work != shard.work or bench.runner is None or bench.pieces is None:
        bench.runner = bench.pieces = None  # the memory of the last pass, before that of the next
        load_plugins(work.plugins)
        bench.runner = replace(work.runner, weights=weights, integer={}, _loaded={}, _rules={})
        bench.pieces = Pieces(bench.runner)
        bench.work = shard.work
    feed, picker = _opened(bench, work)
    if shard.places:
        assert picker is not None
        batches: Iterator[Batch] = map(picker, shard.places)
    else:
        batches = feed.section(work.batches, shard.first, shard.count, picker)
    found = []
    bench.runner.integer.clear()
    for ran in run_batches(bench.pieces, batches, work.wanted, shard.first):
        found.append(replace(ran, integer=dict(bench.runner.integer)))
        bench.runner.integer.clear()
    return found


def _opened(bench: _Bench, work: Work) -> tuple[Feed, Picker | None]:
    """The data of a pass, open in this thread."""
    key = Part.of(work.recipe).digest, work.batches
    if key not in bench.feeds:
        with _lock:
            cache = _caches.setdefault(work.cache, Cache(work.cache))
        try:
            feed = work.recipe.open(cache)
        except RistrettoError as error:
            raise _elsewhere(error) from error
        bench.feeds[key] = feed, feed.picker(work.batches)
    bench.feeds.move_to_end(key)
    while len(bench.feeds) > FEEDS_HELD:
        bench.feeds.popitem(last=False)
    return bench.feeds[key]


def _elsewhere(error: RistrettoError) -> RistrettoError:
    """What a worker cannot open although the job could: a matter of machines."""
    what = f"the worker on {socket.gethostname()} (process {os.getpid()}) cannot open the data: {error.what}"
    cure = "workers read the data themselves: mount it on every machine under the path that it has here"
    return DataError(what, cure=cure, file=error.file, line=error.line, layer=error.layer)


def bytes_kept(net: NetSpec, feed: Feed, values: tuple[str, ...], batches: int | None) -> float:
    """How large some values of all batches of a pass are together."""
    shapes = infer_shapes(net, feed.shapes).values
    each = sum(4 * math.prod(shapes[value]) for value in values)
    count = feed.batches_of(batches)
    return math.inf if count is None else each * count

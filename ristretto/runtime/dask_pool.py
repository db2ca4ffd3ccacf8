"""Workers of a Dask cluster: the one place that touches dask.distributed."""

from __future__ import annotations

import logging
import pickle
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from ristretto.errors import UsageError, WorkerError
from ristretto.runtime.local_worker import HELD_PARTS
from ristretto.runtime.work import Outcome, Part, Task, attempt, results

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""

PATIENCE_S = 60.0
"""How long a cluster may be without any worker before the job gives up."""

UNKNOWN_WORKERS = 16
"""Taken for the number of threads of a cluster that starts its workers when there is work."""


class DaskPool:
    """The workers of an existing cluster. It outlives the pool, which takes back all that it gave it."""

    threads = 1

    def __init__(
        self,
        address: str,
        facts: Callable[[], Mapping[str, str]],
        forget: Callable[[], None],
        patience: float = PATIENCE_S,
    ) -> None:
        """Connect.

        Args:
            address: of the scheduler, such as tcp://host:8786.
            facts: tells a worker's versions; they have to be those of this process.
            forget: lets go of what a worker process has kept.
            patience: how long to wait for a worker, in seconds.

        Raises:
            UsageError: the package is not installed.
            WorkerError: nobody answers, or a worker has other versions.
        """
        try:
            import distributed
        except ImportError as error:
            cure = "pip install 'ristretto-fixed-point[dask]', or use --workers"
            raise UsageError("--scheduler needs the package distributed", cure=cure) from error
        self._address, self._patience, self._forget = address, patience, forget
        self._facts = facts, dict(facts())
        self._parts: OrderedDict[str, Any] = OrderedDict()
        # A scheduler that goes away is told as an error of ours, in one line.
        self._log = logging.getLogger("distributed.client")
        self._level = self._log.level
        self._log.setLevel(logging.CRITICAL)
        kind: Any = distributed.Client  # it has no types
        self._client = kind.__new__(kind)
        try:
            self._client.__init__(address, timeout=CONNECT_S, set_as_default=False, name="ristretto")
        except (OSError, ValueError, TypeError) as error:
            # Closed here, as Dask would when it is collected: that may be while the next one starts, which never ends.
            with suppress(Exception):
                self._client.close(timeout=1)
            self._log.setLevel(self._level)
            what = f"no Dask scheduler answers at {address}"
            cure = "start one with 'dask scheduler' and give the address that it prints, such as tcp://host:8786"
            raise WorkerError(what, cure=cure) from error
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """See Pool: all threads of all workers."""
        return sum(self._client.nthreads().values()) or UNKNOWN_WORKERS

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """See Pool: the scheduler gives the tasks of a lost worker to others."""
        token, done = uuid4().hex, SimpleQueue[tuple[int, Any]]()
        futures: dict[int, Any] = {}
        try:
            for number, task in enumerate(tasks):
                parts = [self._part(part) for part in task.parts]
                key = f"ristretto-{token}-{number}"
                futures[number] = self._client.submit(_attempt, self._facts, task.call, *parts, key=key, pure=False)
                futures[number].add_done_callback(lambda future, number=number: done.put((number, future)))
            yield from results(self._next_done(done, futures) for _ in tasks)
        finally:
            if futures:
                self._client.cancel(list(futures.values()))

    def _next_done(self, done: SimpleQueue[tuple[int, Any]], futures: dict[int, Any]) -> tuple[int, Outcome]:
        number, future = self._waited(done)
        outcome = self._outcome(future)
        del futures[number]
        return number, outcome

    def close(self) -> None:
        """See Pool."""
        self._parts.clear()
        if self._client.status == "running":
            import distributed

            last: Any = distributed.fire_and_forget  # a worker may be busy with what nobody waits for
            last(self._everywhere(self._forget))
        self._client.close()
        self._log.setLevel(self._level)

    def _check(self) -> None:
        """Refuse workers that cannot compute what this process does; those that come later are asked with each task."""
        answers, deadline = SimpleQueue[Any](), time.monotonic() + CONNECT_S
        asked = self._everywhere(_difference, self._facts)
        for future in asked:
            future.add_done_callback(answers.put)
        for _ in asked:
            try:
                future = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:  # it is busy, with another job perhaps
                break
            if future.status == "error":
                raise _cannot_import("a Dask worker", future.exception())
            if future.status == "finished" and future.result():
                raise _other_versions(future.result())
        self._client.cancel([future for future in asked if not future.done()])

    def _everywhere(self, function: Callable[..., Any], *arguments: object) -> list[Any]:
        """Call a function on every worker."""
        return [
            self._client.submit(function, *arguments, workers=[worker], key=f"ristretto-{uuid4().hex}", pure=False)
            for worker in self._client.nthreads()
        ]

    def _part(self, part: Part) -> Any:
        """The value of a part on the cluster: a task of its own, so that it too is made again if it is lost."""
        if part.digest not in self._parts:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sending large graph")
                key = f"ristretto-part-{part.digest}"
                self._parts[part.digest] = self._client.submit(pickle.loads, part.content, key=key)
        self._parts.move_to_end(part.digest)
        while len(self._parts) > HELD_PARTS:
            self._parts.popitem(last=False)
        return self._parts[part.digest]

    def _waited(self, done: SimpleQueue[tuple[int, Any]]) -> tuple[int, Any]:
        """The next task that is done.

        Raises:
            WorkerError: there is nobody left who would do it.
        """
        seen = time.monotonic()
        while True:
            try:
                return done.get(timeout=min(2.0, self._patience))
            except Empty:
                if self._client.status != "running":
                    raise self._gone() from None
            if self._client.nthreads():
                seen = time.monotonic()
            elif time.monotonic() - seen > self._patience:
                what = f"the Dask scheduler at {self._address} has had no worker for {self._patience:g} s"
                raise WorkerError(what, cure=f"start some with 'dask worker {self._address}'")

    def _gone(self) -> WorkerError:
        what = f"the Dask scheduler at {self._address} is gone, or was started anew"
        return WorkerError(what, cure="run the job again when it is there")

    def _outcome(self, future: Any) -> Outcome:
        """What became of a task; what Dask itself says of one that it gave up, in our words."""
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        try:
            outcome: Outcome = future.result()
        except KilledWorker as error:
            what = f"{error.allowed_failures + 1} Dask workers were lost while they ran the same images"
            raise WorkerError(what, cure="memory may be short: give each worker more, or start fewer") from error
        except CancelledError as error:
            raise self._gone() from error
        except (ImportError, AttributeError) as error:
            raise _cannot_import("a Dask worker", error) from error
        return outcome


_Facts = tuple[Callable[[], Mapping[str, str]], Mapping[str, str]]
"""What tells a process's versions, and those of the job's own."""


def _attempt(facts: _Facts, call: bytes, *values: object) -> Outcome:
    """A task on a worker of the cluster."""
    difference = _difference(facts)
    return Outcome(error=_other_versions(difference)) if difference else attempt(call, values)


def _difference(facts: _Facts) -> str:
    """How the versions of a worker differ from the job's; called there."""
    tell, wanted = facts
    mine = tell()
    return next(
        (f"{package} {mine.get(package)}, here it is {version}" for package, version in wanted.items()
         if mine.get(package) != version),
        "",
    )  # fmt: skip


def _other_versions(difference: str) -> WorkerError:
    cure = "install the same on every worker: scores are to be the same bit by bit"
    return WorkerError(f"a Dask worker has {difference}", cure=cure)


def _cannot_import(who: str, error: BaseException) -> WorkerError:
    what = f"{who} cannot run ristretto: {type(error).__name__}: {error}"
    return WorkerError(what, cure="install the same ristretto in the environment of every worker")

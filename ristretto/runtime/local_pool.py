"""Workers on this machine: processes of our own, each led by a thread that replaces it when it is lost."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any

from ristretto.errors import WorkerError
from ristretto.interpreter import python_command
from ristretto.runtime.local_worker import read_frame, write_frame
from ristretto.runtime.work import Outcome, Task, results

ATTEMPTS = 3
"""How many workers a task may cost before it is given up: what kills three will kill more."""

_WORKER = "from ristretto.runtime.local_worker import main; main()"


class _Process:
    """One worker process."""

    def __init__(self) -> None:
        # A fresh interpreter, and not a copy of this one (threads) or of its main module (a script without a guard
        # would run again). In a session of its own the keys of the terminal reach the parent alone.
        self._popen = subprocess.Popen(
            python_command(_WORKER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self._popen.pid

    def ask(self, task: Task) -> Outcome:
        """Have a task done, sending the parts that the worker lacks.

        Raises:
            OSError, EOFError: the process is gone.
        """
        to, back = self._popen.stdin, self._popen.stdout
        assert to is not None
        assert back is not None
        write_frame(to, pickle.dumps(([part.digest for part in task.parts], task.call)))
        missing = pickle.loads(read_frame(back))
        for part in task.parts:
            if part.digest in missing:
                write_frame(to, part.content)
        outcome: Outcome = pickle.loads(read_frame(back))
        return outcome

    def kill(self) -> None:
        """End it now; it has nothing to tidy up."""
        self._popen.kill()

    def buried(self) -> str:
        """End it and let go of all that it held; says how it had ended."""
        try:
            status = self._popen.wait(timeout=1)  # one that was lost ends by itself
        except subprocess.TimeoutExpired:
            self._popen.kill()
            status = self._popen.wait()
        with suppress(OSError):  # what was still to be written finds nobody
            assert self._popen.stdin is not None
            self._popen.stdin.close()
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        return f"killed by signal {-status}" if status < 0 else f"with exit status {status}"


@dataclass
class _Round:
    """The tasks of one call of ``run``.

    Attributes:
        tasks: all of them.
        waiting: the numbers of those that nobody has begun.
        done: what became of them.
        losses: how many workers each has cost.
    """

    tasks: Sequence[Task]
    waiting: list[int]
    done: SimpleQueue[tuple[int, Outcome]] = field(default_factory=SimpleQueue)
    losses: dict[int, int] = field(default_factory=dict)


class LocalPool:
    """A number of worker processes, started when there is work for them.

    Attributes:
        workers: how many at most.
        threads: threads for each, so that all together use every core.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.threads = max(1, cores() // workers)
        self._changed = Condition()
        self._leaders: list[Thread] = []
        self._processes: dict[int, _Process] = {}
        self._homes: dict[Hashable, int] = {}
        self._round: _Round | None = None
        self._closed = False

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """See Pool. One call at a time."""
        current = _Round(tasks, list(range(len(tasks))))
        with self._changed:
            self._round = current
            while len(self._leaders) < min(self.workers, len(tasks)):
                leader = Thread(target=self._lead, args=(len(self._leaders),), name="worker", daemon=True)
                self._leaders.append(leader)
                leader.start()
            self._changed.notify_all()
        try:
            yield from results(current.done.get() for _ in tasks)
        finally:
            with self._changed:
                current.waiting.clear()

    def close(self) -> None:
        """See Pool: the processes are killed, and gone when this returns."""
        with self._changed:
            self._closed = True
            for process in self._processes.values():
                process.kill()
            self._changed.notify_all()
        for leader in self._leaders:
            leader.join()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that there are now."""
        return tuple(process.pid for process in self._processes.values())

    def _lead(self, me: int) -> None:
        """Hand tasks to a process, one after the other, and replace it when it is lost."""
        while (taken := self._next(me)) is not None:
            current, number = taken
            try:
                outcome = self._process(me).ask(current.tasks[number])
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                self._lost(current, number, self._buried(me) or str(error))
            else:
                current.done.put((number, outcome))
        self._buried(me)

    def _next(self, me: int) -> tuple[_Round, int] | None:
        """The next task for a worker: one that it has done before, then one that nobody has; None when all is over."""
        with self._changed:
            while not self._closed and (self._round is None or not self._round.waiting):
                self._changed.wait()
            if self._closed or self._round is None:
                return None
            current = self._round

            def distance(number: int) -> tuple[int, int]:
                whose = self._homes.get(current.tasks[number].home)
                return (0 if whose == me else 1 if whose is None else 2), number

            number = min(current.waiting, key=distance)
            current.waiting.remove(number)
            self._homes[current.tasks[number].home] = me
            return current, number

    def _process(self, me: int) -> _Process:
        found = self._processes.get(me)
        if found is None:
            found = _Process()
            with self._changed:
                self._processes[me] = found
                if self._closed:
                    found.kill()
        return found

    def _buried(self, me: int) -> str:
        with self._changed:
            process = self._processes.pop(me, None)
        return process.buried() if process is not None else ""

    def _lost(self, current: _Round, number: int, how: str) -> None:
        """A worker was lost with a task: it is for the next one, unless it has cost too many."""
        with self._changed:
            losses = current.losses[number] = current.losses.get(number, 0) + 1
            if losses < ATTEMPTS:
                current.waiting.append(number)
                self._changed.notify_all()
                return
        what = f"{losses} worker processes ended while they ran the same images, the last one {how}"
        cure = "memory may be short: give fewer --workers; what they said stands above"
        current.done.put((number, Outcome(error=WorkerError(what, cure=cure))))


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""Work for other processes: tasks, the constant parts that they share, and what a pool of workers is."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort


@dataclass(frozen=True, slots=True)
class Part:
    """A value that many tasks need and none changes; it is sent to a worker once.

    Attributes:
        digest: names the content.
        content: the value, pickled.
    """

    digest: str
    content: bytes

    @classmethod
    def of(cls, value: object) -> Part:
        """A value as a part."""
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return cls(blake2b(content, digest_size=16).hexdigest(), content)


@dataclass(frozen=True, slots=True)
class Task:
    """A call that any worker can make.

    Attributes:
        call: the pickled function and its first argument; the values of the parts are the others.
        parts: what it needs.
        home: tasks with the same home are best run by the same worker, which has their data.
    """

    call: bytes
    parts: tuple[Part, ...]
    home: Hashable

    @classmethod
    def of(cls, function: Callable[..., Any], argument: object, parts: tuple[Part, ...], home: Hashable) -> Task:
        """A task; the function is one of a module that workers can import too."""
        return cls(pickle.dumps((function, argument), pickle.HIGHEST_PROTOCOL), parts, home)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: its result, or what it raised."""

    result: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """The result.

        Raises:
            Exception: the task's own.
        """
        if self.error is not None:
            raise self.error
        return self.result


def results(outcomes: Iterable[tuple[int, Outcome]]) -> Iterator[tuple[int, Any]]:
    """Results as they come; what a task raised once all before it are done, so that it is what one process would raise.

    Args:
        outcomes: what became of each task, with its number, in any order.

    Raises:
        Exception: that of the first task in their order that has one.
    """
    failed: dict[int, Outcome] = {}
    done: set[int] = set()
    first = 0
    for number, outcome in outcomes:
        done.add(number)
        if outcome.error is None:
            yield number, outcome.result
        else:
            failed[number] = outcome
        while first in done:
            if first in failed:
                failed[first].get()
            first += 1


class Pool(Protocol):
    """Workers.

    Attributes:
        workers: how many tasks run at a time, as far as that is known.
        threads: threads for each, where the user asks for no number.
    """

    @property
    def workers(self) -> int:
        """See Pool."""
        ...

    @property
    def threads(self) -> int:
        """See Pool."""
        ...

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Run tasks, those of a lost worker once more; a caller that stops early closes the iterator.

        Returns:
            the number and the result of each task, as they are done.

        Raises:
            WorkerError: workers were lost again and again, or all of them.
            Exception: that of the first task in their order that has one.
        """
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


def attempt(call: bytes, values: Sequence[object]) -> Outcome:
    """Make a task's call in this process."""
    try:
        function, argument = pickle.loads(call)
        return Outcome(function(argument, *values))
    except Exception as error:
        return Outcome(error=error)


def packed(outcome: Outcome) -> bytes:
    """An outcome for another process; an error that cannot be pickled is told by its text."""
    try:
        content = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
        pickle.loads(content)  # an exception may fail to be made again
    except Exception as why:
        error = outcome.error if outcome.error is not None else why
        content = pickle.dumps(Outcome(error=RuntimeError(f"{type(error).__name__}: {error}")))
    return content


def versions() -> dict[str, str]:
    """The packages of this process on whose version the last bits of a result may depend."""
    return {"onnxruntime": ort.__version__, "numpy": np.__version__}

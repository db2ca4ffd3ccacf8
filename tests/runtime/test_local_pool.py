"""Worker processes of our own: tasks done, workers replaced, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ristretto.errors import DataError, WorkerError
from ristretto.runtime.local_pool import LocalPool
from ristretto.runtime.work import Outcome, Part, Task, packed
from tests.runtime import tasks


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    made = LocalPool(2)
    yield made
    made.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_task_is_done_with_its_parts(pool: LocalPool) -> None:
    part = Part.of(np.arange(100_000.0))
    given = [Task.of(tasks.total, number, (part,), number) for number in range(7)]
    results = dict(pool.run(given))
    assert results == {number: np.arange(100_000.0).sum() * number for number in range(7)}


def test_more_parts_than_a_worker_holds(pool: LocalPool) -> None:
    parts = [Part.of(np.full(10, number)) for number in range(9)]
    given = [Task.of(tasks.total, 1, (part,), 0) for part in (*parts, *parts)]
    assert [pool_result for _, pool_result in sorted(pool.run(given))] == [10.0 * number for number in range(9)] * 2


def test_a_home_keeps_its_worker(pool: LocalPool) -> None:
    given = [Task.of(tasks.process, number, (), ("home", number)) for number in range(4)]
    first, again = dict(pool.run(given)), dict(pool.run(given))
    assert len(set(first.values())) == 2
    assert os.getpid() not in first.values()
    assert sum(first[number] == again[number] for number in range(4)) >= 2


def test_errors_arrive_as_they_were(pool: LocalPool) -> None:
    with pytest.raises(DataError) as caught:
        list(pool.run([Task.of(tasks.fail, 7, (), 0)]))
    assert str(caught.value) == "list.txt:7: layer 'data': item 7 is damaged; replace it"
    assert (caught.value.what, caught.value.line) == ("item 7 is damaged", 7)
    with pytest.raises(RuntimeError, match="pickle"):
        list(pool.run([Task.of(tasks.unspeakable, 1, (), 0)]))


def test_what_a_library_prints_is_no_result(pool: LocalPool) -> None:
    assert list(pool.run([Task.of(tasks.chatter, 5, (), 0)])) == [(0, 5)]


def test_a_killed_worker_is_replaced(pool: LocalPool, tmp_path: Path) -> None:
    given = [Task.of(tasks.process, number, (), number) for number in range(5)]
    given.insert(2, Task.of(tasks.die_once, tmp_path / "mark", (), "die"))
    results = dict(pool.run(given))
    assert sorted(results) == list(range(6))
    assert results[2] == "done"


def test_a_task_that_kills_every_worker(pool: LocalPool) -> None:
    with pytest.raises(WorkerError, match=r"3 worker processes ended .* killed by signal 9; .*fewer --workers"):
        list(pool.run([Task.of(tasks.die, 0, (), 0)]))
    assert list(pool.run([Task.of(tasks.chatter, 5, (), 0)])) == [(0, 5)]


def test_what_nobody_waits_for_is_not_begun(pool: LocalPool, tmp_path: Path) -> None:
    results = pool.run([Task.of(tasks.leave, tmp_path / str(number), (), number) for number in range(200)])
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert list(pool.run([Task.of(tasks.chatter, 5, (), 0)])) == [(0, 5)]
    assert len(list(tmp_path.iterdir())) < 100


def test_nothing_is_left_behind() -> None:
    pool = LocalPool(2)
    results = pool.run([Task.of(tasks.slow, 0.01, (), 0), *(Task.of(tasks.slow, 60, (), n) for n in range(1, 4))])
    next(results)
    pids = pool.pids
    pool.close()
    assert pids
    assert not any(alive(pid) for pid in pids)


PARENT = """
import sys
from ristretto.runtime.local_pool import LocalPool
from ristretto.runtime.work import Task
from tests.runtime import tasks
pool = LocalPool(2)
results = pool.run([Task.of(tasks.slow, 0.01, (), 0), *(Task.of(tasks.slow, 60, (), n) for n in range(1, 4))])
next(results)
print(*pool.pids, flush=True)
next(results)
"""


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed() -> None:
    """And a script without a guard for its main module is not run again in each of them."""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert pids
    for _ in range(200):
        if not any(map(alive, pids)):
            return
        time.sleep(0.05)
    pytest.fail("a worker outlives its parent")


def test_a_strange_error_is_told_by_its_text() -> None:
    import pickle

    class StrangeError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    outcome: Outcome = pickle.loads(packed(Outcome(error=StrangeError(1, 2))))
    assert str(outcome.error) == "StrangeError: 1 and 2"

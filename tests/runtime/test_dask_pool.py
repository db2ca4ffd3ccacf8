"""Workers of a Dask cluster: the same scores, a lost worker's tasks done by another, errors that help."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.errors import DataError, UsageError, WorkerError
from ristretto.runtime.dask_pool import DaskPool
from ristretto.runtime.work import Part, Task
from tests.runtime import tasks

pytest.importorskip("distributed", reason="the extra dask is not installed")


def facts() -> dict[str, str]:
    return {"ristretto": "1"}


def other_facts() -> dict[str, str]:
    return {"ristretto": str(os.getpid())}


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50) as made:
        yield made


@pytest.fixture(scope="module")
def pool(cluster: Any) -> Iterator[DaskPool]:
    made = DaskPool(cluster.scheduler_address, facts, nothing)
    yield made
    made.close()


def test_every_task_is_done_with_its_parts(pool: DaskPool) -> None:
    parts = [Part.of(np.full(1000, number)) for number in range(7)]
    results = dict(pool.run([Task.of(tasks.total, 2, (part,), 0) for part in parts]))
    assert results == {number: 2000.0 * number for number in range(7)}
    assert pool.workers == 2


def test_errors_arrive_as_they_were(pool: DaskPool) -> None:
    with pytest.raises(DataError, match=r"list.txt:7: layer 'data': item 7 is damaged; replace it"):
        list(pool.run([Task.of(tasks.fail, 7, (), 0)]))


def test_a_killed_worker_is_made_good_for(pool: DaskPool, tmp_path: Path) -> None:
    part = Part.of(np.ones(10))
    given = [Task.of(tasks.total, number, (part,), number) for number in range(20)]
    given.insert(3, Task.of(tasks.die_once, tmp_path / "mark", (), 0))
    results = dict(pool.run(given))
    assert results.pop(3) == "done"
    assert sorted(results.values()) == [10.0 * number for number in range(20)]


@pytest.mark.slow
def test_a_task_that_kills_every_worker(pool: DaskPool) -> None:
    with pytest.raises(WorkerError, match=r"4 Dask workers were lost .* memory may be short"):
        list(pool.run([Task.of(tasks.die, 0, (), 0)]))


def test_other_versions_are_refused(cluster: Any, pool: DaskPool, monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"a Dask worker has ristretto \d+, here it is \d+; install the same"
    pool._client.wait_for_workers(2)
    with pytest.raises(WorkerError, match=message):
        DaskPool(cluster.scheduler_address, other_facts, nothing)
    monkeypatch.setattr(DaskPool, "_check", lambda self: None)  # the worker came later
    late = DaskPool(cluster.scheduler_address, other_facts, nothing)
    with pytest.raises(WorkerError, match=message):
        list(late.run([Task.of(tasks.chatter, 5, (), 0)]))
    late.close()


@pytest.mark.parametrize("spelled", ["127.0.0.1:{}", "tcp://127.0.0.1:{}", "nonsense://x:1", "tcp://127.0.0.1"])
def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, spelled: str) -> None:
    monkeypatch.setattr("ristretto.runtime.dask_pool.CONNECT_S", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = spelled.format(taken.getsockname()[1])
        with pytest.raises(WorkerError, match=rf"no Dask scheduler answers at {address}; start one with"):
            DaskPool(address, facts, nothing)


def test_a_cluster_without_workers() -> None:
    from distributed import Scheduler, SpecCluster

    alone = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    with SpecCluster(workers={}, scheduler=alone, silence_logs=50) as empty:
        pool = DaskPool(empty.scheduler_address, facts, nothing, patience=0.5)
        try:
            with pytest.raises(WorkerError, match=r"has had no worker for 0.5 s; start some with 'dask worker tcp://"):
                list(pool.run([Task.of(tasks.chatter, 5, (), 0)]))
        finally:
            pool.close()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"needs the package distributed; pip install 'ristretto-fixed-point\[dask\]'"):
        DaskPool("tcp://127.0.0.1:1", facts, nothing)


def test_a_part_is_named_by_its_content() -> None:
    one, other = Part.of(np.arange(3)), Part.of(np.arange(3))
    assert one.digest == other.digest != Part.of(np.arange(4)).digest
    assert np.array_equal(pickle.loads(one.content), np.arange(3))

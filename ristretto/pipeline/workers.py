"""Who runs the batches of a pass: this process, more processes on this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import distributions

from ristretto.errors import UsageError
from ristretto.pipeline.shards import forget
from ristretto.runtime import work
from ristretto.runtime.dask_pool import DaskPool
from ristretto.runtime.local_pool import LocalPool, cores
from ristretto.runtime.work import Pool
from ristretto.version import VERSION

_current: ContextVar[Pool | None] = ContextVar("workers", default=None)


def current_pool() -> Pool | None:
    """The workers of the job at hand; None where it runs all by itself."""
    return _current.get()


def check_workers(workers: int, scheduler: str, gpu: str) -> None:
    """Refuse what does not go together.

    Raises:
        UsageError: two places to run at.
    """
    if scheduler and workers != 1:
        raise UsageError("--workers and --scheduler exclude each other", cure="a cluster knows its own workers")
    if gpu and (scheduler or workers != 1):
        name = "scheduler" if scheduler else "workers"
        raise UsageError(f"--gpu and --{name} exclude each other: workers run on CPUs", cure="give one of the two")


@contextmanager
def on_workers(workers: int, scheduler: str, gpu: str = "") -> Iterator[None]:
    """Let the passes inside run on workers, which are gone afterwards.

    Args:
        workers: processes on this machine; 1 runs everything in this one, 0 takes one for every core.
        scheduler: the address of a Dask scheduler, or "".
        gpu: what --gpu was given.

    Raises:
        UsageError: see ``check_workers``; or an optional package is not installed.
        WorkerError: the cluster cannot be used.
    """
    check_workers(workers, scheduler, gpu)
    count = workers or cores()
    if not scheduler and count == 1:
        yield
        return
    pool: Pool = DaskPool(scheduler, versions, forget) if scheduler else LocalPool(count)
    token = _current.set(pool)
    try:
        yield
    finally:
        _current.reset(token)
        pool.close()


def versions() -> dict[str, str]:
    """What decides, beside the processor, on the last bits of a score."""
    return {"ristretto": VERSION, **work.versions(), "OpenCV": _opencv()}


def _opencv() -> str:
    """The version of OpenCV, in whichever package it came."""
    owners = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
    return next((found.version for name in owners for found in distributions(name=name)), "unknown")

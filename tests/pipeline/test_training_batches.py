"""The batches of a training: one after the other, however many an iteration has."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ristretto.pipeline.finetune.opened import Opened
from tests.finetune.needed import needs_torch


class _Feed:
    """Counts how many batches were made."""

    def __init__(self) -> None:
        self.made = 0

    def picker(self, total: int) -> None:
        """No source reads in another order."""

    def section(self, _total: int, first: int, count: int, _picker: None) -> Any:
        for number in range(first, first + count):
            self.made += 1
            yield {"x": np.full(1, number, np.float32)}


def opened(feed: Any, iter_size: int, max_iter: int, iteration: int = 0) -> Opened:
    """A training of nothing but its data."""
    solver: Any = SimpleNamespace(rule=SimpleNamespace(iter_size=iter_size), max_iter=max_iter)
    nothing: Any = None
    trainer: Any = SimpleNamespace(iteration=iteration)
    return Opened(solver, 0, nothing, feed, (), trainer, (), (), ())


@needs_torch
def test_an_iteration_holds_no_batches() -> None:
    feed = _Feed()
    batches = opened(feed, 2**31 - 1, 2**31 - 1).batches()
    assert [batch["x"][0] for batch in islice(next(batches), 5)] == [0, 1, 2, 3, 4]
    batches.close()
    assert feed.made < 10


@needs_torch
@pytest.mark.parametrize("iteration", [0, 2])
def test_every_iteration_has_its_own(iteration: int) -> None:
    found = [[int(batch["x"][0]) for batch in group] for group in opened(_Feed(), 3, 4, iteration).batches()]
    assert found == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]][iteration:]

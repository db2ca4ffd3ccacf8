"""What becomes of tasks, in whatever order they are done."""

from __future__ import annotations

from itertools import permutations

import pytest

from ristretto.runtime.work import Outcome, results


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_first_error_in_the_order_of_tasks_is_raised(order: tuple[int, ...]) -> None:
    outcomes = [Outcome("a"), Outcome(error=KeyError("second")), Outcome("c"), Outcome(error=ValueError("fourth"))]
    with pytest.raises(KeyError, match="second"):
        list(results((number, outcomes[number]) for number in order))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_results_come_as_they_are_done(order: tuple[int, ...]) -> None:
    assert list(results((number, Outcome(10 * number)) for number in order)) == [(n, 10 * n) for n in order]

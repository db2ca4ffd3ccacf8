"""The ladder with a dict for a net."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.decide.search import LADDER, Ladder, Trial, descend, holds, widened, widest_loss


def walk(scores: dict[int, float], margin: float, **options: int) -> Ladder:
    return descend(scores.__getitem__, baseline=0.9, margin=margin, **options)


def test_stops_after_the_first_miss_and_keeps_it() -> None:
    ladder = walk({16: 0.9, 8: 0.89, 4: 0.7, 2: 0.9, 1: 0.9}, 0.02)
    assert ladder == Ladder((Trial(16, 0.9), Trial(8, 0.89), Trial(4, 0.7)), 8)


def test_falls_back_if_none_holds() -> None:
    assert walk({16: 0.1}, 0.02) == Ladder((Trial(16, 0.1),), 32)


def test_goes_to_the_end_if_all_hold() -> None:
    ladder = walk(dict.fromkeys(LADDER, 0.95), 0.0)
    assert ladder.chosen == 1
    assert [trial.bw for trial in ladder.trials] == [16, 8, 4, 2, 1]


def test_a_drop_of_exactly_the_margin_holds() -> None:
    """Here 0.8 - 0.5 is a little more than 0.3 in binary, as it may be for means of accuracies."""
    assert 0.1 + 0.7 < 0.8
    assert holds(0.7, 0.8, 0.1)
    assert not holds(0.6899, 0.72, 0.03)


def test_a_score_that_is_no_number_never_holds() -> None:
    assert not holds(math.nan, 0.9, 1.0)
    assert descend(lambda bw: math.nan, baseline=0.9, margin=1.0).chosen == 32


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.floats(0, 0.5))
def test_chosen_is_the_last_of_an_unbroken_run(scores: list[float], margin: float) -> None:
    table = dict(zip(LADDER, scores, strict=True))
    ladder = descend(table.__getitem__, baseline=0.5, margin=margin)
    held = [holds(trial.score, 0.5, margin) for trial in ladder.trials]
    assert all(held[:-1])
    unbroken = [trial.bw for trial, good in zip(ladder.trials, held, strict=True) if good]
    assert ladder.chosen == (unbroken[-1] if unbroken else 32)


def test_one_function_for_any_widths() -> None:
    ladder = descend({6: 0.9, 5: 0.9, 3: 0.1}.__getitem__, baseline=0.9, margin=0.01, widths=(3, 6, 5), fallback=7)
    assert ladder.chosen == 5


def test_an_error_while_scoring_is_not_swallowed() -> None:
    with pytest.raises(KeyError):
        walk({16: 0.9}, 0.02)


def test_the_group_that_lost_most_is_widened_first() -> None:
    conv = Ladder((Trial(16, 0.99), Trial(8, 0.985), Trial(4, 0.97)), 8)
    fc = Ladder((Trial(16, 0.99), Trial(8, 0.98)), 8)
    fixed = Ladder((), 4)
    ladders = {"conv": conv, "fc": fc, "activations": fixed}
    assert widest_loss(ladders) == "fc"
    assert widened(fc).chosen == 16
    ladders = {**ladders, "fc": widened(fc)}
    assert widest_loss(ladders) == "conv"
    assert widened(widened(fc)) == widened(fc)
    assert widest_loss({"conv": widened(conv), "activations": fixed}) is None

"""Intervals and tests against their definitions and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.decide.confidence import Interval, Paired, drop_interval, margin_verdict, mcnemar, share_interval


@given(st.integers(1, 5000), st.data())
def test_wilsons_ends_solve_its_equation(images: int, data: st.DataObject) -> None:
    """At an end p of the interval the share lies z standard errors of p away."""
    right = data.draw(st.integers(0, images))
    interval = share_interval(right, images)
    share, z = right / images, 1.959963984540054
    assert 0 <= interval.low <= share + 1e-12
    assert share - 1e-12 <= interval.high <= 1
    for end in (interval.low, interval.high):
        if 1e-9 < end < 1 - 1e-9:
            assert math.isclose(abs(share - end), z * math.sqrt(end * (1 - end) / images), rel_tol=1e-6, abs_tol=1e-9)


def test_the_interval_of_a_drop_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    images, lost, won = 1000, 0.03, 0.018
    held = 0
    for _ in range(2000):
        counts = rng.multinomial(images, [lost, won, 1 - lost - won])
        interval = drop_interval(Paired(images, int(counts[0]), int(counts[1])))
        held += interval.low <= lost - won <= interval.high
    assert 0.935 < held / 2000 < 0.97


def test_a_drop_is_told_more_exactly_than_two_scores() -> None:
    paired = Paired(1000, lost=12, won=4)
    interval = drop_interval(paired)
    assert paired.drop == 0.008
    assert interval.high - interval.low < 0.02
    both = share_interval(648, 1000)
    assert both.high - both.low > 0.05


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_counts_the_tails(lost: int, won: int) -> None:
    p = mcnemar(Paired(1000, lost, won))
    changed = lost + won
    extreme = sum(
        math.comb(changed, count) for count in range(changed + 1) if abs(2 * count - changed) >= abs(lost - won)
    )
    assert p == pytest.approx(min(1.0, extreme / 2**changed))
    assert mcnemar(Paired(1000, won, lost)) == p


@pytest.mark.parametrize(
    ("lost", "won", "verdict"), [(0, 0, "held"), (10, 9, "held"), (30, 10, "undecided"), (80, 10, "missed")]
)
def test_verdicts_on_a_margin_of_two_points(lost: int, won: int, verdict: str) -> None:
    assert margin_verdict(Paired(1000, lost, won), 0.02) == verdict


def test_few_images_decide_nothing() -> None:
    assert margin_verdict(Paired(10, 0, 0), 0.01) == "undecided"
    assert drop_interval(Paired(10, 10, 0)) == Interval(pytest.approx(0.53, abs=0.02), 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        share_interval(1, 2, confidence)

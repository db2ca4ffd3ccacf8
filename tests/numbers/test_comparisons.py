"""No comparison with NaN decides: searches, rules and verdicts take what is not a number for the worst."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ristretto.decide.choose import least_error
from ristretto.decide.confidence import no_better_than
from ristretto.decide.mixed import extended, narrowing_path
from ristretto.pipeline.sound import all_finite
from ristretto.pipeline.verdicts import Verdicts

harms = st.dictionaries(st.integers(2, 8), st.floats(0, 1e6) | st.just(math.nan), min_size=1)


def test_errors_that_are_not_numbers_are_never_the_least() -> None:
    assert least_error({4: math.nan, 3: 2.0, 2: 1.0}) == 2
    assert least_error({4: 1.0, 3: math.nan}) == 4
    assert least_error({4: math.nan, 3: math.nan}) == 4


@given(harms)
def test_harm_that_is_not_a_number_is_infinite(found: dict[int, float]) -> None:
    whole = extended(found, range(2, 9))
    assert not any(map(math.isnan, whole.values()))
    assert all(math.isinf(whole[bw]) for bw, harm in found.items() if math.isnan(harm))
    assert all(whole[bw] >= whole[bw + 1] for bw in range(2, 8))


def test_a_site_that_breaks_the_net_is_narrowed_last() -> None:
    broken = extended({8: 0.0, 7: math.nan}, (7, 8))
    sound = extended({8: 0.0, 7: 5.0}, (7, 8))
    path = narrowing_path({("a", "params"): broken, ("b", "params"): sound}, lambda widths: sum(widths.values()))
    assert [dict(point.widths) for point in path[1:]] == [
        {("a", "params"): 8, ("b", "params"): 7},
        {("a", "params"): 7, ("b", "params"): 7},
    ]
    assert not math.isnan(path[-1].harm)


def test_an_image_with_nan_is_not_right() -> None:
    verdicts = Verdicts("s", "l", 1)
    scores = np.float32([[1, 0, 0], [math.nan, 0, 0], [0, math.nan, 5]])
    verdicts.add({"s": scores, "l": np.float32([0, 0, 2])})
    assert verdicts.right().tolist() == [True, False, False]
    assert verdicts.broken() == 2
    answers = verdicts.answers()
    assert answers is not None
    assert (answers.images, answers.right, answers.broken, answers.labels) == (3, 1, 2, 2)


def test_guessing() -> None:
    assert no_better_than(0.1, 100, 1000)
    assert not no_better_than(0.1, 150, 1000)
    assert no_better_than(0.1, 0, 1000)
    assert not no_better_than(0.001, 5, 100)


def test_large_weights_are_finite() -> None:
    assert all_finite(np.full(10, 3e38, np.float32))
    assert not all_finite(np.float32([1, math.inf]))
    assert not all_finite(np.float32([math.inf, -math.inf]))
    assert all_finite(np.empty(0, np.float32))

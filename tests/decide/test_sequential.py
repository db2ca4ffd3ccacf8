"""The sequential test: its certainties against all ways to go on, its error and its gain in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ristretto.decide.sequential import Sequential

Differences = NDArray[np.int8]

RUNS = 4000


def population(images: int, lost: int, won: int) -> Differences:
    """That many images lost, won and unchanged."""
    return np.repeat(np.array([1, -1, 0], np.int8), [lost, won, images - lost - won])


def images_until_dropped(test: Sequential, differences: Differences, batch: int) -> int | None:
    """How many images are seen before the candidate is said to be below; None if it never is."""
    for start in range(0, len(differences), batch):
        if test.look(differences[start : start + batch]) == "below":
            return test.seen
    return None


@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize(
    ("lost", "won"),
    [(8, 0), (14, 6), (60, 52), (200, 192)],
    ids=["nothing won", "little changes", "much changes", "nearly all changes"],
)
def test_a_candidate_that_just_holds_is_dropped_as_rarely_as_stated(lost: int, won: int, batch: int) -> None:
    """Exactly at the margin, where an error is likeliest, and with a look after each batch."""
    rng = np.random.default_rng(lost + batch)
    runs = RUNS if batch > 1 else RUNS // 20
    just = population(400, lost, won)
    error = 0.05
    dropped = sum(
        images_until_dropped(Sequential(400, 0.02, error), rng.permutation(just), batch) is not None
        for _ in range(runs)
    )
    assert dropped / runs <= error + 2 * np.sqrt(error * (1 - error) / runs)


def test_the_error_is_really_used() -> None:
    """A test that never errs would be too timid: the bound is within a factor of what happens."""
    rng = np.random.default_rng(3)
    just = population(4000, 680, 600)
    dropped = sum(
        images_until_dropped(Sequential(4000, 0.02, 0.2), rng.permutation(just), 100) is not None for _ in range(1000)
    )
    assert 0.02 < dropped / 1000 <= 0.2


@pytest.mark.parametrize(
    ("images", "drop", "greatest_share"),
    [(600, 0.07, 0.70), (1000, 0.07, 0.50), (5000, 0.07, 0.15), (5000, 0.32, 0.03), (50_000, 0.07, 0.02)],
)
def test_a_candidate_far_below_is_dropped_early(images: int, drop: float, greatest_share: float) -> None:
    """The margin is 2 points, so a drop of 7 is 5 points too many; three images of a hundred are won."""
    rng = np.random.default_rng(images)
    won = int(0.03 * images)
    far = population(images, won + int(drop * images), won)
    seen = [images_until_dropped(Sequential(images, 0.02), rng.permutation(far), 50) for _ in range(60)]
    assert np.median([images if each is None else each for each in seen]) <= greatest_share * images


def test_images_in_the_sources_order_end_a_pass_only_for_certain() -> None:
    """All images that are lost come first: in random order that would be proof."""
    sorted_source = population(1000, 20, 0)
    assert images_until_dropped(Sequential(1000, 0.02, shuffled=False), sorted_source, 10) is None
    assert images_until_dropped(Sequential(1000, 0.02), sorted_source, 10) == 20
    worse = population(1000, 100, 0)
    assert images_until_dropped(Sequential(1000, 0.02, shuffled=False), worse, 10) == 930
    assert images_until_dropped(Sequential(1000, 0.02, shuffled=False), worse[::-1], 10) == 970


@given(
    st.lists(st.integers(-1, 1), min_size=1, max_size=60), st.integers(1, 7), st.floats(0, 0.5), st.booleans()
)  # fmt: skip
def test_certainties_are_certain(values: list[int], batch: int, margin: float, shuffled: bool) -> None:
    differences = np.array(values, np.int8)
    images = len(values)
    test = Sequential(images, margin, 1e-9, shuffled=shuffled)
    held = sum(values) <= margin * images + 1e-3
    for start in range(0, images, batch):
        answer = test.look(differences[start : start + batch])
        if answer != "go on":
            assert answer == ("holds" if held else "below")
        left = images - test.seen
        sure = test.lost - left > test.allowed or test.lost + left <= test.allowed
        assert sure == (answer != "go on"), "with an error of one in 10**9 nothing else decides"
    assert answer != "go on"


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=80), st.data())
def test_what_is_said_below_was_seen_below(values: list[int], data: st.DataObject) -> None:
    """An estimate from the images seen never contradicts the answer."""
    margin = data.draw(st.floats(0, 0.3))
    test = Sequential(len(values), margin, 0.5)
    for value in values:
        if test.look(np.array([value])) == "below":
            assert test.drop > margin
            return


def test_how_images_are_put_into_batches_changes_nothing_but_the_looks() -> None:
    rng = np.random.default_rng(1)
    differences = rng.permutation(population(300, 60, 10))
    one, many = Sequential(300, 0.02), Sequential(300, 0.02)
    many.look(differences[:0])
    for value in differences[:90]:
        last = many.look(np.array([value]))
    assert one.look(differences[:90]) == last
    assert one._log_capital() == pytest.approx(many._log_capital())


@pytest.mark.parametrize("error", [0.0, 1.0, -1.0])
def test_an_error_is_a_probability(error: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Sequential(10, 0.02, error)


def test_no_more_images_than_there_are() -> None:
    with pytest.raises(ValueError, match="there are 3 images, not 4"):
        Sequential(3, 0.02).look(np.zeros(4, np.int8))

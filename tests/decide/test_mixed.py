"""The path from wide to narrow and the search along it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.decide.mixed import Point, Site, extended, narrowing_path, search_path, within_budget

SIZES = {("a", "params"): 100, ("b", "params"): 900, ("b", "activations"): 0}
HARMS: dict[Site, dict[int, float]] = {
    ("a", "params"): {2: 5.0, 4: 1.0, 8: 0.1},
    ("b", "params"): {2: 90.0, 4: 1.0, 8: 0.1},
    ("b", "activations"): {4: 0.5, 8: 0.0},
}


def bits(widths: dict[Site, int]) -> float:
    return sum(SIZES[site] * bw for site, bw in widths.items())


def test_each_step_saves_most_for_the_harm_it_does() -> None:
    path = narrowing_path(HARMS, bits)  # type: ignore[arg-type]
    steps = [tuple(point.widths.values()) for point in path]
    # b is large, so its first step is cheap; its last one would wreck the net. What costs nothing keeps its bits.
    assert steps == [(8, 8, 8), (8, 4, 8), (4, 4, 8), (2, 4, 8), (2, 2, 8)]
    assert [point.cost for point in path] == sorted((point.cost for point in path), reverse=True)
    assert path[1].harm == pytest.approx(1.1)


def test_harms_are_carried_on_to_wider_widths() -> None:
    assert extended({2: 64.0, 4: 8.0}, [2, 4, 5, 8]) == {8: 8 / 256, 5: 2.0, 4: 8.0, 2: 64.0}
    assert extended({2: 1.0, 3: 2.0}, [2, 3]) == {3: 2.0, 2: 2.0}


@given(st.integers(1, 60), st.integers(-1, 60))
def test_the_narrowest_point_that_holds_is_found(length: int, last: int) -> None:
    path = [Point({}, -index, float(index)) for index in range(length)]
    asked = []

    def evaluate(point: Point) -> float:
        asked.append(point)
        return 0.9 if point.harm <= last else 0.5

    found = search_path(path, evaluate, baseline=0.9, margin=0.01)
    if last < 0:
        assert found.chosen is None
    else:
        assert found.chosen is not None
        assert found.chosen.index == min(last, length - 1)
        assert found.chosen.held
    assert len(asked) <= 2 + length.bit_length()
    assert [item.index for item in found.scored] == sorted(item.index for item in found.scored)


def test_a_budget() -> None:
    path = narrowing_path(HARMS, bits)  # type: ignore[arg-type]
    found = within_budget(path, lambda point: 0.7, 4500)
    assert found.chosen is not None
    assert found.chosen.point.cost == 4400
    assert within_budget(path, lambda point: 0.7, 10).chosen is None

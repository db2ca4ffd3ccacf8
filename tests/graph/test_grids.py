"""What is known of values on a grid, against values enumerated."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ristretto.graph.grids import EXACT, Grid, added, exact_sums, grid_of, integer_weights, joined, sums_on_grid
from ristretto.numerics.formats import DynamicFixedPoint


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    low = draw(st.integers(-20, 20))
    return Grid(draw(st.integers(-3, 6)), low, draw(st.integers(low, 25)))


def values(grid: Grid) -> set[float]:
    return {code * 2.0**-grid.fl for code in range(grid.low, grid.high + 1)}


formats = st.builds(DynamicFixedPoint, st.integers(1, 6), st.integers(-3, 6), st.booleans())


@given(grids(), formats)
def test_a_value_fits_a_format_if_rounding_leaves_it(grid: Grid, fmt: DynamicFixedPoint) -> None:
    left = all(float(fmt.quantize(np.float32(value))) == value for value in values(grid))
    if grid.fits(fmt):
        assert left
    elif left:
        # A finer grid whose few values lie on the coarser one is not recognized; it is rounded in vain.
        assert grid.fl > fmt.fl


@given(formats)
def test_the_grid_of_a_format_is_its_values(fmt: DynamicFixedPoint) -> None:
    grid = grid_of(fmt)
    assert grid.fits(fmt)
    assert (min(values(grid)), max(values(grid))) == (fmt.min, fmt.max)
    assert grid.high - grid.low + 1 == 2**fmt.bw


@given(grids(), st.floats(-30, 30), st.floats(-30, 30) | st.just(float("inf")))
def test_clipping(grid: Grid, low: float, high: float) -> None:
    clipped = grid.clipped(low, high)
    made = {min(max(value, low), high) for value in values(grid)}
    if clipped is not None:
        assert made <= values(clipped)
        assert {min(made), max(made)} == {min(values(clipped)), max(values(clipped))}
    else:
        assert low > high or not made <= values(grid)


@given(grids(), grids())
def test_sums_and_unions(first: Grid, second: Grid) -> None:
    total = added(first, second)
    assert total is not None
    assert {a + b for a, b in product(values(first), values(second))} <= values(total)
    together = joined([first, second])
    assert (together is None) == (first.fl != second.fl)
    if together is not None:
        assert values(first) | values(second) <= values(together)


def test_sums_that_float32_may_round_are_not_known() -> None:
    assert added(Grid(0, 0, EXACT // 2), Grid(0, 0, EXACT // 2)) is None
    assert added(Grid(0, 0, 1), Grid(25, 0, 1)) is None


@given(
    st.lists(st.lists(st.integers(-128, 127), min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.integers(-10, 20), min_size=4, max_size=4),
)
def test_weights_of_eight_bits_are_recognized(codes: list[list[int]], fls: list[int]) -> None:
    rows = np.array(codes, np.float64)
    weights = np.ldexp(rows, -np.array(fls[: len(rows)])[:, None]).astype(np.float32)
    found = integer_weights(weights)
    assert found is not None
    made, lengths = found
    np.testing.assert_array_equal(np.ldexp(made.astype(np.float64), -lengths[:, None]), weights)


def test_weights_of_more_bits_are_not() -> None:
    assert integer_weights(np.array([[129 / 256, 0.0]], np.float32)) is None
    assert integer_weights(np.array([[0.1]], np.float32)) is None
    assert integer_weights(np.array([[np.nan]], np.float32)) is None
    # 128 of the least step needs a longer one, which -128 does not.
    assert integer_weights(np.array([[128.0, 1.0]], np.float32)) is None
    assert integer_weights(np.array([[-128.0, 1.0]], np.float32)) is not None


@given(st.integers(1, 40), st.integers(0, 8), st.booleans(), st.integers(0, 2**32 - 1))
def test_sums_lie_on_their_grid(count: int, fl: int, signed: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fmt = DynamicFixedPoint(8, 3, signed)
    inputs = grid_of(fmt)
    weights = np.ldexp(rng.integers(-128, 128, (3, count)).astype(np.float32), -fl)
    weights[:, 0] = 2.0**-fl  # so that the shortest length is fl
    bias = np.ldexp(rng.integers(-1000, 1000, 3).astype(np.float32), -(fl + 3))
    sums = exact_sums(inputs, weights, bias)
    assert sums is not None
    worst = np.where(weights > 0, fmt.max, fmt.min)
    for x in (worst, -worst - (0 if not signed else fmt.step)):
        x = np.clip(x, fmt.min, fmt.max)
        exact = (weights.astype(np.float64) * x).sum(axis=1) + bias
        codes = exact * 2.0**sums.grid.fl
        np.testing.assert_array_equal(codes, np.round(codes))
        assert codes.min() >= sums.grid.low
        assert codes.max() <= sums.grid.high


def test_a_bias_finer_than_the_products_makes_the_weights_longer() -> None:
    inputs = grid_of(DynamicFixedPoint(8, 3, signed=False))
    sums = exact_sums(inputs, np.array([[2.0, -4.0]], np.float32), np.array([1 / 32], np.float32))
    assert sums is not None
    assert (sums.codes.tolist(), sums.fls.tolist(), sums.grid.fl) == ([[8, -16]], [2], 5)
    assert sums.bias is not None
    assert sums.bias.tolist() == [1]
    assert exact_sums(inputs, np.array([[2.0, 127.0]], np.float32), np.array([1 / 32], np.float32)) is None


def test_sums_that_may_not_be_exact_are_refused() -> None:
    inputs = grid_of(DynamicFixedPoint(8, 0, signed=False))
    enough = EXACT // (255 * 127)
    assert exact_sums(inputs, np.full((1, enough), 127.0, np.float32), None) is not None
    assert exact_sums(inputs, np.full((1, enough + 2), 127.0, np.float32), None) is None
    assert exact_sums(inputs, np.full((1, 2), 101.0, np.float32), np.array([0.5], np.float32)) is None


WEIGHTS = st.lists(st.integers(-(2**12), 2**12).map(float) | st.floats(-100, 100, width=32), min_size=1, max_size=40)


@given(WEIGHTS, st.none() | WEIGHTS, st.integers(-4, 12), st.integers(-4, 16), st.integers(0, 12))
def test_sums_are_whole_steps(numbers: list[float], bias: list[float] | None, own: int, fl: int, more: int) -> None:
    weights = np.ldexp(np.array([numbers], np.float32), -more)
    added_to = None if bias is None else np.array(bias, np.float32)
    wanted = [(Fraction(float(weight)), fl - own) for weight in weights[0]]
    wanted += [] if bias is None else [(Fraction(number), fl) for number in bias]
    whole = all((number * Fraction(2) ** shift).denominator == 1 for number, shift in wanted)
    assert sums_on_grid(Grid(own, 0, 4095), weights, added_to, fl) == whole


@given(st.lists(st.integers(-128, 127), min_size=2, max_size=400), st.integers(0, 1000))
def test_float32_keeps_sums_whole_in_any_order(weights: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 2**20, len(weights))
    products = (inputs * 2.0**-9).astype(np.float32) * (np.array(weights) * 2.0**-8).astype(np.float32)
    assert sums_on_grid(Grid(9, 0, 2**20 - 1), np.array([weights], np.float32) * np.float32(2.0**-8), None, 17)
    total = np.cumsum(rng.permutation(products), dtype=np.float32)
    assert np.array_equal(np.rint(total.astype(np.float64) * 2.0**17), total.astype(np.float64) * 2.0**17)


def test_what_is_infinite_is_on_no_grid() -> None:
    assert not sums_on_grid(Grid(0, 0, 1), np.array([[np.inf]], np.float32), None, 4)
    assert not sums_on_grid(Grid(0, 0, 1), np.array([[1.0]], np.float32), np.array([np.nan], np.float32), 4)

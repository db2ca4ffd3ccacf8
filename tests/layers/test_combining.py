"""Layers that join, cut or pick whole blobs, against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.layers.harness import (
    Arrays,
    Case,
    assert_close,
    cases,
    check,
    check_free_batch,
    complaint,
    layer_text,
    run_case,
    shapes_of,
)
from tests.layers.reference import Array


def of_bottoms(function: Callable[..., object]):
    return lambda bottoms, _: function(*bottoms)


def eltwise(fields: str = "") -> str:
    return layer_text("Eltwise", "eltwise_param", fields)


SHAPE = (2, 3, 4)
ELTWISE = (
    Case("sum", eltwise(), of_bottoms(lambda a, b: a + b), (SHAPE,) * 2),
    Case("sum-of-three", eltwise(), of_bottoms(lambda a, b, c: a + b + c), (SHAPE,) * 3),
    Case("difference", eltwise("coeff: 1 coeff: -1"), of_bottoms(lambda a, b: a - b), (SHAPE,) * 2),
    Case("weighted", eltwise("coeff: [-1, 0.5, 1]"), of_bottoms(lambda a, b, c: -a + b / 2 + c), (SHAPE,) * 3),
    Case("product", eltwise("operation: PROD"), of_bottoms(lambda a, b, c: a * b * c), (SHAPE,) * 3),
    Case("maximum", eltwise("operation: MAX"), of_bottoms(lambda *v: np.max(v, axis=0)), (SHAPE,) * 4),
)


@cases(*ELTWISE)
def test_eltwise(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("coeff: 1", [SHAPE, SHAPE], "1 coefficients for 2 bottoms; give one for each bottom"),
        (
            "operation: PROD coeff: [1, 2]",
            [SHAPE, SHAPE],
            "operation PROD has no coefficients; use SUM, or take them away",
        ),
        (
            "",
            [SHAPE, (2, 3, 5)],
            "all bottoms must have one shape, found (2, 3, 4) and (2, 3, 5); check the layers that make them",
        ),
        ("", [SHAPE], "a layer of type 'Eltwise' takes at least 2 bottoms, 1 given; add a bottom"),
    ],
)
def test_eltwise_complains(fields: str, shapes: list[tuple[int, ...]], message: str) -> None:
    assert complaint(eltwise(fields), *shapes) == message


def concat(fields: str = "") -> str:
    return layer_text("Concat", "concat_param", fields)


def joined(axis: int):
    return lambda bottoms, _: np.concatenate(bottoms, axis=axis)


CONCAT = (
    Case("channels", concat(), joined(1), ((2, 3, 4), (2, 1, 4), (2, 2, 4))),
    Case("axis-minus-1", concat("axis: -1"), joined(2), ((2, 3, 4), (2, 3, 1))),
    Case("concat-dim", concat("concat_dim: 2"), joined(2), ((2, 3, 4), (2, 3, 1))),
    Case("one-bottom", concat(), joined(1), ((2, 3, 4),)),
)


@cases(*CONCAT, Case("items", concat("axis: 0"), joined(0), ((2, 3), (1, 3))))
def test_concat(case: Case) -> None:
    check(case)


@cases(*CONCAT)
def test_concat_any_batch(case: Case) -> None:
    check_free_batch(case, 3)


def test_concat_complains() -> None:
    message = "bottoms of shapes (2, 3, 4) and (2, 3, 5) differ along another axis than axis 1"
    assert complaint(concat(), (2, 3, 4), (2, 3, 5)) == message
    message = "axis and concat_dim are both given; take concat_dim away"
    assert complaint(concat("axis: 1 concat_dim: 1"), (2, 3)) == message


def slicing(fields: str = "") -> str:
    return layer_text("Slice", "slice_param", fields)


def cut(axis: int, *points: int):
    return lambda bottoms, _: np.split(bottoms[0], points, axis=axis)


SLICE = (
    Case("even", slicing(), cut(1, 2, 4), ((2, 6, 3),), tops=3),
    Case("points", slicing("slice_point: [1, 5]"), cut(1, 1, 5), ((2, 6, 3),), tops=3),
    Case("axis-minus-1", slicing("axis: -1 slice_point: 1"), cut(2, 1), ((2, 6, 3),), tops=2),
    Case("slice-dim", slicing("slice_dim: 2 slice_point: 1"), cut(2, 1), ((2, 6, 3),), tops=2),
    Case("one-top", slicing(), cut(1), ((2, 6, 3),)),
)


@cases(*SLICE, Case("items", slicing("axis: 0"), cut(0, 1), ((2, 3),), tops=2))
def test_slice(case: Case) -> None:
    check(case)


@cases(*SLICE)
def test_slice_any_batch(case: Case) -> None:
    check_free_batch(case, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "5 along the axis cannot be cut into 2 equal parts; give slice_point, or another number of tops"),
        ("slice_point: [1, 2]", "2 slice points make 3 parts, the layer has 2 tops"),
        ("slice_point: 5", "slice points (5,) do not rise strictly from 0 to 5"),
    ],
)
def test_slice_complains(fields: str, message: str) -> None:
    assert complaint(slicing(fields), (2, 5), tops=2) == message


@cases(Case("split", 'type: "Split"', lambda bottoms, _: [bottoms[0]] * 3, tops=3, tolerance=0.0))
def test_split(case: Case) -> None:
    check(case)


def test_silence_makes_nothing() -> None:
    assert shapes_of('type: "Silence"', (2, 3), (4,), tops=0).outputs == ()
    message = "a layer of type 'Silence' takes no tops, 1 given; take a top away"
    assert complaint('type: "Silence"', (2, 3), tops=1) == message


def filtered(bottoms: Arrays, _: Arrays) -> list[Array]:
    *blobs, selector = bottoms
    return [np.stack([item for item, kept in zip(blob, selector, strict=True) if kept]) for blob in blobs]


@cases(
    Case("one-blob", 'type: "Filter"', filtered, ((4, 3, 2), np.array([1, 0, -2, 0.5]))),
    Case("two-blobs", 'type: "Filter"', filtered, ((4, 3), (4,), np.array([[0], [1], [1], [0]])), tops=2),
)
def test_filter_picks_items(case: Case) -> None:
    """The shape rule can only say how many items there are at most."""
    tops, bottoms, blobs = run_case(case)
    for top, wanted in zip(tops, filtered(bottoms, blobs), strict=True):
        assert_close(top, wanted, 0.0)


@pytest.mark.parametrize(
    ("shapes", "tops", "message"),
    [
        ([(4, 3), (4,)], 2, "1 bottoms before the selector for 2 tops; there must be one top for each of them"),
        ([(4, 3), (4, 2)], 1, "the selector must hold one value per item, its shape is (4, 2)"),
        (
            [(4, 3), (5,)],
            1,
            "a selector of shape (5,) does not go with a bottom of shape (4, 3); both must hold equally many items",
        ),
    ],
)
def test_filter_complains(shapes: list[tuple[int, ...]], tops: int, message: str) -> None:
    assert complaint('type: "Filter"', *shapes, tops=tops) == message


@cases(
    Case(
        "reindex",
        'type: "BatchReindex"',
        of_bottoms(lambda data, numbers: np.stack([data[int(number)] for number in numbers])),
        ((3, 2, 4), np.array([2, 0, 2, 1])),
        tolerance=0.0,
    )
)
def test_batch_reindex(case: Case) -> None:
    check(case)

"""Reduction and ArgMax against loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text
from tests.layers.reference import Array, largest


def reduction(fields: str) -> str:
    return layer_text("Reduction", "reduction_param", fields)


def reduced(axis: int, function: Callable[[Array], float], coeff: float = 1.0):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        x = bottoms[0].astype(np.float64)
        top = np.zeros(x.shape[:axis])
        for place in np.ndindex(top.shape):
            top[place] = coeff * function(x[place])
        return top

    return expected


FREE = (
    Case("sum", reduction("axis: 1"), reduced(1, np.sum)),
    Case("asum", reduction("operation: ASUM axis: 2 coeff: -2"), reduced(2, lambda v: np.abs(v).sum(), -2.0)),
    Case("sumsq", reduction("operation: SUMSQ axis: 1 coeff: 0.5"), reduced(1, lambda v: (v**2).sum(), 0.5)),
    Case("mean", reduction("operation: MEAN axis: -1"), reduced(3, np.mean)),
)


@cases(*FREE, Case("sum-of-all", reduction("coeff: 3"), reduced(0, np.sum, 3.0)))
def test_reduction(case: Case) -> None:
    check(case)


@cases(*FREE)
def test_reduction_any_batch(case: Case) -> None:
    check_free_batch(case, 3)


def argmax(fields: str = "") -> str:
    return layer_text("ArgMax", "argmax_param", fields)


def over_all(top_k: int = 1, *, values: bool = False):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        x = bottoms[0]
        rows = []
        for item in x:
            best = largest(item.reshape(-1), top_k)
            numbers = [float(index) for _, index in best]
            rows.append([numbers, [value for value, _ in best]] if values else [numbers])
        return np.array(rows).reshape(len(x), 2 if values else 1, top_k, *(1,) * (x.ndim - 3))

    return expected


def along(axis: int, top_k: int = 1, *, values: bool = False):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        part = 0 if values else 1
        return np.apply_along_axis(
            lambda line: np.array([pair[part] for pair in largest(line, top_k)], np.float64), axis, bottoms[0]
        )

    return expected


TIES = (np.random.default_rng(0).integers(0, 3, (3, 4, 5)),)


@cases(
    Case("image", argmax(), over_all()),
    Case("image-top-3", argmax("top_k: 3"), over_all(3)),
    Case("image-top-3-values", argmax("top_k: 3 out_max_val: true"), over_all(3, values=True)),
    Case("matrix-values", argmax("out_max_val: true"), over_all(values=True), ((3, 5),)),
    Case("image-ties", argmax("top_k: 4"), over_all(4), TIES),
    Case("image-ties-first", argmax(), over_all(), TIES),
    Case("channels", argmax("axis: 1"), along(1)),
    Case("channels-top-2", argmax("axis: 1 top_k: 2"), along(1, 2)),
    Case("channels-values", argmax("axis: 1 top_k: 2 out_max_val: true"), along(1, 2, values=True)),
    Case("last-axis-ties", argmax("axis: -1 top_k: 3"), along(2, 3), TIES),
    Case("last-axis-ties-first", argmax("axis: -1"), along(2), TIES),
)
def test_argmax(case: Case) -> None:
    check(case)
    check_free_batch(case, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("top_k: 13", "top_k 13 is not between 1 and the 12 values there are"),
        ("axis: 1 top_k: 4", "top_k 4 is not between 1 and the 3 values there are"),
        ("axis: 3", "axis 3 is out of range for a bottom with 3 axes"),
    ],
)
def test_argmax_complains(fields: str, message: str) -> None:
    assert complaint(argmax(fields), (2, 3, 4)) == message

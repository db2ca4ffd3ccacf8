"""InnerProduct and Embed against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text, shapes_of
from tests.layers.reference import Array


def inner(fields: str) -> str:
    return layer_text("InnerProduct", "inner_product_param", fields)


def product(axis: int, *, transpose: bool = False):
    """For every place before the axis the dot products with the rows of the weights."""

    def expected(bottoms: Arrays, blobs: Arrays) -> Array:
        x = bottoms[0].astype(np.float64)
        rows = blobs[0].T if transpose else blobs[0]
        top = np.zeros((*x.shape[:axis], len(rows)))
        for place in np.ndindex(x.shape[:axis]):
            for number, row in enumerate(rows):
                top[(*place, number)] = np.dot(x[place].reshape(-1), row)
        return top + blobs[1] if len(blobs) > 1 else top

    return expected


CASES = (
    Case("matrix", inner("num_output: 4"), product(1), ((3, 5),)),
    Case("images", inner("num_output: 4"), product(1), ((3, 2, 4, 5),)),
    Case("no-bias", inner("num_output: 4 bias_term: false"), product(1), ((3, 5),)),
    Case("transpose", inner("num_output: 4 transpose: true"), product(1, transpose=True), ((3, 2, 5),)),
    Case("axis-2", inner("num_output: 4 axis: 2"), product(2), ((3, 2, 4, 5),)),
    Case("axis-2-of-3", inner("num_output: 4 axis: 2"), product(2), ((3, 2, 5),)),
    Case("axis-minus-1", inner("num_output: 1 axis: -1"), product(3), ((3, 2, 4, 5),)),
)


@cases(*CASES, Case("axis-0", inner("num_output: 4 axis: 0"), product(0), ((3, 5),)))
def test_values(case: Case) -> None:
    check(case)


@cases(*CASES)
def test_any_batch(case: Case) -> None:
    check_free_batch(case, 5)


def test_weights_and_macs() -> None:
    shapes = shapes_of(inner("num_output: 4 axis: 2"), (3, 2, 4, 5))
    assert shapes.blobs == ((4, 20), (4,))
    assert shapes.macs == 3 * 2 * 4 * 20
    assert shapes_of(inner("num_output: 4 transpose: true"), (3, 5)).blobs == ((5, 4), (4,))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "num_output must be at least 1; add num_output"),
        ("num_output: 4 axis: 2", "axis 2 is out of range for a bottom with 2 axes"),
    ],
)
def test_complaints(fields: str, message: str) -> None:
    assert complaint(inner(fields), (3, 5)) == message


def embed(fields: str) -> str:
    return layer_text("Embed", "embed_param", fields)


def looked_up(bottoms: Arrays, blobs: Arrays) -> Array:
    rows = blobs[0][bottoms[0].astype(int)]
    return rows + blobs[1] if len(blobs) > 1 else rows


NUMBERS = np.array([[0, 3, 1], [2, 2, 0]])


@cases(
    Case("with-bias", embed("num_output: 3 input_dim: 4"), looked_up, (NUMBERS,)),
    Case("no-bias", embed("num_output: 3 input_dim: 4 bias_term: false"), looked_up, (NUMBERS,)),
    Case("one-output", embed("num_output: 1 input_dim: 4"), looked_up, (NUMBERS[0],)),
)
def test_embed(case: Case) -> None:
    check(case)
    check_free_batch(case, 4)


def test_embed_complains() -> None:
    assert complaint(embed("num_output: 3"), (2,)) == "input_dim must be at least 1; add input_dim"

"""Scale, Bias and Axpy against loops."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text, shapes_of
from tests.layers.reference import Array


def spread(values: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """Values that lie along some axes of a shape, repeated along the others."""
    top = np.zeros(shape)
    for place in np.ndindex(shape):
        top[place] = values[place[axis : axis + values.ndim]]
    return top


def scaled(axis: int, *, bottoms: int = 1):
    def expected(given: Arrays, blobs: Arrays) -> Array:
        factors, *bias = blobs if bottoms == 1 else (given[1], *blobs)
        top = given[0] * spread(factors, axis, given[0].shape)
        return top + spread(bias[0], axis, given[0].shape) if bias else top

    return expected


def summed(axis: int, *, bottoms: int = 1):
    def expected(given: Arrays, blobs: Arrays) -> Array:
        return given[0] + spread(blobs[0] if bottoms == 1 else given[1], axis, given[0].shape)

    return expected


def scale(fields: str = "") -> str:
    return layer_text("Scale", "scale_param", fields)


def bias(fields: str = "") -> str:
    return layer_text("Bias", "bias_param", fields)


SHAPE = (2, 3, 4, 5)
ONE_BOTTOM = (
    Case("scale-channels", scale(), scaled(1), (SHAPE,)),
    Case("scale-bias", scale("bias_term: true"), scaled(1), (SHAPE,)),
    Case("scale-two-axes", scale("axis: 1 num_axes: 2 bias_term: true"), scaled(1), (SHAPE,)),
    Case("scale-to-the-last", scale("axis: 2 num_axes: -1"), scaled(2), (SHAPE,)),
    Case("scale-axis-minus-1", scale("axis: -1 bias_term: true"), scaled(3), (SHAPE,)),
    Case("scale-number", scale("num_axes: 0 bias_term: true"), scaled(1), (SHAPE,)),
    Case("scale-matrix", scale("bias_term: true"), scaled(1), ((4, 3),)),
    Case("bias-channels", bias(), summed(1), (SHAPE,)),
    Case("bias-to-the-last", bias("num_axes: -1"), summed(1), (SHAPE,)),
    Case("bias-number", bias("num_axes: 0"), summed(1), (SHAPE,)),
)
TWO_BOTTOMS = (
    Case("scale-by-channels-of-images", scale("axis: 0"), scaled(0, bottoms=2), (SHAPE, (2, 3))),
    Case("scale-by-like", scale("axis: 0"), scaled(0, bottoms=2), (SHAPE, SHAPE)),
    Case("bias-by-images", bias("axis: 0"), summed(0, bottoms=2), (SHAPE, (2,))),
)


@cases(
    *ONE_BOTTOM,
    *TWO_BOTTOMS,
    Case("scale-by-like-bias", scale("axis: 0 bias_term: true"), scaled(0, bottoms=2), (SHAPE, SHAPE)),
    Case("scale-first-axis", scale("axis: 0 bias_term: true"), scaled(0), (SHAPE,)),
    Case("scale-by-rows", scale("axis: -2"), scaled(2, bottoms=2), (SHAPE, (4, 5))),
    Case("scale-by-channels", scale("axis: 1 bias_term: true"), scaled(1, bottoms=2), (SHAPE, (3,))),
    Case("scale-by-number", scale("axis: 3"), scaled(0, bottoms=2), (SHAPE, np.float32(1.5))),
)
def test_values(case: Case) -> None:
    check(case)


@cases(*ONE_BOTTOM, *TWO_BOTTOMS)
def test_any_batch(case: Case) -> None:
    check_free_batch(case, 4)


def test_blobs() -> None:
    assert shapes_of(scale("axis: 1 num_axes: 2 bias_term: true"), SHAPE).blobs == ((3, 4), (3, 4))
    assert shapes_of(scale("num_axes: 0"), SHAPE).blobs == ((),)
    assert shapes_of(scale("bias_term: true axis: 0"), SHAPE, (2, 3)).blobs == ((2, 3),)
    assert shapes_of(bias("axis: 0"), SHAPE, (2, 3)).blobs == ()


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (
            scale("num_axes: 4"),
            [SHAPE],
            "num_axes 4 from axis 1 on does not fit a bottom of shape (2, 3, 4, 5); use -1 for all axes to the last",
        ),
        (scale("axis: 4"), [SHAPE], "axis 4 is out of range for a bottom with 4 axes"),
        (
            scale(),
            [SHAPE, (2, 3)],
            "a second bottom of shape (2, 3) does not match the axes of (2, 3, 4, 5) from axis 1 on; "
            "set axis to the first axis that they share",
        ),
    ],
)
def test_complaints(layer: str, shapes: list[tuple[int, ...]], message: str) -> None:
    assert complaint(layer, *shapes) == message


def axpy(given: Arrays, _: Arrays) -> Array:
    factors, x, y = given
    return spread(factors.reshape(factors.shape[:2]), 0, x.shape) * x + y


@cases(
    Case("images", 'type: "Axpy"', axpy, ((2, 3, 1, 1), SHAPE, SHAPE)),
    Case("matrix-of-factors", 'type: "Axpy"', axpy, ((2, 3), SHAPE, SHAPE)),
)
def test_axpy(case: Case) -> None:
    check(case)
    check_free_batch(case, 4)


def test_axpy_complains() -> None:
    message = (
        "factors of shape (2, 3, 4, 1) are not one for each image and channel of (2, 3, 4, 5); "
        "they must be (2, 3) or end in ones"
    )
    assert complaint('type: "Axpy"', (2, 3, 4, 1), SHAPE, SHAPE) == message
    message = "the bottoms to add must have one shape, found (2, 3, 4, 5) and (2, 3, 4, 4)"
    assert complaint('type: "Axpy"', (2, 3), SHAPE, (2, 3, 4, 4)) == message

"""Upsample and Interp against loops."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text
from tests.layers.reference import Array, interpolate


def upsample(fields: str) -> str:
    return layer_text("Upsample", "upsample_param", fields)


def repeated(scale: int):
    return lambda bottoms, _: bottoms[0].repeat(scale, axis=2).repeat(scale, axis=3)


@cases(
    Case("twice", upsample("scale: 2"), repeated(2), tolerance=0.0),
    Case("default", upsample(""), repeated(2), tolerance=0.0),
    Case("three-times", upsample("scale: 3"), repeated(3), tolerance=0.0),
    Case("once", upsample("scale: 1"), repeated(1), tolerance=0.0),
)
def test_upsample(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def interp(fields: str) -> str:
    return layer_text("Interp", "interp_param", fields)


def resized(height: int, width: int, start: int = 0, end: int = 0):
    def expected(bottoms, _):
        x = bottoms[0].astype(np.float64)
        return interpolate(x[:, :, start : x.shape[2] - end, start : x.shape[3] - end], (height, width))

    return expected


@cases(
    Case("larger", interp("height: 13 width: 20"), resized(13, 20)),
    Case("smaller", interp("height: 4 width: 5"), resized(4, 5)),
    Case("to-one", interp("height: 1 width: 1"), resized(1, 1)),
    Case("from-one", interp("height: 4 width: 5"), resized(4, 5), ((2, 3, 1, 1),)),
    Case("same", interp("height: 7 width: 9"), resized(7, 9)),
    Case("zoom", interp("zoom_factor: 3"), resized(19, 25)),
    Case("shrink", interp("shrink_factor: 2"), resized(4, 5)),
    Case("shrink-then-zoom", interp("shrink_factor: 3 zoom_factor: 2"), resized(5, 5)),
    Case("cut", interp("pad_beg: -1 pad_end: -2 zoom_factor: 2"), resized(7, 11, 1, 2)),
    Case("cut-only", interp("pad_beg: -1 height: 6 width: 8"), resized(6, 8, 1)),
)
def test_interp(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (upsample("scale: 0"), "scale must be at least 1, found 0"),
        (
            interp(""),
            "the size of the top is not told; give height and width, or zoom_factor, or shrink_factor",
        ),
        (interp("pad_end: 1"), "an image can be cut, not padded; make pad_end 0 or less"),
        (interp("zoom_factor: 0"), "zoom_factor must be at least 1, found 0"),
        (interp("pad_beg: -7 zoom_factor: 2"), "nothing is left of a bottom of shape (2, 6, 7, 9)"),
    ],
)
def test_complaints(layer: str, message: str) -> None:
    assert complaint(layer, (2, 6, 7, 9)) == message


def unpooled(height: int, width: int):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        values, mask = bottoms
        top = np.zeros((*values.shape[:2], height, width))
        for place in np.ndindex(values.shape):
            top[place[:2]].reshape(-1)[int(mask[place])] = values[place]
        return top

    return expected


def mask(height: int, width: int) -> Array:
    """A place for each of 2x3 values in each of two channels of two images, none twice in a channel."""
    rng = np.random.default_rng(height)
    return np.stack([rng.permutation(height * width)[:6] for _ in range(4)]).reshape(2, 2, 2, 3)


VALUES = (2, 2, 2, 3)


@cases(
    Case("mask", upsample("scale: 2"), unpooled(4, 6), (VALUES, mask(4, 6)), tolerance=0.0),
    Case("mask-odd", upsample("pad_out_h: true pad_out_w: true"), unpooled(3, 5), (VALUES, mask(3, 5)), tolerance=0.0),
    Case("mask-size", upsample("upsample_h: 7 upsample_w: 4"), unpooled(7, 4), (VALUES, mask(7, 4)), tolerance=0.0),
    Case("mask-unequal", upsample("scale_h: 3 scale_w: 1"), unpooled(6, 3), (VALUES, mask(6, 3)), tolerance=0.0),
)
def test_upsample_by_a_mask(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_upsample_by_a_mask_complains() -> None:
    message = "all bottoms must have one shape, found (1, 1, 2, 2) and (1, 1, 2, 3); check the layers that make them"
    assert complaint(upsample(""), (1, 1, 2, 2), (1, 1, 2, 3)) == message
    message = "upsample_h and upsample_w go together; give both, or scale"
    assert complaint(upsample("upsample_h: 4"), (1, 1, 2, 2), (1, 1, 2, 2)) == message

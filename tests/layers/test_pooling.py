"""Pooling and SPP against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.caffe.catalogue.pooling import pool_out
from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text
from tests.layers.reference import Array, pool, pool_windows, pyramid


def pooling(fields: str) -> str:
    return layer_text("Pooling", "pooling_param", fields)


def pooled(method: str, kernel: tuple[int, int], stride: tuple[int, int], pad=(0, 0), floor: bool = False):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        return pool(bottoms[0], method, kernel, stride, pad, floor=floor)[0]

    return expected


def three(id_: str, fields: str, *window: object, **more: object) -> tuple[Case, ...]:
    """The same windows for each method that can be padded."""
    return tuple(
        Case(f"{method.lower()}-{id_}", pooling(f"pool: {method} {fields}"), pooled(method, *window, **more))
        for method in ("MAX", "AVE")
    )


WINDOWS = (
    *three("ceil-overhangs-3x3s2", "kernel_size: 3 stride: 2", (3, 3), (2, 2)),
    *three("ceil-overhangs-one-axis-4x4s3", "kernel_size: 4 stride: 3", (4, 4), (3, 3)),
    *three("pad-exact-3x3s1p1", "kernel_size: 3 pad: 1", (3, 3), (1, 1), (1, 1)),
    *three("pad-and-overhang-3x3s3p1", "kernel_size: 3 stride: 3 pad: 1", (3, 3), (3, 3), (1, 1)),
    *three("pad-and-overhang-5x5s3p1", "kernel_size: 5 stride: 3 pad: 1", (5, 5), (3, 3), (1, 1)),
    *three("clipped-2x2s3p1", "kernel_size: 2 stride: 3 pad: 1", (2, 2), (3, 3), (1, 1)),
    *three("pad-larger-than-overhang-4x4s4p3", "kernel_size: 4 stride: 4 pad: 3", (4, 4), (4, 4), (3, 3)),
    *three(
        "unequal-sides",
        "kernel_h: 2 kernel_w: 5 stride_h: 1 stride_w: 3 pad_h: 0 pad_w: 1",
        (2, 5),
        (1, 3),
        (0, 1),
    ),
    *three("kernel-larger-than-image", "kernel_size: 9 stride: 4", (9, 9), (4, 4)),
    *three(
        "floor-3x3s2p1",
        "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
        (3, 3),
        (2, 2),
        (1, 1),
        floor=True,
    ),
    *three("no-ceil-mode-4x4s3", "kernel_size: 4 stride: 3 ceil_mode: false", (4, 4), (3, 3), floor=True),
    *three("whole-image", "global_pooling: true", (7, 9), (1, 1)),
)


@cases(*WINDOWS)
def test_values(case: Case) -> None:
    check(case)


@cases(*WINDOWS)
def test_any_batch(case: Case) -> None:
    check_free_batch(case, 3)


def test_divisor_counts_the_padding_but_not_beyond() -> None:
    """5x5 windows over 6x6 ones: 4 or 3 of a window's rows are in the image, 5 or 4 in the padded image."""
    wanted = np.array([[[[16 / 25, 12 / 20], [12 / 20, 9 / 16]]]])
    layer = pooling("pool: AVE kernel_size: 5 stride: 4 pad: 1")
    check(Case("by-hand", layer, lambda *_: wanted, (np.ones((1, 1, 6, 6)),)))


def masked(kernel: tuple[int, int], stride: tuple[int, int], pad=(0, 0)):
    return lambda bottoms, _: pool(bottoms[0], "MAX", kernel, stride, pad)


MASKS = (
    Case("mask-2x2s2", pooling("kernel_size: 2 stride: 2"), masked((2, 2), (2, 2)), tops=2),
    Case("mask-3x3s2p1", pooling("kernel_size: 3 stride: 2 pad: 1"), masked((3, 3), (2, 2), (1, 1)), tops=2),
    Case("mask-whole", pooling("global_pooling: true"), masked((7, 9), (1, 1)), tops=2),
    Case(
        "mask-ties",
        pooling("kernel_size: 3 stride: 2"),
        masked((3, 3), (2, 2)),
        (np.random.default_rng(0).integers(0, 2, (2, 3, 7, 9)),),
        tops=2,
    ),
)


@cases(*MASKS)
def test_second_top_is_where_the_first_maximum_is(case: Case) -> None:
    check(replace(case, tolerance=0.0))
    check_free_batch(case, 3)


@cases(
    Case(
        "stochastic-3x3s2",
        pooling("pool: STOCHASTIC kernel_size: 3 stride: 2"),
        pooled("STOCHASTIC", (3, 3), (2, 2)),
        (np.random.default_rng(1).random((2, 3, 7, 8)),),
    ),
    Case(
        "stochastic-zeros",
        pooling("pool: STOCHASTIC kernel_size: 2"),
        pooled("STOCHASTIC", (2, 2), (1, 1)),
        (np.zeros((1, 1, 3, 3)),),
    ),
)
def test_stochastic_in_test_is_a_weighted_mean(case: Case) -> None:
    check(case)


def test_maximum_beside_the_image_is_caffes_least_float() -> None:
    case = Case("beside", pooling("kernel_size: 1 stride: 2"), pooled("MAX", (1, 1), (2, 2)), ((1, 1, 4, 4),))
    check(case)


def spatial_pyramid(fields: str) -> str:
    return layer_text("SPP", "spp_param", fields)


PYRAMIDS = (
    Case("one-level", spatial_pyramid("pyramid_height: 1"), lambda b, _: pyramid(b[0], 1, "MAX")),
    Case("two-levels-odd", spatial_pyramid("pyramid_height: 2 pool: AVE"), lambda b, _: pyramid(b[0], 2, "AVE")),
    Case(
        "three-levels",
        spatial_pyramid("pyramid_height: 3"),
        lambda b, _: pyramid(b[0], 3, "MAX"),
        ((2, 3, 11, 8),),
    ),
)


@cases(*PYRAMIDS)
def test_spatial_pyramid(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 6), st.integers(0, 7), st.booleans(), st.booleans())
def test_pool_out_lays_windows_until_all_is_covered(
    size: int, kernel: int, stride: int, pad: int, clip: bool, floor: bool
) -> None:
    pad = min(pad, kernel - 1)
    if size + 2 * pad < kernel:
        return
    counted = pool_windows(size, kernel, stride, pad, clip=clip, floor=floor)
    assert pool_out(size, kernel, stride, pad, clip=clip, round_up=not floor) == counted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            "",
            "the layer needs a kernel_size of at least 1; add kernel_size, or global_pooling: true",
        ),
        ("kernel_size: 2 stride: 0", "stride must be at least 1"),
        ("kernel_size: 2 pad: 2", "padding (2, 2) must be less than the kernel (2, 2)"),
        ("kernel_h: 2", "kernel_h and kernel_w go together; add kernel_w"),
        (
            "kernel_size: 2 kernel_h: 2 kernel_w: 2",
            "kernel_size is given beside kernel_h and kernel_w; keep one of them",
        ),
        (
            "kernel_size: 2 global_pooling: true",
            "global_pooling takes the whole image: no kernel size, no padding, stride 1; "
            "take those fields or global_pooling away",
        ),
        (
            "kernel_size: 11",
            "a kernel of (11, 11) does not fit a bottom of shape (2, 3, 7, 9); "
            "make the kernel smaller, or feed a larger input",
        ),
        (
            "pool: STOCHASTIC kernel_size: 2 pad: 1",
            "STOCHASTIC pooling cannot be padded, the padding is (1, 1); take the padding away, or use MAX",
        ),
    ],
)
def test_complaints(fields: str, message: str) -> None:
    assert complaint(pooling(fields), (2, 3, 7, 9)) == message


def test_bottom_must_be_images() -> None:
    message = "a layer of type 'Pooling' needs a bottom with exactly 4 axes, not one of shape (2, 3)"
    assert complaint(pooling("kernel_size: 2"), (2, 3)) == message


def test_only_maxima_have_a_second_top() -> None:
    message = "only MAX pooling has a second top, this is AVE; take the second top away"
    assert complaint(pooling("pool: AVE kernel_size: 2"), (1, 1, 4, 4), tops=2) == message


def test_average_beside_the_image_is_refused() -> None:
    message = (
        "the last pooling window lies beside the image, where Caffe's average divides by nothing; "
        "make the stride no larger than the kernel, or set round_mode: FLOOR"
    )
    assert complaint(pooling("pool: AVE kernel_size: 1 stride: 2"), (1, 1, 4, 4), run=True) == message


def test_pyramid_needs_pixels() -> None:
    message = "padding (1, 1) must be less than the kernel (1, 1)"
    assert complaint(spatial_pyramid("pyramid_height: 3"), (1, 1, 3, 3)) == message

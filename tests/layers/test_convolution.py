"""Convolution, Deconvolution and Im2col against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.caffe.catalogue.convolution import conv_out, deconv_out
from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text, shapes_of
from tests.layers.reference import Array, convolve, deconvolve, image_to_columns


def conv(fields: str, type_name: str = "Convolution") -> str:
    return layer_text(type_name, "convolution_param", fields)


def convolution(**window: object):
    def expected(bottoms: Arrays, blobs: Arrays) -> list[Array]:
        return [convolve(bottom, *blobs, **window) for bottom in bottoms]

    return expected


def deconvolution(**window: object):
    def expected(bottoms: Arrays, blobs: Arrays) -> list[Array]:
        return [deconvolve(bottom, *blobs, **window) for bottom in bottoms]

    return expected


CONVOLUTIONS = (
    Case(
        "conv-1d",
        conv("num_output: 3 kernel_size: 4 stride: 3 pad: 2 dilation: 2"),
        convolution(stride=[3], pad=[2], dilation=[2]),
        ((2, 4, 13),),
    ),
    Case(
        "conv-3d",
        conv("num_output: 2 kernel_size: 1 kernel_size: 2 kernel_size: 3 pad: 1"),
        convolution(stride=[1, 1, 1], pad=[1, 1, 1]),
        ((2, 3, 3, 4, 5),),
    ),
    Case(
        "conv-unequal-sides",
        conv("num_output: 3 kernel_h: 1 kernel_w: 5 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2"),
        convolution(stride=[2, 1], pad=[0, 2]),
    ),
    Case(
        "conv-per-axis",
        conv("num_output: 3 kernel_size: [3, 2] stride: [1, 2] dilation: [2, 3]"),
        convolution(stride=[1, 2], pad=[0, 0], dilation=[2, 3]),
    ),
    Case(
        "conv-grouped-no-bias",
        conv("num_output: 4 kernel_size: 3 pad: 1 group: 2 bias_term: false"),
        convolution(stride=[1, 1], pad=[1, 1], group=2),
    ),
    Case(
        "conv-two-bottoms",
        conv("num_output: 2 kernel_size: 2"),
        convolution(stride=[1, 1], pad=[0, 0]),
        ((2, 3, 4, 5), (2, 3, 4, 5)),
        tops=2,
    ),
    Case(
        "depthwise-without-group",
        conv("num_output: 6 kernel_size: 3 stride: 2 pad: 1", "ConvolutionDepthwise"),
        convolution(stride=[2, 2], pad=[1, 1], group=6),
    ),
    Case(
        "depthwise-without-anything",
        conv("kernel_size: 3", "DepthwiseConvolution"),
        convolution(stride=[1, 1], pad=[0, 0], group=6),
    ),
)
DECONVOLUTIONS = (
    Case(
        "deconv-1d",
        conv("num_output: 3 kernel_size: 4 stride: 3 pad: 2 dilation: 2", "Deconvolution"),
        deconvolution(stride=[3], pad=[2], dilation=[2]),
        ((2, 4, 7),),
    ),
    Case(
        "deconv-3d",
        conv("num_output: 2 kernel_size: 2 stride: 2", "Deconvolution"),
        deconvolution(stride=[2, 2, 2], pad=[0, 0, 0]),
        ((2, 3, 2, 3, 2),),
    ),
    Case(
        "deconv-grouped",
        conv("num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2", "Deconvolution"),
        deconvolution(stride=[2, 2], pad=[1, 1], group=2),
        ((2, 6, 4, 5),),
    ),
    Case(
        "deconv-grouped-dilated-unequal",
        conv("num_output: 6 kernel_h: 2 kernel_w: 3 dilation: 2 group: 3 bias_term: false", "Deconvolution"),
        deconvolution(stride=[1, 1], pad=[0, 0], dilation=[2, 2], group=3),
        ((2, 6, 4, 5),),
    ),
)


@cases(*CONVOLUTIONS, *DECONVOLUTIONS)
def test_values(case: Case) -> None:
    check(case)


@cases(CONVOLUTIONS[0], CONVOLUTIONS[4], DECONVOLUTIONS[2])
def test_any_batch(case: Case) -> None:
    check_free_batch(case, 3)


@pytest.mark.parametrize("axis", [2, -3])
def test_axes_before_the_channels_are_a_batch(axis: int) -> None:
    def expected(bottoms: Arrays, blobs: Arrays) -> Array:
        images = bottoms[0].reshape(6, 4, 5, 6)
        top = convolve(images, *blobs, stride=[1, 1], pad=[0, 0])
        return top.reshape(2, 3, *top.shape[1:])

    layer = conv(f"num_output: 3 kernel_size: 2 axis: {axis}")
    case = Case("conv-axis", layer, expected, ((2, 3, 4, 5, 6),))
    check(case)
    check_free_batch(Case("conv-axis", layer, _free(expected), ((2, 3, 4, 5, 6),)), 4)


def _free(expected):
    def with_batch(bottoms: Arrays, blobs: Arrays) -> Array:
        halves = [expected((bottoms[0][i : i + 2],), blobs) for i in range(0, len(bottoms[0]), 2)]
        return np.concatenate(halves)

    return with_batch


def test_without_an_axis_before_the_channels() -> None:
    def expected(bottoms: Arrays, blobs: Arrays) -> Array:
        return convolve(bottoms[0][None], *blobs, stride=[1, 1], pad=[0, 0])[0]

    layer = conv("num_output: 3 kernel_size: 2 axis: 0")
    check(Case("conv-axis-0", layer, expected, ((4, 5, 6),)))


@cases(
    Case(
        "im2col",
        conv("kernel_h: 2 kernel_w: 3 stride: 2 pad: 1", "Im2col"),
        lambda bottoms, _: image_to_columns(bottoms[0], (2, 3), (2, 2), (1, 1)),
        ((2, 3, 5, 6),),
        tolerance=0.0,
    )
)
def test_im2col(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


SHAPE = (2, 6, 7, 9)
SIDES = st.tuples(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(0, 6), st.integers(1, 3))


@given(SIDES)
def test_conv_out_counts_the_places_of_the_window(sides: tuple[int, int, int, int, int]) -> None:
    size, kernel, stride, pad, dilation = sides
    extent = dilation * (kernel - 1) + 1
    count = sum(1 for start in range(-pad, size + pad, stride) if start + extent <= size + pad)
    assert max(0, conv_out(*sides)) == count


@given(SIDES)
def test_deconv_out_ends_where_the_last_window_ends(sides: tuple[int, int, int, int, int]) -> None:
    size, kernel, stride, pad, dilation = sides
    last = max(at * stride + tap * dilation for at in range(size) for tap in range(kernel))
    assert deconv_out(*sides) == last + 1 - 2 * pad


def test_weights_and_macs() -> None:
    fields = "num_output: 4 kernel_size: 3 group: 2"
    shapes = shapes_of(conv(fields), (2, 6, 7, 9))
    assert shapes.blobs == ((4, 3, 3, 3), (4,))
    assert shapes.macs == math.prod((2, 4, 5, 7)) * 3 * 9
    shapes = shapes_of(conv(fields, "Deconvolution"), (2, 6, 7, 9))
    assert shapes.blobs == ((6, 2, 3, 3), (4,))
    assert shapes.macs == math.prod((2, 6, 7, 9)) * 2 * 9


@pytest.mark.parametrize(
    ("parameters", "shape", "message"),
    [
        ("kernel_size: 3", SHAPE, "num_output must be at least 1; add num_output"),
        ("num_output: 4", SHAPE, "the layer needs kernel_size; add kernel_size to its parameters"),
        ("num_output: 4 kernel_size: 0", SHAPE, "kernel_size must be at least 1 along every axis"),
        (
            "num_output: 4 kernel_size: 1 stride_h: 2",
            (2, 6, 7, 9),
            "stride must be at least 1 along every axis",
        ),
        ("num_output: 4 kernel_size: 3 group: 3", SHAPE, "num_output 4 is no multiple of group 3"),
        (
            "num_output: 4 kernel_size: 3 group: 4",
            (2, 6, 7, 9),
            "6 input channels are no multiple of group 4",
        ),
        (
            "num_output: 4 kernel_size: [3, 3, 3]",
            (2, 6, 7, 9),
            "kernel_size is given 3 times for 2 spatial axes",
        ),
        (
            "num_output: 4 kernel_size: 3 kernel_h: 3",
            SHAPE,
            "kernel_size is given beside kernel_h and kernel_w; keep one of them",
        ),
        (
            "num_output: 4 kernel_h: 3 kernel_w: 3",
            (2, 6, 7),
            "kernel_h and kernel_w need a bottom with two spatial axes, this one has 1; use kernel_size",
        ),
        ("num_output: 4 kernel_size: 3", (2, 6), "the bottom has no spatial axis after the channel axis"),
        (
            "num_output: 4 kernel_size: 3 axis: 4",
            (2, 6, 7, 9),
            "axis 4 is out of range for a bottom with 4 axes",
        ),
        (
            "num_output: 4 kernel_size: 9 pad: 1",
            (2, 6, 7, 6),
            "a kernel of (9, 9) with padding (1, 1) does not fit a bottom of shape (2, 6, 7, 6); "
            "make the kernel smaller or the padding larger, or feed a larger input",
        ),
    ],
)
def test_complaints(parameters: str, shape: tuple[int, ...], message: str) -> None:
    assert complaint(conv(parameters), shape) == message


def test_bottoms_must_be_alike() -> None:
    layer = conv("num_output: 4 kernel_size: 1")
    message = "all bottoms must have one shape, found (2, 3) and (2, 4); check the layers that make them"
    assert complaint(layer, (2, 3), (2, 4), tops=2) == message

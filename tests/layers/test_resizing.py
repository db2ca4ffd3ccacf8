"""Upsample, MaxUnpool and Interp against loops."""

from __future__ import annotations

import numpy as np
import pytest

from ristretto.caffe.net import build_net
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.errors import NetError
from ristretto.graph.build import build
from tests.layers.harness import (
    Case,
    cases,
    check,
    check_free_batch,
    complaint,
    layer_text,
    run_case,
    run_model,
)
from tests.layers.reference import Array, interpolate, unpool
from tests.layers.reference import pool as reference_pool


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
    return lambda bottoms, _: unpool(*bottoms[:2], (height, width))


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


def max_unpool(fields: str = "", message: str = "pooling_param", type_name: str = "MaxUnpool") -> str:
    return layer_text(type_name, message, fields) if fields else f'type: "{type_name}"'


LIKE = np.zeros((2, 5, 5, 7), np.float32)


@cases(
    Case("double", max_unpool(), unpooled(4, 6), (VALUES, mask(4, 6)), tolerance=0.0),
    Case("kernel-2", max_unpool("kernel_size: 2 stride: 2"), unpooled(4, 6), (VALUES, mask(4, 6)), tolerance=0.0),
    Case("overlapping", max_unpool("kernel_size: 3 stride: 2"), unpooled(5, 7), (VALUES, mask(5, 7)), tolerance=0.0),
    Case("stride-1", max_unpool("kernel_size: 3"), unpooled(4, 5), (VALUES, mask(4, 5)), tolerance=0.0),
    Case("pad", max_unpool("kernel_size: 3 stride: 2 pad: 1"), unpooled(3, 5), (VALUES, mask(3, 5)), tolerance=0.0),
    Case(
        "sides",
        max_unpool("kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 3 pad_h: 0 pad_w: 1"),
        unpooled(4, 7),
        (VALUES, mask(4, 7)),
        tolerance=0.0,
    ),
    Case("like", max_unpool(), unpooled(5, 7), (VALUES, mask(5, 7), LIKE), tolerance=0.0),
    Case("like-wins", max_unpool("kernel_size: 9"), unpooled(5, 7), (VALUES, mask(5, 7), LIKE), tolerance=0.0),
    Case(
        "size",
        max_unpool("dst_h: 5 dst_w: 7", "max_unpool_param", "MaxUnPool"),
        unpooled(5, 7),
        (VALUES, mask(5, 7)),
        tolerance=0.0,
    ),
)
def test_max_unpool(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def pooled_and_back(text: str, x: Array) -> Array:
    """A net that pools, with mask, and unpools by it: the blob "back" for an image fed as "x"."""
    dims = " ".join(f"dim: {length}" for length in x.shape)
    net = build_net(
        parse(f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }} {text}', "net"),
        NetState("TEST"),
    )
    built = build(net, infer_shapes(net, {}), [()] * len(net.layers), outputs=["back"])
    return run_model(built, {"x": x})[0]


@pytest.mark.parametrize(
    ("pool", "unpool", "size"),
    [
        ("kernel_size: 2 stride: 2", 'bottom: "p" bottom: "m"', (4, 6)),
        ("kernel_size: 2 stride: 2", 'bottom: "p" bottom: "m" bottom: "x"', (5, 7)),
        ("kernel_size: 3 stride: 2 pad: 1", 'bottom: "p" bottom: "m" bottom: "x"', (6, 5)),
        (
            "kernel_size: 3 stride: 2",
            'bottom: "p" bottom: "m" pooling_param { kernel_size: 3 stride: 2 }',
            (5, 7),
        ),
    ],
)
def test_a_pooling_undone_keeps_its_maxima_in_place(pool: str, unpool: str, size: tuple[int, int]) -> None:
    """What is left is the image where a window found its maximum, which for windows that overlap may be twice."""
    x = np.random.default_rng(3).standard_normal((2, 3, *size), dtype=np.float32)
    text = f"""layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param {{ {pool} }} }}
        layer {{ name: "u" type: "MaxUnpool" top: "back" {unpool} }}"""
    numbers = [int(word) for word in pool.split() if word.isdigit()]
    kernel, stride, pad = (*numbers, 0)[:3]
    _, places = reference_pool(x, "MAX", (kernel, kernel), (stride, stride), (pad, pad))
    expected = np.zeros_like(x)
    for n, c, row, column in np.ndindex(places.shape):
        place = int(places[n, c, row, column])
        expected[n, c].flat[place] = x[n, c].flat[place]
    np.testing.assert_array_equal(pooled_and_back(text, x), expected)


def test_max_unpool_complains() -> None:
    two = ((1, 1, 2, 2), (1, 1, 2, 2))
    message = "all bottoms must have one shape, found (1, 1, 2, 2) and (1, 1, 2, 3); check the layers that make them"
    assert complaint(max_unpool(), (1, 1, 2, 2), (1, 1, 2, 3)) == message
    message = "kernel_size and stride must be at least 1; give those of the pooling that is undone"
    assert complaint(max_unpool("stride: 2"), *two) == message
    message = "kernel_h and kernel_w go together; add kernel_w"
    assert complaint(max_unpool("kernel_h: 2"), *two) == message
    message = "nothing is left of a bottom of shape (1, 1, 2, 2); the size must be that before the pooling"
    assert complaint(max_unpool("kernel_size: 1 pad: 1"), *two) == message
    message = "dst_h and dst_w go together; give both"
    assert complaint(max_unpool("dst_h: 3", "max_unpool_param"), *two) == message
    message = "a layer of type 'MaxUnpool' needs a bottom with exactly 4 axes, not one of shape (5, 7)"
    assert complaint(max_unpool(), *two, (5, 7)) == message
    message = "a layer of type 'MaxUnpool' takes 2 to 3 bottoms, 1 given; add a bottom"
    assert complaint(max_unpool(), (1, 1, 2, 2)) == message


def test_a_mask_of_another_image_is_refused() -> None:
    """A place beyond the top, as Caffe's forks refuse it (maxunpool_layer.cpp, Forward_cpu), is an error."""
    wide = np.full((1, 1, 1, 1), 4.0, np.float32)
    with pytest.raises(NetError, match="onnxruntime cannot run the net"):
        run_case(Case("beyond", max_unpool(), unpooled(2, 2), (np.ones((1, 1, 1, 1)), wide)))

"""Layers that give the values of a blob another order or shape, or a part of them, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text, shapes_of
from tests.layers.reference import Array, places

SHAPE = (2, 3, 4, 5)


def reshaped(*shape: int):
    """To a shape whose first axis is a batch unless told otherwise."""
    return lambda bottoms, _: bottoms[0].reshape(shape)


def flatten(fields: str = "") -> str:
    return layer_text("Flatten", "flatten_param", fields)


def reshape(fields: str) -> str:
    return layer_text("Reshape", "reshape_param", fields)


FREE = (
    Case("flatten", flatten(), reshaped(-1, 60), (SHAPE,)),
    Case("flatten-middle", flatten("axis: 1 end_axis: 2"), reshaped(-1, 12, 5), (SHAPE,)),
    Case("flatten-end", flatten("axis: -2"), reshaped(-1, 3, 20), (SHAPE,)),
    Case("flatten-one-axis", flatten("axis: 2 end_axis: 2"), reshaped(-1, 3, 4, 5), (SHAPE,)),
    Case("flatten-items", flatten("axis: 0 end_axis: 1"), reshaped(-1, 4, 5), (SHAPE,)),
    Case("reshape-copy", reshape("shape { dim: [0, 0, -1] }"), reshaped(-1, 3, 20), (SHAPE,)),
    Case("reshape-infer-first", reshape("shape { dim: [-1, 5] }"), reshaped(-1, 5), (SHAPE,)),
    Case("reshape-copy-last", reshape("shape { dim: [-1, 6, 1, 0] }"), reshaped(-1, 6, 1, 5), (SHAPE,)),
    Case("reshape-from-axis", reshape("axis: 1 shape { dim: [5, -1] }"), reshaped(-1, 5, 12), (SHAPE,)),
    Case("reshape-some", reshape("axis: 1 num_axes: 2 shape { dim: 12 }"), reshaped(-1, 12, 5), (SHAPE,)),
    Case("reshape-insert", reshape("axis: 1 num_axes: 0 shape { dim: 1 }"), reshaped(-1, 1, 3, 4, 5), (SHAPE,)),
    Case("reshape-append", reshape("axis: -1 num_axes: 0 shape { dim: 1 }"), reshaped(-1, 3, 4, 5, 1), (SHAPE,)),
    Case("reshape-minus-2", reshape("axis: -2 shape { dim: 5 }"), reshaped(-1, 3, 4, 5), (SHAPE,)),
)


@cases(
    *FREE,
    Case("flatten-all", flatten("axis: 0"), reshaped(120), (SHAPE,)),
    Case("reshape-fixed", reshape("shape { dim: [6, 20] }"), reshaped(6, 20), (SHAPE,)),
)
def test_shapes_change_and_values_stay(case: Case) -> None:
    check(case)


@cases(*FREE)
def test_any_batch(case: Case) -> None:
    check_free_batch(case, 3)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (flatten("axis: 2 end_axis: 1"), "end_axis 1 comes before axis 2"),
        (reshape("axis: 5"), "axis 5 is out of range for a bottom with 4 axes"),
        (reshape("axis: -6"), "axis -6 is out of range for a bottom with 4 axes"),
        (
            reshape("axis: 3 num_axes: 2"),
            "num_axes 2 from axis 3 on does not fit a bottom with 4 axes; use -1 for all axes to the last",
        ),
        (
            reshape("shape { dim: [-1, -1] }"),
            "dims (-1, -1) must be lengths, 0 to copy one and -1, once at most, to infer one",
        ),
        (
            reshape("shape { dim: [1, 1, 1, 1, 0] }"),
            "dims (1, 1, 1, 1, 0) copy an axis with 0 that a bottom of shape (2, 3, 4, 5) does not have",
        ),
        (
            reshape("shape { dim: [7, -1] }"),
            "dims (7, -1) do not suit a bottom of shape (2, 3, 4, 5): no whole length is left for -1",
        ),
        (
            reshape("shape { dim: [0, 7] }"),
            "a bottom of shape (2, 3, 4, 5) holds 120 values, a top of shape (2, 7) does not; "
            "use -1 for one of the dims",
        ),
    ],
)
def test_complaints(layer: str, message: str) -> None:
    assert complaint(layer, SHAPE) == message


def permute(fields: str) -> str:
    return layer_text("Permute", "permute_param", fields)


def transposed(*order: int):
    return lambda bottoms, _: np.transpose(bottoms[0], order)


@cases(
    Case("channels-last", permute("order: [0, 2, 3, 1]"), transposed(0, 2, 3, 1), (SHAPE,), tolerance=0.0),
    Case("some-named", permute("order: [0, 3]"), transposed(0, 3, 1, 2), (SHAPE,), tolerance=0.0),
    Case("none-named", permute(""), transposed(0, 1, 2), ((2, 3, 4),), tolerance=0.0),
)
def test_permute(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_permute_complains() -> None:
    message = "order (0, 4) must name axes of a bottom with 4 axes, each once"
    assert complaint(permute("order: [0, 4]"), SHAPE) == message
    assert "each once" in complaint(permute("order: [1, 1]"), SHAPE)


def crop(fields: str = "") -> str:
    return layer_text("Crop", "crop_param", fields)


def cropped(*offsets: int):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        data, reference = bottoms
        axis = data.ndim - len(offsets)
        ranges = zip(offsets, reference.shape[axis:], strict=True)
        kept = [slice(offset, offset + size) for offset, size in ranges]
        return data[(..., *kept)]

    return expected


@cases(
    Case("default", crop(), cropped(0, 0), (SHAPE, (2, 9, 3, 2))),
    Case("one-offset", crop("offset: 1"), cropped(1, 1), (SHAPE, (2, 3, 3, 4))),
    Case("channels", crop("axis: 1 offset: [1, 0, 2]"), cropped(1, 0, 2), (SHAPE, (2, 2, 4, 3))),
    Case("axis-minus-1", crop("axis: -1 offset: 3"), cropped(3), (SHAPE, (2, 3, 4, 2))),
)
def test_crop(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


@pytest.mark.parametrize(
    ("fields", "reference", "message"),
    [
        ("offset: [1, 1, 1]", SHAPE, "3 offsets for the 2 axes from axis 2 on; give one for all of them, or one each"),
        ("offset: 2", (2, 3, 2, 4), "a cut of 4 from 2 on does not fit axis 3 of (2, 3, 4, 5)"),
        ("", (2, 3), "bottoms of shapes (2, 3, 4, 5) and (2, 3) have not equally many axes"),
    ],
)
def test_crop_complains(fields: str, reference: tuple[int, ...], message: str) -> None:
    assert complaint(crop(fields), SHAPE, reference) == message


def tile(fields: str) -> str:
    return layer_text("Tile", "tile_param", fields)


def tiled(axis: int, times: int):
    return lambda bottoms, _: np.concatenate([bottoms[0]] * times, axis=axis)


@cases(
    Case("channels", tile("tiles: 3"), tiled(1, 3), ((2, 3, 4),), tolerance=0.0),
    Case("last", tile("tiles: 2 axis: -1"), tiled(2, 2), ((2, 3, 4),), tolerance=0.0),
    Case("once", tile("tiles: 1"), tiled(1, 1), ((2, 3, 4),), tolerance=0.0),
)
def test_tile(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_tile_complains() -> None:
    assert complaint(tile(""), (2, 3)) == "tiles must be at least 1; add tiles"


def shuffle(groups: int) -> str:
    return layer_text("ShuffleChannel", "shuffle_channel_param", f"group: {groups}")


def shuffled(groups: int):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        x = bottoms[0]
        members = x.shape[1] // groups
        top = np.zeros_like(x)
        for group, member in places(groups, members):
            top[:, member * groups + group] = x[:, group * members + member]
        return top

    return expected


@cases(
    Case("two-groups", shuffle(2), shuffled(2), tolerance=0.0),
    Case("three-groups", shuffle(3), shuffled(3), tolerance=0.0),
    Case("one-group", shuffle(1), shuffled(1), tolerance=0.0),
    Case("matrix", shuffle(3), shuffled(3), ((2, 6),), tolerance=0.0),
)
def test_shuffle_channel(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_shuffle_complains() -> None:
    assert complaint(shuffle(4), (2, 6)) == "6 channels cannot be cut into 4 equal groups"


def test_flatten_has_no_weights() -> None:
    assert shapes_of(flatten(), SHAPE).blobs == ()

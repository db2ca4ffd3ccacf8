"""transform_param against a slow loop written from data_transformer.cpp, its chances, and its errors."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ristretto.caffe.schema import message_class
from ristretto.data.source import Resolver
from ristretto.data.transform import Transform, read_transform
from ristretto.errors import DataError, NetError, RistrettoError
from tests.data.sources import data_layer, database_layer, first, opened, place, raw_datum, write_lmdb, write_mean

LAYER = data_layer("Data", "data_param { }")
PLAIN = Transform(
    resolver=Resolver(LAYER, None),
    mean_image=None,
    mean_values=None,
    scale=1.0,
    crop=0,
    mirror=False,
    random_crop=False,
    color=None,
)
MEANS = st.floats(-300, 300, width=32)


class Script:
    """A random generator that draws what it is told, and checks that the draw was possible."""

    def __init__(self, draws: list[int]) -> None:
        self.draws = draws

    def integers(self, high: int) -> int:
        drawn = self.draws.pop(0)
        assert 0 <= drawn < high
        return drawn


def slow_transform(image, mean_image, mean_values, scale: float, crop: int, mirrored: bool, corner) -> np.ndarray:
    """One element at a time, in float32, as the C++ does."""
    channels, height, width = image.shape
    height, width = (crop, crop) if crop else (height, width)
    top = np.zeros((channels, height, width), np.float32)
    for c, h, w in np.ndindex(top.shape):
        place = c, corner[0] + h, corner[1] + w
        value = np.float32(image[place])
        if mean_image is not None:
            value = value - mean_image[place]
        elif mean_values is not None:
            value = value - mean_values[c if len(mean_values) > 1 else 0]
        top[c, h, width - 1 - w if mirrored else w] = value * np.float32(scale)
    return top


@st.composite
def cases(draw: st.DrawFn):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))
    if draw(st.booleans()):
        image = draw(arrays.arrays(np.uint8, shape))
    else:
        image = draw(arrays.arrays(np.float32, shape, elements=st.floats(-1e4, 1e4, width=32)))
    kind = draw(st.sampled_from(["none", "image", "one", "channels"]))
    mean_image = draw(arrays.arrays(np.float32, shape, elements=MEANS)) if kind == "image" else None
    count = {"one": 1, "channels": shape[0]}.get(kind)
    values = draw(arrays.arrays(np.float32, count, elements=MEANS)) if count else None
    scale = draw(st.sampled_from([1.0, 0.00390625, 0.017, -2.0]))
    crop = draw(st.integers(0, min(shape[1:])))
    return image, mean_image, values, scale, crop


@given(cases(), st.booleans(), st.booleans(), st.data())
def test_equals_the_loop_bit_for_bit(case, mirror: bool, training: bool, data: st.DataObject) -> None:
    image, mean_image, values, scale, crop = case
    spare = [size - crop if crop else 0 for size in image.shape[1:]]
    corner = [size // 2 for size in spare]
    mirrored = mirror and data.draw(st.booleans())
    script = [int(mirrored)] if mirror else []
    if training and crop:
        corner = [data.draw(st.integers(0, size)) for size in spare]
        script += corner
    transform = replace(
        PLAIN,
        mean_image=mean_image,
        mean_values=None if values is None else values.reshape(-1, 1, 1),
        scale=scale,
        crop=crop,
        mirror=mirror,
        random_crop=training,
    )
    rng = Script(list(script))
    made = transform.apply(image, rng, lambda: "the image")
    np.testing.assert_array_equal(made, slow_transform(image, mean_image, values, scale, crop, mirrored, corner))
    assert made.dtype == np.float32
    assert made.shape == transform.output_shape(image.shape)
    assert not rng.draws, "Caffe draws more often"


def test_the_image_is_left_as_it_was() -> None:
    image = np.ones((1, 2, 2), np.float32)
    replace(PLAIN, scale=3.0, mean_values=np.full((1, 1, 1), 5, np.float32)).apply(image, None, str)
    np.testing.assert_array_equal(image, np.ones((1, 2, 2)))


DISTINCT = np.arange(2 * 9 * 11, dtype=np.uint8).reshape(2, 9, 11)
"""Every pixel of a channel has a value of its own, so that a crop tells where it was taken."""


def placed(crop: np.ndarray) -> tuple[int, int, bool]:
    """Row, column and mirroring of a crop of DISTINCT; fails where it is not one."""
    side = crop.shape[1]
    for mirrored in (False, True):
        straight = crop[:, :, ::-1] if mirrored else crop
        row, column = map(int, np.argwhere(DISTINCT[0] == straight[0, 0, 0])[0])
        if np.array_equal(DISTINCT[:, row : row + side, column : column + side], straight):
            return row, column, mirrored
    pytest.fail("this is no crop of the image")


@pytest.fixture
def distinct(tmp_path: Path) -> str:
    return str(write_lmdb(tmp_path / "db", [raw_datum(DISTINCT)] * 4))


def test_training_crops_lie_anywhere_in_the_image(distinct: str) -> None:
    source = opened(database_layer(distinct, "crop_size: 7 mirror: true", phase="TRAIN", batch_size=4))
    found = {placed(crop) for batch in islice(source.batches(), 100) for crop in batch["data"]}
    everywhere = {(row, column, mirrored) for row in range(3) for column in range(5) for mirrored in (False, True)}
    assert found == everywhere


def test_test_crops_are_central_and_mirrored_by_chance_all_the_same(distinct: str) -> None:
    source = opened(database_layer(distinct, "crop_size: 6 mirror: true", batch_size=4))
    found = {placed(crop) for batch in islice(source.batches(), 10) for crop in batch["data"]}
    assert found == {(1, 2, False), (1, 2, True)}


def test_a_seed_draws_the_same_whenever_it_starts_and_another_seed_does_not(distinct: str) -> None:
    layer = database_layer(distinct, "crop_size: 5 mirror: true", phase="TRAIN", batch_size=3)
    source = opened(layer, seed=7)
    drawn, again, anew, other = (
        [batch["data"] for batch in first(each, 6)] for each in (source, source, opened(layer, seed=7), opened(layer))
    )
    np.testing.assert_array_equal(drawn, again)
    np.testing.assert_array_equal(drawn, anew)
    assert not np.array_equal(drawn, other)


def test_the_pass_over_all_images_draws_as_the_batches_do(distinct: str) -> None:
    source = opened(database_layer(distinct, "crop_size: 5 mirror: true", phase="TRAIN", batch_size=2))
    passed = [batch["data"] for batch in source.single_pass()]
    np.testing.assert_array_equal(passed, [batch["data"] for batch in first(source, 2)])


@pytest.mark.parametrize(
    ("transform", "field", "what"),
    [
        (
            "force_color: true force_gray: true",
            "force_gray",
            "force_color and force_gray exclude each other; keep one",
        ),
        (
            'mean_file: "m" mean_value: 3',
            "mean_value",
            "mean_file and mean_value exclude each other; keep one",
        ),
        (
            "resize_param { height: 3 width: 3 }",
            "resize_param",
            "transform_param.resize_param is not supported; resize the images beforehand",
        ),
        ("crop_h: 3 crop_w: 3", "crop_h", "transform_param.crop_h is not supported; resize the images beforehand"),
        (
            "random_hue: 3",
            "",
            "transform_param.random_hue is not known here and may change pixels; "
            "take it out, or do the same to the images beforehand",
        ),
        (
            "crop_size: 10",
            "",
            "crop_size 10 is larger than record '00000000' of {db} of 9 x 11 pixels; "
            "make crop_size smaller, or resize the images",
        ),
        (
            "mean_value: 1 mean_value: 2 mean_value: 3",
            "",
            "3 mean_values for record '00000000' of {db} of 2 channels; give one mean_value, or one per channel",
        ),
        ("scale: nan", "scale", "scale is nan; give a number that float32 holds"),
        ("scale: -1e39", "scale", "scale is -inf; give a number that float32 holds"),
        ("mean_value: nan", "mean_value", "mean_value is nan; give a number that float32 holds"),
        ("mean_value: inf", "mean_value", "mean_value is inf; give a number that float32 holds"),
        (
            "mean_value: -1 scale: -1.4e36",
            "scale",
            "pixels would become as large as 3.584e+38, more than float32 holds; correct the scale or the mean",
        ),
        (
            "mean_value: 3e38 mean_value: -3.402823466e38 scale: 1.5",
            "scale",
            "pixels would become as large as 5.10424e+38, more than float32 holds; correct the scale or the mean",
        ),
    ],
    ids=[
        *("force", "means", "resize", "crop_h", "unknown", "crop", "mean values"),
        *("scale nan", "scale inf", "mean nan", "mean inf", "scale overflows", "mean overflows"),
    ],
)
def test_what_is_said_of_parameters_that_do_not_do(distinct: str, transform: str, field: str, what: str) -> None:
    layer = database_layer(distinct, transform)
    with pytest.raises(RistrettoError) as raised:
        first(opened(layer), 1)
    at = place(layer, field) if field else "net.prototxt:1"
    assert str(raised.value) == f"{at}: layer 'd': {what.format(db=distinct)}"


@pytest.mark.parametrize("name", ["resize_param", "noise_param", "distort_param", "expand_param"])
def test_every_field_of_ssd_that_changes_pixels_is_named(name: str) -> None:
    layer = data_layer("Data", "data_param { }", f"{name} {{ }}")
    with pytest.raises(RistrettoError, match=rf"transform_param\.{name} is not supported"):
        read_transform(layer, Resolver(layer, None))


def test_a_field_of_ssd_about_annotations_is_harmless() -> None:
    layer = data_layer("Data", "data_param { }", "emit_constraint { }")
    assert read_transform(layer, Resolver(layer, None)).scale == 1


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 1, 1), (1, 1, 1), (1, 9, 11)])
def test_a_mean_file_is_as_large_as_the_image_and_not_as_the_crop(distinct: str, tmp_path: Path, shape) -> None:
    write_mean(tmp_path / "mean", np.ones(shape, np.float32))
    with pytest.raises(DataError) as raised:
        first(opened(database_layer(distinct, 'mean_file: "mean" crop_size: 4'), tmp_path), 1)
    assert str(raised.value) == (
        f"net.prototxt:1: layer 'd': the mean image of shape {list(shape)} does not fit record '00000000' "
        f"of {distinct} of shape [2, 9, 11]; make the mean file from these images, or use mean_value"
    )


def test_the_mean_is_taken_off_where_the_crop_lies(distinct: str, tmp_path: Path) -> None:
    write_mean(tmp_path / "mean", DISTINCT.astype(np.float32))
    for phase in ("TEST", "TRAIN"):
        layer = database_layer(distinct, 'mean_file: "mean" crop_size: 4 mirror: true', phase=phase)
        batches = first(opened(layer, tmp_path), 4)
        assert not any(batch["data"].any() for batch in batches)


def test_a_missing_mean_file_is_looked_for_where_sources_are(distinct: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"the mean file 'mean' does not exist: neither .* nor {tmp_path}/mean;.*--data"
    ):
        opened(database_layer(distinct, 'mean_file: "mean"'), tmp_path)


def test_raw_datums_are_not_forced_to_any_color(distinct: str) -> None:
    np.testing.assert_array_equal(
        first(opened(database_layer(distinct, "force_gray: true")), 1)[0]["data"][0], DISTINCT
    )


@pytest.mark.parametrize("transform", ["scale: 1.3e36", "mean_value: 3e38", "mean_value: -3e36 scale: -100"])
def test_what_float32_just_holds_is_computed(distinct: str, transform: str) -> None:
    assert np.isfinite(first(opened(database_layer(distinct, transform)), 1)[0]["data"]).all()


@pytest.mark.parametrize("transform", ["scale: 1e6", "mean_value: -3.4e38"])
def test_floats_that_become_infinite_are_named(tmp_path: Path, transform: str) -> None:
    datum = message_class("Datum")(channels=1, height=1, width=2, float_data=[1.0, 3e38])
    path = write_lmdb(tmp_path / "db", [datum.SerializeToString()])
    what = rf"transform_param makes infinity of record '00000000' of {path}: its values are too large for float32; make"
    with pytest.raises(DataError, match=rf"^net\.prototxt:1: layer 'd': {what}"):
        first(opened(database_layer(str(path), transform)), 1)


def test_a_mean_image_is_looked_at_too(distinct: str, tmp_path: Path) -> None:
    write_mean(tmp_path / "mean", np.full((2, 9, 11), -1e38, np.float32))
    layer = database_layer(distinct, 'mean_file: "mean" scale: 4')
    with pytest.raises(NetError, match=f"^{place(layer, 'scale')}: layer 'd': pixels would become as large as 4e"):
        opened(layer, tmp_path)

"""Mean files in each form that Caffe has written them in, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.schema import message_class
from ristretto.data.mean import read_mean
from ristretto.errors import DataError
from tests.data.sources import write_mean

MEAN = np.random.default_rng(0).uniform(0, 255, (3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("legacy", [True, False])
def test_the_mean_image_comes_back(tmp_path: Path, legacy: bool) -> None:
    np.testing.assert_array_equal(read_mean(write_mean(tmp_path / "mean", MEAN, legacy=legacy)), MEAN)


def test_a_shape_of_four_axes_and_doubles(tmp_path: Path) -> None:
    blob = message_class("BlobProto")(double_data=MEAN.ravel().tolist())
    blob.shape.dim.extend((1, *MEAN.shape))
    (tmp_path / "mean").write_bytes(blob.SerializeToString())
    np.testing.assert_array_equal(read_mean(tmp_path / "mean"), MEAN)


def several(path: Path) -> None:
    blob = message_class("BlobProto")(num=2, channels=1, height=1, width=1, data=[1, 2])
    path.write_bytes(blob.SerializeToString())


def short(path: Path) -> None:
    blob = message_class("BlobProto")(num=1, channels=1, height=2, width=2, data=[1, 2])
    path.write_bytes(blob.SerializeToString())


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (
            several,
            "the mean file holds an array of shape [2, 1, 1, 1]; one image (1, channels, height, width) is needed",
        ),
        (
            short,
            "cannot read the mean file: a blob of shape [1, 1, 2, 2] needs 4 values, the file holds 2; "
            "it must be a .binaryproto",
        ),
        (
            lambda path: path.write_bytes(b""),
            "cannot read the mean file: cannot mmap an empty file; it must be a .binaryproto",
        ),
        (
            lambda path: path.write_bytes(b"<html>"),
            "cannot read the mean file: wire type 4 does not exist in a net's files; it must be a .binaryproto",
        ),
    ],
    ids=["two images", "values missing", "empty", "junk"],
)
def test_what_is_said_of_a_file_that_is_no_mean(tmp_path: Path, make, what: str) -> None:
    path = tmp_path / "mean"
    make(path)
    with pytest.raises(DataError) as raised:
        read_mean(path)
    assert str(raised.value) == f"{path}: {what}"


def test_a_folder_is_no_mean_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the mean file: .*Is a directory"):
        read_mean(tmp_path)

"""HDF5Data layers: rows of file after file, shuffling, and what is said of files that do not do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ristretto.errors import DataError, NetError, UsageError
from tests.data.sources import data_layer, first, labels, opened, place

h5py = pytest.importorskip("h5py", reason="the optional package h5py is not installed")


def write(path: Path, **arrays: object) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def rows(start: int, count: int) -> dict[str, np.ndarray]:
    """Rows whose label and values are their numbers."""
    numbers = np.arange(start, start + count)
    return {"data": np.repeat(numbers, 6).reshape(count, 2, 3), "label": numbers}


def layer_over(folder: Path, *names: str, more: str = "batch_size: 3", tops: str = "data label"):
    (folder / "list.txt").write_text("\n".join(names))
    return data_layer("HDF5Data", f'hdf5_data_param {{ source: "{folder}/list.txt" {more} }}', tops=tops)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    write(tmp_path / "a.h5", **rows(0, 5))
    write(tmp_path / "b.h5", **rows(5, 2))
    return tmp_path


def test_batches_run_through_the_files_in_turn_and_wrap_around(two: Path) -> None:
    source = opened(layer_over(two, "a.h5", "", "b.h5"), two)
    assert (source.tops, source.images, source.batch_size) == (("data", "label"), 7, 3)
    assert source.shapes == {"data": (3, 2, 3), "label": (3,)}
    batches = first(source, 4)
    assert labels(batches) == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4]
    assert [row.mean() for batch in batches for row in batch["data"]] == labels(batches)
    assert {array.dtype for array in batches[0].values()} == {np.dtype(np.float32)}
    assert labels(first(source, 1)) == [0, 1, 2]


def test_a_single_pass_ends_with_what_is_left(two: Path) -> None:
    passed = list(opened(layer_over(two, "a.h5", "b.h5"), two).single_pass())
    assert [batch["label"].tolist() for batch in passed] == [[0, 1, 2], [3, 4, 5], [6]]


def test_shuffling_keeps_the_files_together(two: Path) -> None:
    layer = layer_over(two, "a.h5", "b.h5", more="batch_size: 7 shuffle: true")
    source = opened(layer, two, seed=1)
    rounds = [batch["label"].tolist() for batch in first(source, 30)]
    assert {tuple(sorted(each)) for each in rounds} == {tuple(range(7))}
    assert {frozenset(each[:2]) == {5, 6} or frozenset(each[5:]) == {5, 6} for each in rounds} == {True}
    assert {frozenset(each[:2]) == {5, 6} for each in rounds} == {True, False}, "either file may come first"
    assert len({tuple(each) for each in rounds}) > 20
    assert rounds == [batch["label"].tolist() for batch in first(source, 30)]


def test_tops_are_datasets_by_name(two: Path) -> None:
    source = opened(layer_over(two, "a.h5", tops="label"), two)
    assert set(first(source, 1)[0]) == {"label"}


def group(folder: Path) -> None:
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_group("data")
        file["label"] = [1.0]


BAD = {
    "missing dataset": (
        lambda folder: write(folder / "x.h5", image=[1.0], label=[1.0]),
        "'{x}' has no dataset 'data'; it holds image, label: name the tops so",
    ),
    "nothing in it": (
        lambda folder: write(folder / "x.h5"),
        "'{x}' has no dataset 'data'; it holds nothing: name the tops so",
    ),
    "a group": (group, "'{x}' has no dataset 'data'; it holds data, label: name the tops so"),
    "a number": (
        lambda folder: write(folder / "x.h5", data=1.0, label=[1.0]),
        "dataset 'data' of '{x}' is no array of numbers with a row per image; save it as a float32 array",
    ),
    "text": (
        lambda folder: write(folder / "x.h5", data=[b"ab"], label=[1.0]),
        "dataset 'data' of '{x}' is no array of numbers with a row per image; save it as a float32 array",
    ),
    "lengths": (
        lambda folder: write(folder / "x.h5", data=np.zeros((3, 2)), label=np.zeros(4)),
        "the datasets of '{x}' have different numbers of rows: data [3, 2], label [4]; "
        "give each image a row in every dataset",
    ),
    "no rows": (
        lambda folder: write(folder / "x.h5", data=np.zeros((0, 2)), label=np.zeros(0)),
        "the HDF5 files of '{folder}/list.txt' hold no rows; save some into them",
    ),
}


@pytest.mark.parametrize(("make", "what"), BAD.values(), ids=BAD)
def test_what_is_said_of_a_file_that_does_not_do(tmp_path: Path, make, what: str) -> None:
    make(tmp_path)
    with pytest.raises(DataError) as raised:
        opened(layer_over(tmp_path, "x.h5"), tmp_path)
    assert str(raised.value) == f"net.prototxt:1: layer 'd': {what.format(x=tmp_path / 'x.h5', folder=tmp_path)}"


def test_rows_of_one_shape_are_needed_over_all_files(two: Path) -> None:
    write(two / "c.h5", data=np.zeros((2, 4)), label=np.zeros(2))
    with pytest.raises(DataError) as raised:
        opened(layer_over(two, "a.h5", "c.h5"), two)
    assert str(raised.value) == (
        f"net.prototxt:1: layer 'd': '{two}/c.h5' has rows of shape [4] in 'data', not [2, 3] as in '{two}/a.h5'; "
        "list files with rows of one shape"
    )


@pytest.mark.parametrize("size", [0, 4, 900])
def test_a_file_cut_short(two: Path, size: int) -> None:
    whole = (two / "a.h5").read_bytes()
    (two / "a.h5").write_bytes(whole[:size])
    with pytest.raises(DataError, match=rf"cannot read the HDF5 file '{two}/a\.h5': .*; save it again$"):
        opened(layer_over(two, "a.h5"), two)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the HDF5 file 'none\.h5' does not exist: neither .*--data-root$"):
        opened(layer_over(tmp_path, "none.h5"), tmp_path)


def test_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"the list '{tmp_path}/list\.txt' names no HDF5 file; write one path a line$"):
        opened(layer_over(tmp_path, ""), tmp_path)


def test_a_transform_is_refused_as_caffe_does(two: Path) -> None:
    parameters = f'hdf5_data_param {{ source: "{two}/list.txt" batch_size: 1 }}'
    layer = data_layer("HDF5Data", parameters, "scale: 2")
    with pytest.raises(NetError) as raised:
        opened(layer)
    assert str(raised.value) == (
        f"{place(layer, 'transform_param')}: layer 'd': an HDF5Data layer takes no transform_param; "
        "transform the data beforehand and take it out"
    )


def test_a_layer_without_tops(two: Path) -> None:
    with pytest.raises(NetError, match=r"an HDF5Data layer needs a top; name the datasets of the files as tops$"):
        opened(layer_over(two, "a.h5", tops=""), two)


def test_without_its_package(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        UsageError, match=r"HDF5 files need the package h5py; pip install 'ristretto-fixed-point\[hdf5\]'$"
    ):
        opened(layer_over(two, "a.h5"), two)

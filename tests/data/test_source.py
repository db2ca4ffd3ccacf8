"""Which layers can be read, where their files are looked for, and what is said where they are not found."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ristretto.data import open_data, open_npz
from ristretto.errors import DataError, NetError, UsageError
from tests.data.sources import (
    data_layer,
    database_layer,
    first,
    labels,
    layer_of,
    numbered,
    opened,
    picture,
    place,
    raw_datum,
    write_lmdb,
)


def test_another_layer_type_is_told_what_can_be_read() -> None:
    layer = layer_of('layer { name: "w" type: "WindowData" top: "data" }')
    with pytest.raises(NetError) as raised:
        opened(layer)
    assert str(raised.value) == (
        f"{place(layer, 'type')}: layer 'w': a WindowData layer cannot be read; Data, ImageData and HDF5Data can; "
        "give the arrays of others with --inputs data.npz"
    )


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "db", numbered(1))
    with pytest.raises(UsageError, match=r"^the seed must not be negative, got -1; give 0 or a positive whole number$"):
        open_data(database_layer("db"), data_root=tmp_path, seed=-1)


def test_the_current_folder_comes_before_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, root = tmp_path / "here", tmp_path / "root"
    here.mkdir()
    root.mkdir()
    write_lmdb(root / "db", numbered(1))
    monkeypatch.chdir(here)
    assert opened(database_layer("db"), root).images == 1
    write_lmdb(here / "db", numbered(2))
    assert opened(database_layer("db"), root).images == 2


def test_an_absolute_path_needs_no_root(tmp_path: Path) -> None:
    source = write_lmdb(tmp_path / "db", numbered(3))
    assert labels(first(opened(database_layer(str(source)), tmp_path / "elsewhere"), 1)) == [0, 1]


def test_a_missing_source_names_the_folders_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as raised:
        opened(database_layer("sets/db"), tmp_path / "root")
    assert str(raised.value) == (
        f"net.prototxt:1: layer 'd': the source 'sets/db' does not exist: neither {tmp_path}/sets/db "
        f"nor {tmp_path}/root/sets/db; correct the path in the prototxt, "
        "or name the folder that it is relative to with --data-root"
    )


def test_the_last_part_of_a_path_is_not_guessed(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "db", numbered(1))
    with pytest.raises(DataError, match=r"the source 'sets/db' does not exist"):
        opened(database_layer("sets/db"), tmp_path)


def test_a_missing_absolute_path_is_not_sent_to_the_data_root() -> None:
    with pytest.raises(DataError) as raised:
        opened(database_layer("/no/such/db"))
    assert str(raised.value) == (
        "net.prototxt:1: layer 'd': the source '/no/such/db' does not exist: looked for /no/such/db; "
        "correct the path in the prototxt"
    )


@pytest.mark.parametrize(
    ("type_name", "parameters", "what"),
    [
        ("Data", "data_param { batch_size: 1 }", "the source is not given"),
        ("ImageData", "image_data_param { batch_size: 1 }", "the image list is not given"),
        ("HDF5Data", "hdf5_data_param { batch_size: 1 }", "the list of HDF5 files is not given"),
    ],
)
def test_a_layer_without_a_source(type_name: str, parameters: str, what: str) -> None:
    with pytest.raises(DataError) as raised:
        opened(data_layer(type_name, parameters))
    assert str(raised.value) == f"net.prototxt:1: layer 'd': {what}; add it to the layer's parameters"


def test_a_name_too_long_for_the_file_system_is_a_users_error() -> None:
    with pytest.raises(DataError, match="cannot be looked for: File name too long; correct the path"):
        opened(database_layer("n" * 5000))


@pytest.mark.parametrize(("tops", "field"), [("", "layer"), ("a b c", "top")], ids=["none", "three"])
def test_a_number_of_tops_that_caffe_refuses(tmp_path: Path, tops: str, field: str) -> None:
    source = write_lmdb(tmp_path / "db", numbered(1))
    parameters = f'data_param {{ source: "{source}" batch_size: 1 backend: LMDB }}'
    layer = data_layer("Data", parameters, tops=tops)
    with pytest.raises(NetError) as raised:
        opened(layer)
    assert str(raised.value) == (
        f"{place(layer, field)}: layer 'd': a Data layer has one top for the images and one for the labels, "
        f"not {len(tops.split())}; keep two"
    )


def test_the_label_may_be_left_out(tmp_path: Path) -> None:
    source = write_lmdb(tmp_path / "db", numbered(3))
    parameters = f'data_param {{ source: "{source}" batch_size: 2 backend: LMDB }}'
    opened_source = opened(data_layer("Data", parameters, tops="data"))
    assert opened_source.shapes == {"data": (2, 1, 2, 2)}
    assert set(first(opened_source, 1)[0]) == {"data"}


@pytest.mark.parametrize("batches", [None, 5])
def test_images_in_any_order_are_those_of_the_pass(tmp_path: Path, batches: int | None) -> None:
    """With what is drawn for their places, over the wrap at the end, and twice if asked for twice."""
    write_lmdb(tmp_path / "db", [raw_datum(picture(seed).transpose(2, 0, 1), seed) for seed in range(7)])
    source = opened(database_layer("db", "crop_size: 2 mirror: true", batch_size=3, phase="TRAIN"), tmp_path)
    passed = list(source.single_pass()) if batches is None else list(islice(source.batches(), batches))
    whole = {top: np.concatenate([batch[top] for batch in passed]) for top in source.tops}
    picker = source.picker(batches)
    assert picker is not None
    places = np.random.default_rng(0).permutation(len(whole["label"])).tolist()
    for some in (places[:3], places[3:], [2, 2]):
        picked = picker(some)
        for top in source.tops:
            np.testing.assert_array_equal(picked[top], whole[top][some])


def test_arrays_are_picked_as_they_are_handed_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", data=np.arange(10, dtype=np.float32).reshape(5, 2), label=np.arange(5))
    source = open_npz(tmp_path / "x.npz", {"data": None, "label": None}, 2)
    for batches, places in ((None, [4, 0, 3]), (4, [7, 5, 1])):
        passed = list(source.single_pass()) if batches is None else list(islice(source.batches(), batches))
        picker = source.picker(batches)
        assert picker is not None
        for top, values in picker(places).items():
            np.testing.assert_array_equal(values, np.concatenate([batch[top] for batch in passed])[places])
    assert open_npz(tmp_path / "x.npz", {"data": None}).picker(None) is None, "arrays of any shapes have no images"

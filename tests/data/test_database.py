"""LMDBs and LevelDBs: the order of their records, the wrap at the end, and what is said of damaged ones."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ristretto.errors import DataError, NetError, UsageError
from tests.data.sources import (
    data_layer,
    database_layer,
    encoded_datum,
    first,
    jpeg,
    labels,
    numbered,
    opened,
    picture,
    png,
    raw_datum,
    write_lmdb,
)


def test_what_is_known_on_opening(tmp_path: Path) -> None:
    source = opened(database_layer(str(write_lmdb(tmp_path / "db", numbered(7))), batch_size=3))
    assert (source.tops, source.batch_size, source.images) == (("data", "label"), 3, 7)
    assert source.shapes == {"data": (3, 1, 2, 2), "label": (3,)}
    batch = first(source, 1)[0]
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        name: (shape, np.float32) for name, shape in source.shapes.items()
    }


def test_the_end_of_a_source_and_its_start_share_a_batch(tmp_path: Path) -> None:
    source = opened(database_layer(str(write_lmdb(tmp_path / "db", numbered(7))), batch_size=3))
    batches = first(source, 5)
    assert labels(batches) == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 0]
    assert [image.max() for batch in batches for image in batch["data"]] == labels(batches)
    assert labels(first(source, 1)) == [0, 1, 2], "each call starts anew"


def test_a_batch_may_be_longer_than_the_source(tmp_path: Path) -> None:
    source = opened(database_layer(str(write_lmdb(tmp_path / "db", numbered(2))), batch_size=5))
    assert labels(first(source, 1)) == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(("images", "sizes"), [(7, [3, 3, 1]), (6, [3, 3]), (2, [2])])
def test_a_single_pass_ends_with_what_is_left(tmp_path: Path, images: int, sizes: list[int]) -> None:
    source = opened(database_layer(str(write_lmdb(tmp_path / "db", numbered(images))), batch_size=3))
    passed = list(source.single_pass())
    assert [len(batch["data"]) for batch in passed] == sizes
    assert labels(passed) == list(range(images))


def test_training_skips_fewer_than_rand_skip_and_testing_none(tmp_path: Path) -> None:
    path = str(write_lmdb(tmp_path / "db", numbered(9)))
    train = database_layer(path, phase="TRAIN", more="backend: LMDB rand_skip: 4")
    starts = {labels(first(opened(train, seed=seed), 1))[0] for seed in range(60)}
    assert starts == {0, 1, 2, 3}
    assert labels(first(opened(train, seed=5), 6)) == labels(first(opened(train, seed=5), 6))
    test = database_layer(path, more="backend: LMDB rand_skip: 4")
    assert {labels(first(opened(test, seed=seed), 1))[0] for seed in range(20)} == {0}


def test_encoded_images_are_forced_to_gray_or_color(tmp_path: Path) -> None:
    image = picture(0)
    path = str(write_lmdb(tmp_path / "db", [encoded_datum(encode(image), 1) for encode in (png, jpeg)]))
    forced = {"": 3, "force_gray: true": 1, "force_color: true": 3}
    assert {how: opened(database_layer(path, how)).shapes["data"][1] for how in forced} == forced
    gray = str(write_lmdb(tmp_path / "gray", [encoded_datum(png(image[:, :, 0]))]))
    batch = first(opened(database_layer(gray, "force_color: true")), 1)[0]["data"]
    np.testing.assert_array_equal(batch[0], np.stack([image[:, :, 0]] * 3))


def test_the_file_may_be_named_in_place_of_its_folder(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "db", numbered(3))
    assert opened(database_layer(str(tmp_path / "db" / "data.mdb"))).images == 3


def test_two_layers_may_read_one_source(tmp_path: Path) -> None:
    layer = database_layer(str(write_lmdb(tmp_path / "db", numbered(4))))
    one, other = opened(layer).batches(), opened(layer).batches()
    assert [next(source)["label"].tolist() for source in (one, other, one)] == [[0, 1], [0, 1], [2, 3]]


SMALL, LARGE = raw_datum(np.zeros((1, 2, 2), np.uint8)), raw_datum(np.zeros((1, 3, 3), np.uint8))


def test_images_of_several_sizes_do_not_share_a_batch(tmp_path: Path) -> None:
    path = str(write_lmdb(tmp_path / "db", [SMALL, LARGE]))
    with pytest.raises(DataError) as raised:
        first(opened(database_layer(path)), 1)
    assert str(raised.value) == (
        "net.prototxt:1: layer 'd': image 1 of a batch has shape [1, 3, 3], the first one [1, 2, 2]; "
        "set crop_size, resize the images (new_height, new_width), or use batch_size 1"
    )
    assert [batch["data"].shape for batch in first(opened(database_layer(path, batch_size=1)), 3)] == [
        (1, 1, 2, 2),
        (1, 1, 3, 3),
        (1, 1, 2, 2),
    ]


def cut(share: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = write_lmdb(path, [SMALL] * 500) / "data.mdb"
        whole = data.read_bytes()
        data.write_bytes(whole[: int(len(whole) * share)])

    return make


def junk(path: Path) -> None:
    path.mkdir()
    (path / "data.mdb").write_bytes(b"no database" * 1000)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no data.mdb": (Path.mkdir, "cannot open the LMDB '{db}': it holds no data.mdb; name the folder that does"),
    "empty file": (cut(0), "cannot open the LMDB '{db}': its data.mdb is empty; copy or convert it again"),
    "junk": (junk, "cannot open the LMDB '{db}': it is no LMDB; copy or convert it again"),
    "a text file": (
        lambda path: path.write_text("hello"),
        "cannot open the LMDB '{db}': it is no LMDB; copy or convert it again",
    ),
    "no records": (
        lambda path: write_lmdb(path, []),
        "the source '{db}' holds no records; fill it, or name another one",
    ),
    "record cut short": (
        lambda path: write_lmdb(path, [SMALL[:-4]]),
        "record '00000000' of {db} is no Datum (a field claims 4 bytes where 2 are left); convert the data again",
    ),
    "image cut short": (
        lambda path: write_lmdb(path, [encoded_datum(png(picture(1))[:-40])]),
        "record '00000000' of {db} holds an image that cannot be decoded; convert the data again",
    ),
}


@pytest.mark.parametrize("case", DAMAGED.values(), ids=DAMAGED)
def test_what_is_said_of_a_damaged_source(tmp_path: Path, case: tuple[Callable[[Path], object], str]) -> None:
    make, what = case
    make(tmp_path / "db")
    with pytest.raises(DataError) as raised:
        opened(database_layer(str(tmp_path / "db")))
    assert str(raised.value) == f"net.prototxt:1: layer 'd': {what.format(db=tmp_path / 'db')}"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_file_cut_short_is_refused_before_it_is_read(tmp_path: Path, share: float) -> None:
    cut(share)(tmp_path / "db")
    with pytest.raises(DataError, match=r"it is cut short: \d+ bytes of \d+; copy or convert it again$"):
        opened(database_layer(str(tmp_path / "db")))


def test_a_bad_record_further_on_is_named_by_its_key(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "db", [SMALL, SMALL, SMALL, b"\xff"])
    batches = opened(database_layer(str(path))).batches()
    next(batches)
    with pytest.raises(DataError, match=f"record '00000003' of {path} is no Datum"):
        next(batches)


def test_a_batch_size_is_needed(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "db", numbered(1))
    with pytest.raises(NetError) as raised:
        opened(data_layer("Data", f'data_param {{ source: "{path}" backend: LMDB }}'))
    assert raised.value.what == "batch_size must be at least 1"
    assert raised.value.cure == "set it to the images per batch"


@pytest.mark.parametrize(
    ("held", "backend", "what"),
    [
        ("data.mdb", "LEVELDB", "the source is an LMDB, the layer says LEVELDB; set backend: LMDB"),
        ("CURRENT", "LMDB", "the source is a LevelDB, the layer says LMDB; set backend: LEVELDB"),
    ],
)
def test_the_wrong_backend_is_seen(tmp_path: Path, held: str, backend: str, what: str) -> None:
    (tmp_path / held).touch()
    with pytest.raises(NetError) as raised:
        opened(database_layer(str(tmp_path), more=f"backend: {backend}"))
    assert str(raised.value).endswith(f"layer 'd': {what}")


def test_leveldb_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(UsageError) as raised:
        opened(database_layer(str(tmp_path), more="backend: LEVELDB"))
    assert str(raised.value) == (
        "layer 'd': LevelDB sources need the package plyvel; "
        "pip install 'ristretto-fixed-point[leveldb]', or convert the data to LMDB"
    )


class FakeLevelDb(ModuleType):
    """The part of plyvel that is used, over a dict; like the real one it holds each folder once."""

    class Error(Exception):
        """What plyvel raises; its argument is bytes."""

    def __init__(self, records: dict[bytes, bytes | None]) -> None:
        super().__init__("plyvel")
        held: set[str] = set()
        package = self

        class Database:
            def __init__(self, path: str, create_if_missing: bool) -> None:
                assert not create_if_missing
                if path in held:
                    raise package.Error(b"IO error: lock " + path.encode() + b"/LOCK: already held by process")
                held.add(path)

            def iterator(self, include_value: bool):
                assert not include_value
                return iter(sorted(records))

            def get(self, key: bytes) -> bytes | None:
                if records[key] == b"unreadable":
                    raise package.Error(b"Corruption: block checksum mismatch")
                return records[key]

        self.DB = Database


def leveldb_layer(path: Path, monkeypatch: pytest.MonkeyPatch, records: dict[bytes, bytes | None]):
    monkeypatch.setitem(sys.modules, "plyvel", FakeLevelDb(records))
    return data_layer("Data", f'data_param {{ source: "{path}" batch_size: 2 }}')


def test_leveldb_records_come_in_the_order_of_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records: dict[bytes, bytes | None] = {b"%d" % number: record for number, record in enumerate(numbered(3))}
    layer = leveldb_layer(tmp_path, monkeypatch, records)
    one, other = opened(layer), opened(layer)  # the folder is opened once for both
    assert labels(list(one.single_pass())) == labels(first(other, 2))[:3] == [0, 1, 2]


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (b"unreadable", "cannot be read (block checksum mismatch); convert the data again"),
        (None, "is in the index and not in the data; convert the data again"),
    ],
)
def test_a_leveldb_record_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: bytes | None, what: str
) -> None:
    with pytest.raises(DataError) as raised:
        opened(leveldb_layer(tmp_path, monkeypatch, {b"k": record}))
    assert str(raised.value) == f"net.prototxt:1: layer 'd': record 'k' of {tmp_path} {what}"


def test_a_leveldb_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = leveldb_layer(tmp_path, monkeypatch, {})
    sys.modules["plyvel"].DB(str(tmp_path.resolve()), create_if_missing=False)
    with pytest.raises(DataError) as raised:
        opened(layer)
    assert str(raised.value) == (
        f"net.prototxt:1: layer 'd': cannot open the LevelDB '{tmp_path}': already held by process; "
        "copy or convert it again, or set backend: LMDB if it is one"
    )


def test_a_real_leveldb(tmp_path: Path) -> None:
    plyvel = pytest.importorskip("plyvel", reason="the optional package plyvel is not installed")
    database = plyvel.DB(str(tmp_path / "db"), create_if_missing=True)
    for number, record in enumerate(numbered(3)):
        database.put(b"%d" % number, record)
    database.close()
    source = opened(data_layer("Data", f'data_param {{ source: "{tmp_path / "db"}" batch_size: 2 }}'))
    assert labels(first(source, 2)) == [0, 1, 2, 0]
    del source
    gc.collect()

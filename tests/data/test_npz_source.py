"""Arrays from an npz file in batches, and files that do not do."""

from __future__ import annotations

import struct
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.data import open_npz
from ristretto.errors import DataError, RistrettoError

DATA = np.arange(5 * 2 * 3).reshape(5, 2, 3)
LABEL = np.arange(5)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "in.npz"
    np.savez(path, data=DATA, label=LABEL, unread=np.zeros(1))
    return path


def test_batches_wrap_around(inputs: Path) -> None:
    source = open_npz(inputs, {"data": (1, 2, 3), "label": None}, 2)
    assert (source.tops, source.images, source.batch_size) == (("data", "label"), 5, 2)
    assert source.shapes == {"data": (2, 2, 3), "label": (2,)}
    batches = list(islice(source.batches(), 4))
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), [0, 1, 2, 3, 4, 0, 1, 2])
    np.testing.assert_array_equal(batches[2]["data"], DATA[[4, 0]])
    assert {array.dtype for array in batches[0].values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(next(source.batches())["label"], [0, 1])


def test_a_single_pass_ends_with_what_is_left(inputs: Path) -> None:
    passed = [batch["label"].tolist() for batch in open_npz(inputs, {"label": None}, 2).single_pass()]
    assert passed == [[0, 1], [2, 3], [4]]


def test_a_batch_is_no_longer_than_the_arrays(inputs: Path) -> None:
    source = open_npz(inputs, {"label": None}, 8)
    assert (source.batch_size, next(source.batches())["label"].tolist()) == (5, LABEL.tolist())


def test_without_a_batch_size_the_arrays_are_taken_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", data=DATA, info=np.float64(7))
    source = open_npz(tmp_path / "in.npz", {"data": None, "info": None})
    assert source.shapes == {"data": (5, 2, 3), "info": ()}
    assert [set(batch) for batch in source.single_pass()] == [{"data", "info"}]
    assert [batch["info"].item() for batch in islice(source.batches(), 2)] == [7, 7]


def test_an_array_of_the_right_size_takes_the_declared_axes(inputs: Path) -> None:
    source = open_npz(inputs, {"data": (5, 6)})
    np.testing.assert_array_equal(next(source.batches())["data"], DATA.reshape(5, 6))


@pytest.mark.parametrize(
    ("arrays", "wanted", "batch_size", "what"),
    [
        (
            {"dat": DATA, "label": LABEL},
            {"data": None, "label": None},
            2,
            "no array for blob 'data'; save the arrays under the names data, label; the file holds dat, label",
        ),
        (
            {},
            {"data": None},
            2,
            "no array for blob 'data'; save the arrays under the names data; the file holds nothing",
        ),
        (
            {"data": DATA},
            {"data": (1, 3, 2, 2)},
            2,
            "array 'data' has shape [5, 2, 3], the net declares [1, 3, 2, 2]; give it 4 axes",
        ),
        (
            {"data": DATA, "label": LABEL[:3]},
            {"data": None, "label": None},
            2,
            "the arrays have different lengths: data 5, label 3",
        ),
        ({"data": np.array(["a", "b"])}, {"data": None}, 1, "array 'data' holds <U1, numbers are needed"),
        ({"data": np.zeros((0, 3))}, {"data": None}, 1, "array 'data' is empty"),
        (
            {"data": np.array([{}], object)},
            {"data": None},
            1,
            "cannot read the arrays: it is no npz file, or damaged; write it with numpy.savez",
        ),
    ],
    ids=["a name mistyped", "empty file", "axes", "lengths", "text", "no rows", "pickled"],
)
def test_what_is_said_of_arrays_that_do_not_do(tmp_path: Path, arrays, wanted, batch_size: int, what: str) -> None:
    path = tmp_path / "in.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError) as raised:
        open_npz(path, wanted, batch_size)
    assert str(raised.value) == f"{path}: {what}"


def test_a_single_array_has_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", DATA)
    with pytest.raises(DataError, match=r"in\.npy: it holds one array without a name; write it with numpy\.savez$"):
        open_npz(tmp_path / "in.npy", {"data": None}, 1)


@pytest.mark.parametrize(("name", "why"), [("nothing.npz", "No such file or directory"), (".", "Is a directory")])
def test_a_path_that_is_no_file(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(DataError, match=f"cannot read the arrays: {why}; write it with numpy.savez$"):
        open_npz(tmp_path / name, {"data": None}, 1)


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), keep=st.floats(0, 1))
def test_a_damaged_file_is_a_users_error(tmp_path_factory, place: float, flip: int, keep: float) -> None:
    path = tmp_path_factory.mktemp("npz") / "in.npz"
    np.savez_compressed(path, data=DATA)
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= flip
    path.write_bytes(damaged[: round(keep * len(damaged))])
    try:
        open_npz(path, {"data": None}, 1)
    except RistrettoError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_arrays_that_unpack_to_more_than_there_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    monkeypatch.setenv("RISTRETTO_MAX_ARRAYS_MB", "2")
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, data=np.zeros((1024, 1024), dtype), small=np.zeros(4))
    assert path.stat().st_size < 10_000
    open_npz(path, {"small": None})
    with pytest.raises(DataError, match=r"bomb\.npz: the arrays take more than 2 MB; .*RISTRETTO_MAX_ARRAYS_MB"):
        open_npz(path, {"data": None})


def npz_of(path: Path, header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> Path:
    """An npz file of one array whose header says what it says."""
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", b"\x93NUMPY" + bytes(version) + length + text + data)
    return path


DAMAGED = "cannot read the arrays: it is no npz file, or damaged; write it with numpy.savez"


@pytest.mark.parametrize(
    "header",
    [
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**70},)}}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**30},)}}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2)}",
        "{'descr': (), 'fortran_order': False, 'shape': (2, 3)}",
        "{[]: 1}",
        "{1: 2, 'a': 3, 'shape': 3}",
        "(" * 4000,
        " " * 20_000,
    ],
    ids=["2**70", "2**30", "negative", "true", "descr", "unhashable", "keys", "deep", "long"],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)])
def test_headers_that_make_no_sense(tmp_path: Path, header: str, version: tuple[int, int]) -> None:
    path = npz_of(tmp_path / "in.npz", header, bytes(24), version)
    with pytest.raises(DataError) as raised:
        open_npz(path, {"data": None})
    assert str(raised.value) == f"{path}: {DAMAGED}"


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_members_that_cannot_be_unpacked(tmp_path: Path, inputs: Path, method: int) -> None:
    path = tmp_path / "packed.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("data.npy", zipfile.ZipFile(inputs).read("data.npy"))
    assert open_npz(path, {"data": None}).images == 5
    data = bytearray(path.read_bytes())
    for place in range(44, 70):
        data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=DAMAGED):
        open_npz(path, {"data": None})


@pytest.mark.parametrize(("dtype", "count"), [("|u1", 20 << 20), ("|V0", 2**60)])
def test_too_large_an_array_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, count: int
) -> None:
    """Nothing of it is unpacked: the name in the zip is that which numpy takes, where there are two."""
    monkeypatch.setenv("RISTRETTO_MAX_ARRAYS_MB", "90")
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda *_: pytest.fail("it was read"))
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({count},)}}"
    path = npz_of(tmp_path / "bomb.npz", header, bytes(count if dtype == "|u1" else 0))
    with pytest.raises(DataError, match=r"the arrays take more than 90 MB; .*RISTRETTO_MAX_ARRAYS_MB"):
        open_npz(path, {"data": None})


def test_a_member_without_an_end_is_taken_first_as_numpy_does(inputs: Path) -> None:
    with zipfile.ZipFile(inputs, "a") as archive:
        archive.writestr("data", b"no array")
    with pytest.raises(DataError, match=r"array 'data' holds \|S8, numbers are needed"):
        open_npz(inputs, {"data": None})

"""LMDBs whose index lies: what passes the check, the library itself can read to the end."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from ristretto.data.lmdb_check import LmdbError, check_lmdb
from tests.golden.shared import SHARED, needs_shared

ROOT = Path(__file__).parents[2]


def database(folder: Path, records: int, size: int) -> Path:
    """An LMDB with records of a size."""
    environment = lmdb.open(str(folder), map_size=1 << 24)
    with environment.begin(write=True) as transaction:
        for number in range(records):
            transaction.put(b"%08d" % number, bytes([number % 256]) * size)
    environment.close()
    return folder / "data.mdb"


@pytest.mark.parametrize(("records", "size"), [(0, 0), (1, 1), (3, 2000), (5, 4000), (900, 20), (60, 9000)])
def test_what_the_library_wrote(tmp_path: Path, records: int, size: int) -> None:
    check_lmdb(database(tmp_path / "db", records, size))


def test_the_databases_that_come_with_the_tool() -> None:
    files = list((ROOT / "models").glob("**/data.mdb"))
    assert files
    for file in files:
        check_lmdb(file)


@needs_shared
def test_large_databases() -> None:
    files = list((SHARED / "data").glob("*/data.mdb"))
    assert files
    for file in files:
        check_lmdb(file)


def put(place: int, form: str, *values: int) -> Callable[[bytearray], None]:
    """Writes numbers to a place of a file."""
    return lambda data: struct.pack_into(form, data, place, *values)


def both_metas(place: int, form: str, value: int) -> Callable[[bytearray], None]:
    """Writes a number to a place of both meta pages."""

    def change(data: bytearray) -> None:
        for page in range(2):
            struct.pack_into(form, data, page * 4096 + place, value)

    return change


META, MAIN = 16, 16 + 24 + 48
LIES: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "magic": (put(META, "<I", 1), "no LMDB"),
    "version": (put(META + 4, "<I", 9), "no LMDB"),
    "page size": (put(META + 24, "<I", 3), "claims pages of 3 bytes"),
    "flags of the main database": (both_metas(MAIN + 4, "<H", 4), "not those of Caffe"),
    "levels": (both_metas(MAIN + 6, "<H", 60), "claims 60 levels"),
    "one level less": (both_metas(MAIN + 6, "<H", 1), "of another kind"),
    "root": (both_metas(MAIN + 40, "<Q", 1 << 40), "leads to page 1099511627776"),
    "root is a meta page": (both_metas(MAIN + 40, "<Q", 1), "leads to page 1,"),
    "last page": (both_metas(MAIN + 48, "<Q", 1 << 50), "cut short"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies(tmp_path: Path, name: str) -> None:
    file = database(tmp_path / "db", 900, 20)
    change, said = LIES[name]
    data = bytearray(file.read_bytes())
    change(data)
    file.write_bytes(data)
    with pytest.raises(LmdbError, match=said):
        check_lmdb(file)


def test_a_record_that_claims_more_than_its_pages(tmp_path: Path) -> None:
    """A large record's size lies in its leaf, its pages elsewhere: to read it to its claimed end would be a crash."""
    file = database(tmp_path / "db", 3, 9000)
    data = bytearray(file.read_bytes())
    at = data.index(struct.pack("<HHHH", 9000, 0, 1, 8))
    struct.pack_into("<HH", data, at, 0, 0x7FFF)
    file.write_bytes(data)
    with pytest.raises(LmdbError, match="leads to page"):
        check_lmdb(file)


READING = """
import random, sys
from pathlib import Path
import lmdb
from ristretto.data.lmdb_check import LmdbError, check_lmdb
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
whole, rng, passed = source.read_bytes(), random.Random(5), 0
places = [at for at, byte in enumerate(whole) if byte] + list(range(0, 200))
for number in range(int(sys.argv[3])):
    data = bytearray(whole)
    for _ in range(rng.randint(1, 3)):
        data[rng.choice(places)] = rng.choice((0, 1, 2, 0xFF, rng.randrange(256)))
    if number % 50 == 0:
        data = data[: rng.randrange(len(data))]
    file = folder / str(number)
    file.write_bytes(data)
    try:
        check_lmdb(file)
        passed += 1
        with lmdb.open(str(file), readonly=True, lock=False, subdir=False) as opened:
            with opened.begin(buffers=True) as reading:
                for key in list(reading.cursor().iternext(keys=True, values=False)):
                    found = reading.get(bytes(key))
                    assert found is None or len(bytes(found)) <= len(data)
    except (LmdbError, lmdb.Error):
        pass
    file.unlink()
print(passed)
"""


@pytest.mark.parametrize(("records", "size"), [(3, 30), (400, 12), (8, 5000)])
def test_damage_never_ends_the_process(tmp_path: Path, records: int, size: int) -> None:
    file = database(tmp_path / "db", records, size)
    command = [sys.executable, "-c", READING, file, tmp_path, "600"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 600  # some damage is found, and some is in the records themselves


def leaf_of(data: bytearray) -> int:
    """Where the page of an LMDB of a single leaf begins."""
    (root,) = struct.unpack_from("<Q", data, 4096 + MAIN + 40)
    return int(root) * 4096


def test_two_places_that_lead_to_one_record(tmp_path: Path) -> None:
    """A page of such could claim a thousand times the keys that it holds."""
    file = database(tmp_path / "db", 3, 20)
    data = bytearray(file.read_bytes())
    places = leaf_of(data) + 16
    data[places + 2 : places + 4] = data[places : places + 2]
    file.write_bytes(data)
    with pytest.raises(LmdbError, match="has a record twice, or one inside another"):
        check_lmdb(file)


def test_a_record_that_reaches_into_the_next_one(tmp_path: Path) -> None:
    file = database(tmp_path / "db", 3, 20)
    data = bytearray(file.read_bytes())
    leaf = leaf_of(data)
    (second,) = struct.unpack_from("<H", data, leaf + 18)  # it lies before the first one
    struct.pack_into("<H", data, leaf + second, 40)
    file.write_bytes(data)
    with pytest.raises(LmdbError, match="has a record twice, or one inside another"):
        check_lmdb(file)


def test_a_key_that_is_longer_than_the_library_takes(tmp_path: Path) -> None:
    file = database(tmp_path / "db", 1, 1000)
    data = bytearray(file.read_bytes())
    leaf = leaf_of(data)
    (node,) = struct.unpack_from("<H", data, leaf + 16)
    for key in (511, 512):
        struct.pack_into("<HHHH", data, leaf + node, 1008 - key, 0, 0, key)
        file.write_bytes(data)
        if key == 511:
            check_lmdb(file)
    with pytest.raises(LmdbError, match="has a key of 512 bytes"):
        check_lmdb(file)

"""The cache of decoded images: bit by bit what came, within its limits, and batches that it does not change."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ristretto.caffe.netspec import LayerSpec
from ristretto.data import Batch, Cache, DataSource, open_data
from ristretto.data.cache import ENTRY_BYTES, _unnamed_file
from ristretto.data.records import RecordSource
from tests.data.sources import (
    data_layer,
    database_layer,
    encoded_datum,
    jpeg,
    numbered,
    picture,
    write_lmdb,
)

KIB = 1 << 10


def image(seed: int, size: int = KIB) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def cached(memory: int = 0, disk: int = 0, count: int = 0) -> Cache:
    """A cache that was given some images of 1 KiB."""
    cache = Cache(memory, disk)
    for number in range(count):
        cache.put(number, (image(number),))
    return cache


def held(cache: Cache, count: int) -> list[int]:
    """The images that are there, each as it was."""
    found = [number for number in range(count) if cache.get(number) is not None]
    for number in found:
        (array,) = cache.get(number) or ()
        np.testing.assert_array_equal(array, image(number))
    return found


def same_bits(one: np.ndarray, other: np.ndarray) -> None:
    assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


ANY_ARRAY = arrays.arrays(
    st.sampled_from([np.uint8, np.float32, np.float64]), arrays.array_shapes(min_dims=0, min_side=0)
) | arrays.arrays(np.float32, arrays.array_shapes(), elements=st.sampled_from([-0.0, 0, 1, 255, 256, -1, 0.5, np.nan]))


@given(st.lists(ANY_ARRAY, max_size=3), st.booleans())
def test_arrays_come_back_bit_by_bit(given: list[np.ndarray], on_disk: bool) -> None:
    cache = Cache(0 if on_disk else 1 << 20, 1 << 20)
    cache.put("key", given)
    found = cache.get("key")
    assert found is not None
    for one, other in zip(found, given, strict=True):
        same_bits(one, np.ascontiguousarray(other).reshape(other.shape))


def test_whole_numbers_of_a_byte_take_a_byte() -> None:
    values = np.arange(256, dtype=np.float32).reshape(16, 16)
    cache = Cache(1 << 20)
    cache.put("pixels", (values,))
    assert cache.in_memory == ENTRY_BYTES + 256
    cache.put("others", (-values,))
    assert cache.in_memory == 2 * ENTRY_BYTES + 256 + 1024, "-0.0 and negative numbers stay floats"


def test_what_is_kept_is_a_copy_that_nobody_writes_to() -> None:
    cache, original = Cache(1 << 20), image(0)
    cache.put(0, (original,))
    original[:] = 0
    assert held(cache, 1) == [0]
    (array,) = cache.get(0) or ()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_memory_is_filled_first_then_the_file_then_nothing_is_kept() -> None:
    entry = KIB + ENTRY_BYTES
    cache = cached(3 * entry + 100, 2 * KIB + 100, 8)
    assert held(cache, 8) == [0, 1, 2, 3, 4]
    assert (cache.in_memory, cache.on_disk) == (3 * entry, 2 * KIB)


def test_a_smaller_one_may_still_find_room() -> None:
    cache = cached(2 * KIB + 2 * ENTRY_BYTES - 1, 0, 2)
    cache.put("small", (image(9, 100),))
    assert held(cache, 2) == [0]
    assert cache.get("small") is not None


def test_a_cache_without_room_keeps_nothing() -> None:
    cache = cached(0, 0, 3)
    assert not cache.keeps
    assert held(cache, 3) == []


def test_what_lies_in_a_file_already_is_not_written_to_another() -> None:
    cache = Cache(0, 1 << 20)
    cache.put(0, (image(0),), spill=False)
    assert cache.get(0) is None
    assert cache.on_disk == 0


def test_the_file_has_no_name_and_goes_with_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = [_unnamed_file()]
    monkeypatch.setattr("ristretto.data.cache._unnamed_file", lambda: opened[0])
    cache = cached(0, 1 << 20, 3)
    assert held(cache, 3) == [0, 1, 2]
    assert not list(tmp_path.iterdir())
    assert not opened[0].closed
    del cache
    gc.collect()
    assert opened[0].closed


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, numpy as np; from ristretto.data import Cache; cache = Cache(0, 1 << 20);"
        "cache.put(0, (np.ones(99999, np.uint8),)); assert cache.on_disk; os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False).returncode == -9
    assert not list(tmp_path.iterdir())


class FullDisk:
    """A file on a disk that has room for some bytes."""

    def __init__(self, path: Path, room: int) -> None:
        self._file, self._room = path.open("w+b", buffering=0), room
        self.seek, self.readinto, self.close = self._file.seek, self._file.readinto, self._file.close

    def write(self, data: memoryview) -> int:
        count = min(len(data), self._room, 700)  # a write may do less than it is asked for
        if not count:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room -= count
        return self._file.write(data[:count])


def test_a_full_disk_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ristretto.data.cache._unnamed_file", lambda: FullDisk(tmp_path / "f", 2500))
    cache = cached(0, 1 << 20, 5)
    assert held(cache, 5) == [0, 1]
    assert cache.disk == 0


def test_no_folder_for_temporary_files_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert held(cached(0, 1 << 20, 2), 2) == []


def test_what_cannot_be_read_back_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ristretto.data.cache._unnamed_file", lambda: FullDisk(tmp_path / "f", 1 << 20))
    cache = cached(0, 1 << 20, 2)
    os.truncate(tmp_path / "f", KIB + 10)
    assert held(cache, 2) == [0]


def test_threads_may_share_a_cache() -> None:
    cache = Cache(20 * (KIB + ENTRY_BYTES), 60 * KIB)
    wrong: list[int] = []

    def work(first: int) -> None:
        for number in [*range(first, 100), *range(100), *range(100)]:
            found = cache.get(number)
            if found is None:
                cache.put(number, (image(number),))
            elif not np.array_equal(found[0], image(number)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 30, 60, 90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(held(cache, 100)) == 80


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LayerSpec]:
    """Data layers of every kind, with and without chance."""
    folder = tmp_path_factory.mktemp("sources")
    raw = str(write_lmdb(folder / "raw", numbered(7, (1, 6, 5))))
    encoded = str(write_lmdb(folder / "jpeg", [encoded_datum(jpeg(picture(n)), n) for n in range(5)]))
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), picture(number))
    (folder / "list.txt").write_text("".join(f"{folder}/{number}.png {number}\n" for number in range(5)))
    listed = (
        f'image_data_param {{ source: "{folder}/list.txt" batch_size: 3 shuffle: true new_height: 6 new_width: 7 }}'
    )
    made = {
        "raw": database_layer(raw, "scale: 0.25", batch_size=3),
        "raw, drawn": database_layer(raw, "mirror: true crop_size: 4", batch_size=3, phase="TRAIN"),
        "jpeg": database_layer(encoded, "mean_value: 104 mean_value: 117.5 mean_value: 3 crop_size: 7"),
        "jpeg, drawn": database_layer(encoded, "mirror: true crop_size: 7", phase="TRAIN"),
        "shuffled": data_layer("ImageData", listed),
    }
    try:
        import h5py
    except ImportError:
        return made
    for number in range(2):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file.create_dataset(
                "data", data=np.random.default_rng(number).random((3, 4), np.float32), compression="gzip"
            )
            file["label"] = np.arange(3.0)
    (folder / "h5.txt").write_text(f"{folder}/0.h5\n{folder}/1.h5\n")
    made["hdf5"] = data_layer(
        "HDF5Data", f'hdf5_data_param {{ source: "{folder}/h5.txt" batch_size: 4 shuffle: true }}'
    )
    return made


KINDS = ("raw", "raw, drawn", "jpeg", "jpeg, drawn", "shuffled", "hdf5")
ROOMS = st.sampled_from([(0, 1 << 20), (1 << 20, 0), (2000, 1000), (1500, 1 << 20), (3000, 0)])


def started(source: DataSource, single: bool) -> Iterator[Batch]:
    return source.single_pass() if single else source.batches()


@settings(deadline=None, max_examples=40)
@given(kind=st.sampled_from(KINDS), room=ROOMS, seed=st.integers(0, 3), steps=st.lists(st.integers(0, 5), max_size=40))
def test_passes_in_any_order_give_what_a_fresh_source_gives(
    layers: dict[str, LayerSpec], kind: str, room: tuple[int, int], seed: int, steps: list[int]
) -> None:
    assume(kind in layers)
    source = open_data(layers[kind], data_root=None, seed=seed, cache=Cache(*room))
    fresh = open_data(layers[kind], data_root=None, seed=seed)
    expected = {single: list(islice(started(fresh, single), 41)) for single in (False, True)}
    passes: list[tuple[bool, Iterator[Batch], int]] = []
    for step in steps:  # 0 and 1 start a pass, the others take the next batch of one of those that are under way
        if step < 2 or not passes:
            passes.append((step == 1, started(source, step == 1), 0))
            continue
        single, batches, number = passes.pop(step % len(passes))
        batch = next(batches, None)
        assert (batch is None) == (number >= len(expected[single]))
        if batch is not None:
            assert batch.keys() == expected[single][number].keys()
            for top, array in batch.items():
                same_bits(array, expected[single][number][top])
            passes.append((single, batches, number + 1))


def counting(source: RecordSource, monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Counts how often each item of a source is read and decoded."""
    counts: Counter[int] = Counter()
    read = source.read()

    def count(number: int) -> tuple[np.ndarray, float]:
        counts[number] += 1
        return read(number)

    monkeypatch.setattr(source, "read", lambda: count)
    return counts


@pytest.mark.parametrize("kind", ["raw", "raw, drawn", "jpeg", "jpeg, drawn", "shuffled"])
def test_every_image_is_decoded_once(layers: dict[str, LayerSpec], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_data(layers[kind], data_root=None, seed=0, cache=Cache(1 << 20))
    assert isinstance(source, RecordSource)
    counts = counting(source, monkeypatch)
    for _ in range(3):
        list(islice(source.batches(), 9))
        list(source.single_pass())
    assert counts == Counter(range(1, source.images)), "the first was read when the source was opened"


def test_what_finds_no_room_is_decoded_again(layers: dict[str, LayerSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    size = 3 * 10 * 12 + 8 + ENTRY_BYTES
    source = open_data(layers["jpeg"], data_root=None, seed=0, cache=Cache(2 * size, 0))
    assert isinstance(source, RecordSource)
    counts = counting(source, monkeypatch)
    for _ in range(3):
        list(source.single_pass())
    assert counts == Counter({1: 1, 2: 3, 3: 3, 4: 3})


def test_sources_share_the_images_that_they_both_read(
    layers: dict[str, LayerSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(1 << 20)
    list(open_data(layers["jpeg, drawn"], data_root=None, seed=0, cache=cache).single_pass())
    other = open_data(layers["jpeg"], data_root=None, seed=0, cache=cache)
    assert isinstance(other, RecordSource)
    counts = counting(other, monkeypatch)
    list(other.single_pass())
    assert not counts


def test_sources_that_decode_differently_share_nothing(tmp_path: Path) -> None:
    """The same files in gray and in color, as large as they are and resized, from two lists with other labels."""
    encoded = str(write_lmdb(tmp_path / "jpeg", [encoded_datum(jpeg(picture(n)), n) for n in range(2)]))
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    sources = [database_layer(encoded, forced) for forced in ("", "force_color: true", "force_gray: true")]
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{tmp_path}/0.png {ord(name[0])}\n{tmp_path}/1.png 0\n")
        for more in ("", "is_color: false", "new_height: 5 new_width: 4"):
            image_data = f'image_data_param {{ source: "{tmp_path}/{name}" batch_size: 2 {more} }}'
            sources.append(data_layer("ImageData", image_data))
    cache = Cache(1 << 20)
    for layer in sources:
        (batch,) = open_data(layer, data_root=None, seed=0, cache=cache).single_pass()
        (expected,) = open_data(layer, data_root=None, seed=0).single_pass()
        for top, array in expected.items():
            same_bits(batch[top], array)


def test_raw_images_stay_out_of_the_file_and_decoded_ones_go_there(layers: dict[str, LayerSpec]) -> None:
    for kind, written in (("raw", 0), ("jpeg", 5 * (3 * 10 * 12 + 8)), ("shuffled", 5 * (3 * 6 * 7 + 8))):
        cache = Cache(0, 1 << 20)
        list(open_data(layers[kind], data_root=None, seed=0, cache=cache).single_pass())
        assert cache.on_disk == written

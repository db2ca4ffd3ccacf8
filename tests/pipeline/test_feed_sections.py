"""Some batches of a pass are those that the whole pass has there."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.caffe.netspec import Phase
from ristretto.data import Batch, open_npz
from ristretto.pipeline.feed import Feed
from tests.data.sources import database_layer, numbered, opened, write_lmdb


def whole(feed: Feed, batches: int | None) -> list[Batch]:
    return list(feed.single_pass() if batches is None else islice(feed.batches(), batches))


def assert_sections_are_it(feed: Feed, batches: int | None, size: int) -> None:
    expected, picker = whole(feed, batches), feed.picker(batches)
    count = feed.batches_of(batches)
    assert count == len(expected)
    found = [
        batch
        for first in reversed(range(0, count, size))
        for batch in list(feed.section(batches, first, min(size, count - first), picker))[::-1]
    ][::-1]
    for mine, wanted in zip(found, expected, strict=True):
        assert mine.keys() == wanted.keys()
        assert all(np.array_equal(mine[top], wanted[top]) for top in wanted)


@given(
    images=st.integers(1, 40), batch=st.integers(1, 12), batches=st.none() | st.integers(1, 12), size=st.integers(1, 5)
)
def test_arrays(
    tmp_path_factory: pytest.TempPathFactory, images: int, batch: int, batches: int | None, size: int
) -> None:
    path = tmp_path_factory.mktemp("npz") / "some.npz"
    np.savez(path, data=np.arange(3.0 * images).reshape(images, 3), label=np.arange(images))
    assert_sections_are_it(Feed((open_npz(path, {"data": None, "label": None}, batch),)), batches, size)


@pytest.mark.parametrize("batches", [None, 2, 9])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_records_that_are_skipped_cropped_and_mirrored(tmp_path: Path, phase: Phase, batches: int | None) -> None:
    write_lmdb(tmp_path / "lmdb", numbered(23, (3, 6, 6)))
    more = "backend: LMDB rand_skip: 9"
    source = str(tmp_path / "lmdb")
    layer = database_layer(source, "crop_size: 4 mirror: true", batch_size=4, more=more, phase=phase)
    assert_sections_are_it(Feed((opened(layer, seed=3),)), batches, 2)


@pytest.mark.parametrize("batches", [None, 7])
def test_sources_of_different_lengths(tmp_path: Path, batches: int | None) -> None:
    for name, count in (("long", 30), ("short", 11)):
        np.savez(tmp_path / f"{name}.npz", **{name: np.arange(float(count))})
    sources = tuple(open_npz(tmp_path / f"{name}.npz", {name: None}, 4) for name in ("long", "short"))
    assert_sections_are_it(Feed(sources), batches, 2)


@pytest.mark.parametrize("batches", [None, 7])
def test_a_source_that_is_read_from_its_start(tmp_path: Path, batches: int | None) -> None:
    h5py = pytest.importorskip("h5py", reason="the optional package h5py is not installed")
    from tests.data.test_hdf5_source import layer_over

    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["data"], file["label"] = np.arange(22.0).reshape(11, 2), np.arange(11.0)
    layer = layer_over(tmp_path, "one.h5", more="batch_size: 3 shuffle: true")
    feed = Feed((opened(layer, tmp_path, seed=5),))
    assert feed.picker(batches) is None
    assert_sections_are_it(feed, batches, 2)

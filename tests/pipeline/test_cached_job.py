"""A whole job reads and decodes every image once, and comes to the same result as one that does so in every pass."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from ristretto.data.database import DatabaseSource
from ristretto.data.records import Reader
from ristretto.errors import UsageError
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from ristretto.report.events import BatchDone, Event
from ristretto.report.jsonfile import report_to_json
from ristretto.report.model import Report

MODELS = Path(__file__).parents[2] / "models"


def job(cache_mb: int, cache_disk_mb: int = 0) -> QuantizeOptions:
    folder = MODELS / "digits_lenet"
    return QuantizeOptions(
        folder / "train_val.prototxt",
        (folder / "digits_lenet.caffemodel",),
        data_root=MODELS,
        iterations=None,
        calibration_batches=4,
        ladder=(8, 4),
        cache_mb=cache_mb,
        cache_disk_mb=cache_disk_mb,
    )


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """Counts how often each record of each database is read."""
    counts: Counter[tuple[str, int]] = Counter()
    plain = DatabaseSource.read

    def counted(source: DatabaseSource) -> Reader:
        read = plain(source)

        def one(number: int) -> tuple[object, float]:
            counts[source.describe(number), number] += 1
            return read(number)

        return one  # type: ignore[return-value]

    monkeypatch.setattr(DatabaseSource, "read", counted)
    return counts


def without_times(report: Report) -> dict[str, object]:
    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {key: strip(held) for key, held in value.items() if "seconds" not in key}
        return [strip(held) for held in value] if isinstance(value, list) else value

    stripped = strip(report_to_json(report, ""))
    assert isinstance(stripped, dict)
    return stripped


def test_a_job_reads_every_image_once(reads: Counter[tuple[str, int]]) -> None:
    cached = quantize(job(512))
    assert cached.baseline.images > 100
    assert len(reads) == cached.baseline.images + 4 * 64, "the TEST source, and four batches of the TRAIN source"
    assert set(reads.values()) == {1}
    reads.clear()
    plain = quantize(job(0))
    assert min(reads.values()) > 1
    assert without_times(plain) == without_times(cached)


def test_a_job_that_fails_leaves_no_thread_behind() -> None:
    def enough(event: Event) -> None:
        if isinstance(event, BatchDone):
            raise UsageError("enough")

    with pytest.raises(UsageError, match="enough"):
        quantize(job(512), enough)
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^cache_mb cannot be -1; use a number from 0 to "):
        quantize(job(-1))

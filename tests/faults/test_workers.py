"""A worker that is lost costs nothing but time, wherever it was; workers that are all lost end the job in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ristretto.pipeline import shards
from tests.cli.runner import Outcome, ristretto
from tests.faults import dying
from tests.faults.commands import DATA, JOB, RESNET, content
from tests.runtime.tasks import WORN

Capture = pytest.CaptureFixture[str]


NET = ("--model", RESNET / "train_val.prototxt", "--weights", RESNET / "digits_resnet.caffemodel")
"""A net whose TRAIN phase draws no random numbers, so that workers may have it."""


def quantize(capsys: Capture, folder: Path, *more: object) -> Outcome:
    words = ("quantize", *NET, *DATA, *JOB, "--iterations", 4, "--calibration_batches", 2, "--ladder", "8", *more)
    outputs = ("--model_quantized", folder / "q.prototxt", "--save_ranges", folder / "ranges.json")
    folder.mkdir(exist_ok=True)
    return ristretto(capsys, *words, *outputs)


@pytest.mark.slow
@pytest.mark.parametrize("where", [dying.in_baseline, dying.in_calibration], ids=lambda where: where.__name__)
def test_a_worker_is_lost(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any) -> None:
    assert quantize(capsys, tmp_path / "alone").status == 0
    monkeypatch.setenv(WORN, str(tmp_path))
    monkeypatch.setattr(shards, "run_shard", where)
    assert quantize(capsys, tmp_path / "shared", "--workers", 2).status == 0
    assert (tmp_path / "mark").exists(), "no worker was lost"
    assert content(tmp_path / "shared") == content(tmp_path / "alone")


def test_all_workers_are_lost(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "run_shard", dying.always)
    outcome = quantize(capsys, tmp_path / "out", "--workers", 2)
    assert outcome.status == 2
    assert "3 worker processes ended while they ran the same images" in outcome.message
    assert "give fewer --workers" in outcome.message
    assert content(tmp_path / "out") == {}

"""FC candidates begin where the float convolutions end, and score the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from ristretto.pipeline import prefix
from ristretto.pipeline.feed import Feed
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from ristretto.report.events import BatchDone, Event
from ristretto.report.model import Report

MODELS = Path(__file__).parents[2] / "models"


def job(monkeypatch: pytest.MonkeyPatch, limit: int, iterations: int | None) -> tuple[Report, int, list[Event]]:
    """The report, how often data was read from the start, and what was heard."""
    monkeypatch.setattr(prefix, "PREFIX_BYTES", limit)
    passes = 0
    for name in ("batches", "single_pass"):
        read = getattr(Feed, name)

        def counted(self: Feed, read: object = read) -> object:
            nonlocal passes
            passes += 1
            return read(self)  # type: ignore[operator]

        monkeypatch.setattr(Feed, name, counted)
    net = MODELS / "digits_lenet"
    heard: list[Event] = []
    options = QuantizeOptions(
        net / "train_val.prototxt",
        (net / "digits_lenet.caffemodel",),
        iterations=iterations,
        data_root=MODELS,
        bw_conv_params=8,
        bw_activations=8,
        error_margin=1,
        range_rule="max",
    )
    report = quantize(options, heard.append)
    monkeypatch.undo()
    return report, passes, [event for event in heard if isinstance(event, BatchDone)]


@pytest.mark.parametrize("iterations", [2, None])
def test_the_same_scores_from_fewer_passes(monkeypatch: pytest.MonkeyPatch, iterations: int | None) -> None:
    without, all_passes, heard = job(monkeypatch, 0, iterations)
    found, passes, heard_too = job(monkeypatch, 1 << 28, iterations)
    trials = found.ladders["fc"].trials
    assert len(trials) > 1
    assert found.ladders == without.ladders
    assert found.combined.outputs == without.combined.outputs
    assert heard_too == heard
    assert passes == all_passes - len(trials)


def test_too_much_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _, all_passes, _ = job(monkeypatch, 0, 2)
    _, passes, _ = job(monkeypatch, 1 << 10, 2)
    assert passes == all_passes

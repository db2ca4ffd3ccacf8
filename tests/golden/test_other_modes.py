"""Runs of the original in its two other modes, done over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.dialects.fields import read_plan
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.options import QuantizeOptions, TrimmingMode
from ristretto.pipeline.quantize import quantize
from ristretto.report.events import Event
from ristretto.report.glog import event_lines, summary_lines
from ristretto.report.model import Report
from tests.golden.shared import SHARED, messages, needs_shared

pytestmark = [needs_shared, pytest.mark.slow]

NET = SHARED / "models/lenet_mnist"


@pytest.fixture(autouse=True)
def _in_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHARED)


def done_over(mode: TrimmingMode, folder: Path, **more: object) -> tuple[Report, list[str]]:
    heard: list[str] = []

    def listen(event: Event) -> None:
        heard.extend(line.text for line in event_lines(event))

    options = QuantizeOptions(
        NET / "train_test.prototxt",
        (NET / "lenet_iter_10000.caffemodel",),
        folder / "q.prototxt",
        mode,
        iterations=100,
        error_margin=1,
        rounding=Rounding.HALF_AWAY,
        threads=1,
        **more,  # type: ignore[arg-type]
    )
    report = quantize(options, listen)
    return report, [*heard, *(line.text for line in summary_lines(report))]


@pytest.mark.parametrize("mode", ["minifloat", "integer_power_of_2_weights"])
def test_formats_and_log_are_the_originals(mode: TrimmingMode, tmp_path: Path) -> None:
    """All formats and all messages but the scores: the original's CPU build leaves most values float in both modes."""
    golden = SHARED / f"golden/runs/lenet_{mode}"
    report, lines = done_over(mode, tmp_path, preset="original", dialect="original")
    ours, theirs = (
        read_plan(build_net(read_prototxt(path))) for path in (tmp_path / "q.prototxt", golden / "quantized.prototxt")
    )
    assert ours == theirs
    log = messages((golden / "log.txt").read_text())
    log = log[log.index("Use CPU.") :]
    number = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
    assert [number.sub("#", line) for line in lines] == [number.sub("#", line) for line in log]
    assert report.baseline.score == pytest.approx(0.9908, abs=1e-6)
    # All 10,000 images; the formats differ from float by little, so the faulty scores are not far off.
    assert report.combined.score == pytest.approx(float(log[-2].split()[-1]), abs=0.005)


def test_power_of_two_weights_alone_score_as_the_originals_cpu_build(tmp_path: Path) -> None:
    """There the activations stay float, so its score is that of the weights."""
    report, _ = done_over("integer_power_of_2_weights", tmp_path, skip=("*:activations",))
    assert report.combined.score == pytest.approx(0.9903, abs=1e-6)

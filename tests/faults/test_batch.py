"""``ristretto batch`` under faults: what cannot be written fails one job, and the next call goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ristretto.cli.jobs_run import Batch
from ristretto.cli.main import cli, main
from ristretto.errors import UsageError
from tests.cli.runner import MODELS, Outcome, ristretto
from tests.faults.injected import faults

Capture = pytest.CaptureFixture[str]

DEFAULTS = f"""root: {MODELS}
defaults: {{model: digits_lenet/train_val.prototxt, weights: digits_lenet/digits_lenet.caffemodel, iterations: 1,
           trimming_mode: dynamic_fixed_point, data_root: {MODELS}, calibration_batches: 1, error_margin: 50}}
jobs:
"""
TESTS = "  - {name: a, command: test}\n  - {name: b, command: test, rounding: half_away}\n"


def in_this_process(self: Batch, words: Sequence[str], log: Path) -> tuple[int, str]:
    """Run a job here, where its calls are heard too."""
    with log.open("w"):
        where = Path.cwd()
        os.chdir(self.root)
        try:
            status = main(list(words))
        finally:
            os.chdir(where)
    return status, "" if status == 0 else "it failed"


def facts(out: Path) -> list[dict[str, Any]]:
    return [{**job, "seconds": 0} for job in json.loads((out / "summary.json").read_text())["jobs"]]


@pytest.mark.parametrize("step", [19, pytest.param(1, marks=pytest.mark.slow)])
def test_whichever_call_fails(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(Batch, "_ran", in_this_process)
    (tmp_path / "jobs.yaml").write_text(DEFAULTS + TESTS)

    def run(name: str, **asked: Any) -> tuple[Outcome, list[str]]:
        with faults(tmp_path / name, **asked) as heard:
            outcome = ristretto(capsys, "batch", tmp_path / "jobs.yaml", "--output", tmp_path / name)
        return outcome, heard.calls

    whole, calls = run("whole")
    assert whole.status == 0
    assert len(calls) > 15
    for first in range(0, len(calls), step):
        for how in ({"error": errno.EIO}, {"for_good": True}):
            name = f"{first}{len(how)}{'for_good' in how}"
            outcome, _ = run(name, first=first, **how)
            assert outcome.status in (0, 2), (calls[first], outcome)
            assert "our fault" not in outcome.err
            for path in (tmp_path / name).rglob("*.json"):
                json.loads(path.read_text())
            assert not list((tmp_path / name).rglob(".*"))
            again, _ = run(name)
            assert again.status == 0
            assert facts(tmp_path / name) == facts(tmp_path / "whole")


def test_a_summary_that_cannot_be_written_for_a_while_ends_no_job(tmp_path: Path) -> None:
    told: list[int] = []

    def finished(done: Sequence[object]) -> None:
        told.append(len(done))
        if len(told) == 1:
            raise UsageError("cannot write: No space left on device")

    class Quick(Batch):
        def _one(self, job: Any) -> Any:
            time.sleep(0.1)
            return job

    jobs: Any = [1, 2, 3]
    assert Quick(jobs, tmp_path, tmp_path).run(1, finished) == jobs
    assert told[-1] == 3


class Ran(Batch):
    """A batch whose commands end as they are told to, and are kept."""

    def __init__(self, *arguments: Any, ends: list[tuple[int, str]], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.ends, self.words = ends, []

    def _ran(self, words: Sequence[str], log: Path) -> tuple[int, str]:
        self.words.append(list(words))
        return self.ends.pop(0)


def job_of(folder: Path, more: str = "") -> Any:
    from ristretto.cli.jobs_file import read_jobs

    (folder / "jobs.yaml").write_text(f"{DEFAULTS}  - {{name: j{more}}}\n")
    command = cli.get_command(None, "quantize")  # type: ignore[arg-type]
    assert command is not None
    return read_jobs(folder / "jobs.yaml", {"quantize": command}, folder / "out").jobs[0]


def test_a_job_that_was_stopped_goes_on_from_its_scores(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    scores = tmp_path / "out" / "j" / "quantized.prototxt.scores"
    scores.parent.mkdir(parents=True)
    batch = Ran([job], MODELS, tmp_path / "out", ends=[(0, "")])
    batch._ran_on(job, tmp_path / "log")
    assert "--resume" not in batch.words[0]
    scores.touch()
    damaged = (2, f"{scores}: these scores are another job's: its --seed was 1, here it is 2; begin anew")
    for ends, resumed in (
        ([(0, "")], [True]),
        ([damaged, (0, "")], [True, False]),
        ([(2, f"{tmp_path}/x: cannot write: No space left on device")], [True]),
    ):
        batch = Ran([job], MODELS, tmp_path / "out", ends=ends)
        batch._ran_on(job, tmp_path / "log")
        assert ["--resume" in words for words in batch.words] == resumed
    batch = Ran([job], MODELS, tmp_path / "out", force=True, ends=[(0, "")])
    batch._ran_on(job_of(tmp_path, ", resume: true"), tmp_path / "log")
    assert "--resume" not in batch.words[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_batch_that_is_killed_in_a_search(capsys: Capture, tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "jobs.yaml").write_text(DEFAULTS.replace("iterations: 1,", "iterations: 200,") + "  - {name: long}\n")
    words = [sys.executable, "-m", "ristretto", "batch", "jobs.yaml", "--output", "out"]
    environment = {**os.environ, "PYTHONPATH": str(MODELS.parent)}
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, env=environment)
    scores = tmp_path / "out" / "long" / "quantized.prototxt.scores"
    while not scores.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    assert process.wait() == (-9 if how == signal.SIGKILL else 143)
    outcome = ristretto(capsys, "batch", tmp_path / "jobs.yaml", "--output", tmp_path / "out")
    assert outcome.status == 0
    assert "Going on from" in (tmp_path / "out" / "long" / "log.txt").read_text()
    assert not scores.exists()


def test_a_state_that_makes_no_sense_is_run_again(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batch, "_ran", in_this_process)
    (tmp_path / "jobs.yaml").write_text(DEFAULTS + TESTS)
    words = ("batch", tmp_path / "jobs.yaml", "--output", tmp_path / "out")
    assert ristretto(capsys, *words).status == 0
    file = tmp_path / "out" / "a" / "job.json"
    state = json.loads(file.read_text())
    for wrong in ({"inputs": [1]}, {"status": None}, {"seconds": "x"}):
        file.write_text(json.dumps({**state, **wrong}))
        outcome = ristretto(capsys, *words)
        assert outcome.status == 0
        assert [line for line in outcome.err.splitlines() if line.endswith(": runs")] == ["a: runs"]


def test_a_report_of_something_else_is_said(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "_ran", in_this_process)
    widths = "bw_conv_params: 8, bw_fc_params: 8, bw_activations: 8"
    (tmp_path / "jobs.yaml").write_text(f"{DEFAULTS}  - {{name: a, {widths}}}\n")
    words = ("batch", tmp_path / "jobs.yaml", "--output", tmp_path / "out")
    assert ristretto(capsys, *words).status == 0
    (tmp_path / "out" / "a" / "report.json").write_text('{"net": "x", "size": 3}')
    outcome = ristretto(capsys, *words)
    assert outcome.status == 0
    assert "report.json is no report of this job: --force runs it again" in outcome.out

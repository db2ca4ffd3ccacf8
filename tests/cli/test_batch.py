"""``ristretto batch``: what a file of jobs says, and jobs run, kept, failed and interrupted."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ristretto.cli.jobs_file import JobsFile, read_jobs
from ristretto.cli.quantize import quantize
from ristretto.cli.test import test as score_command
from ristretto.errors import UsageError
from tests.cli.runner import MODELS, ristretto

COMMANDS: dict[str, click.Command] = {"quantize": quantize, "test": score_command}

DEFAULTS = """\
defaults:
  model: digits_lenet/train_val.prototxt
  weights: digits_lenet/digits_lenet.caffemodel
  trimming_mode: dynamic_fixed_point
  iterations: 1
"""


def parsed(folder: Path, text: str) -> JobsFile:
    path = folder / "jobs.yaml"
    path.write_text(text)
    return read_jobs(path, COMMANDS)


def test_a_matrix_makes_a_job_of_every_combination(tmp_path: Path) -> None:
    text = (
        DEFAULTS
        + "jobs:\n  - name: n\n    matrix: {bw-conv-params: [8, 4], static: [10.10, 8.8]}\n  - per_channel: yes\n"
    )
    found = parsed(tmp_path, text).jobs
    assert [job.name for job in found] == [
        "n_bw_conv_params-8_static-10.10",
        "n_bw_conv_params-8_static-8.8",
        "n_bw_conv_params-4_static-10.10",
        "n_bw_conv_params-4_static-8.8",
        "train_val",
    ]
    assert "--static=10.10" in found[0].arguments
    assert "--per_channel" in found[4].arguments
    assert found[0].inputs == (Path("digits_lenet/train_val.prototxt"), Path("digits_lenet/digits_lenet.caffemodel"))


def test_flags_of_one_command_do_not_reach_the_other(tmp_path: Path) -> None:
    text = DEFAULTS + "jobs:\n  - {command: test, name: t}\n  - {name: q, no_fold: true}\n"
    with pytest.raises(UsageError, match=r"jobs.yaml:8: ristretto quantize has no flag 'no_fold'; did you mean 'fold'"):
        parsed(tmp_path, text)
    (first, second) = parsed(tmp_path, text.replace("no_fold: true", "fold: false, skip: [a, b]")).jobs
    assert not any("trimming_mode" in word for word in first.arguments)
    assert [word for word in second.arguments if word in ("--no-fold", "--no_fold")]
    assert list(second.arguments).count("--skip") == 2


@settings(max_examples=50, deadline=None)
@given(
    widths=st.lists(st.integers(1, 32), min_size=1, max_size=4, unique=True),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
)
def test_names_of_a_matrix_differ(
    tmp_path_factory: pytest.TempPathFactory, widths: list[int], seeds: list[int]
) -> None:
    text = DEFAULTS + f"jobs:\n  - matrix: {{bw_fc_params: {widths}, seed: {seeds}}}\n"
    found = parsed(tmp_path_factory.mktemp("jobs"), text).jobs
    assert len({job.name for job in found}) == len(widths) * len(seeds)
    assert {job.arguments[-2:] for job in found} == {
        (f"--bw_fc_params={bw}", f"--seed={seed}") for bw in widths for seed in seeds
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs: [", r"jobs.yaml:1: this is no YAML"),
        ("jobs: []", "there are no jobs"),
        ("job: []", "jobs.yaml:1: the file has no 'job'; did you mean 'jobs'"),
        ("- a\n", "jobs.yaml:1: the file is no mapping"),
        (DEFAULTS + "jobs:\n  - bw_conv_param: 8\n", "jobs.yaml:7: .*'bw_conv_param'; did you mean 'bw_conv_params'"),
        (DEFAULTS + "jobs:\n  - name: a\n    bw_conv_params: 99\n", "jobs.yaml:8: .*99 is not in the range"),
        (DEFAULTS + "jobs:\n  - name: a\n  - name: A\n", "jobs.yaml:8: two jobs have the name 'A', .* line 7"),
        (DEFAULTS + "jobs:\n  - report: x.json\n", "jobs.yaml:7: 'report' is placed by batch"),
        (DEFAULTS + "jobs:\n  - command: fold\n", "jobs.yaml:7: there is no job 'fold'; use one of quantize, test"),
        (DEFAULTS + "jobs:\n  - matrix: {seed: 3}\n", "jobs.yaml:7: matrix: 'seed' is no list"),
        (DEFAULTS + "jobs:\n  - {seed: 3, matrix: {seed: [3]}}\n", "jobs.yaml:7: 'seed' has a value and stands in"),
        (DEFAULTS + "jobs:\n  - {seed: 3, seed: 4}\n", "jobs.yaml:7: 'seed' stands here twice"),
        (DEFAULTS + "jobs:\n  - per_channel: 3\n", "jobs.yaml:7: 'per_channel' is true or false"),
        ("jobs:\n  - model: a.prototxt\n", "jobs.yaml:2: Missing option '--weights'"),
        ("root: nowhere\njobs: [{}]", "jobs.yaml:1: root: there is no folder nowhere"),
        ("defaults: {modle: a}\njobs: [{}]", "jobs.yaml:1: no job has a flag 'modle'; did you mean 'model'"),
        (DEFAULTS + "jobs:\n" + "  - &a [*a]\n", "jobs.yaml:7: "),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(tmp_path, text)


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outcome = ristretto(capsys, "batch", tmp_path / "none.yaml", "--output", tmp_path / "out")
    assert outcome.status == 2
    assert "cannot read the jobs" in outcome.message
    assert not (tmp_path / "out").exists()


def jobs_yaml(folder: Path, jobs: str) -> Path:
    path = folder / "jobs.yaml"
    path.write_text(f"root: {MODELS}\n" + DEFAULTS + "jobs:\n" + jobs)
    return path


FIXED = "bw_conv_params: 8, bw_fc_params: 8, bw_activations: 8"


def test_jobs_are_run_summed_up_and_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = jobs_yaml(
        tmp_path,
        f"  - {{name: good, {FIXED}}}\n"
        "  - {name: bad, weights: none.caffemodel}\n"
        "  - {name: float, command: test}\n",
    )
    out = tmp_path / "out"
    first = ristretto(capsys, "batch", path, "--output", out)
    assert first.status == 2
    rows = list(csv.DictReader((out / "summary.csv").open()))
    facts = json.loads((out / "summary.json").read_text())["jobs"]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    report = json.loads((out / "good" / "report.json").read_text())
    assert facts[0]["score"] == report["combined"]["score"] == float(rows[0]["score"])
    assert facts[0]["widths"] == "conv 8, fc 8, activations 8"
    assert facts[2]["score"] == report["baseline"]["score"]
    assert "none.caffemodel: cannot read the weights" in first.out
    assert first.out.splitlines()[1].split()[:2] == ["good", "DigitsLeNet"]
    assert "Running for" in (out / "good" / "log.txt").read_text()

    path.write_text(path.read_text().replace("none.caffemodel", "digits_lenet/digits_lenet.caffemodel, " + FIXED))
    second = ristretto(capsys, "batch", path, "--output", out)
    assert second.status == 0
    assert second.err.splitlines()[0] == "good: was done before"
    assert [item["status"] for item in json.loads((out / "summary.json").read_text())["jobs"]] == [
        "unchanged",
        "done",
        "unchanged",
    ]
    (out / "good" / "quantized.prototxt").unlink()
    third = ristretto(capsys, "batch", path, "--output", out, "--quiet")
    assert third.err == ""
    assert [item["status"] for item in json.loads((out / "summary.json").read_text())["jobs"]] == [
        "done",
        "unchanged",
        "unchanged",
    ]


def test_a_changed_input_is_run_again_and_a_missed_margin_is_strict(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    weights = tmp_path / "w.caffemodel"
    weights.write_bytes((MODELS / "digits_lenet" / "digits_lenet.caffemodel").read_bytes())
    path = jobs_yaml(
        tmp_path, f"  - {{name: narrow, weights: {weights}, bw_conv_params: 1, bw_fc_params: 1, bw_activations: 1}}\n"
    )
    words = ("batch", path, "--output", tmp_path / "out", "--strict")
    assert ristretto(capsys, *words).status == 3
    assert "was done before" in ristretto(capsys, *words).err
    os.utime(weights, ns=(1, 1))
    assert "narrow: runs" in ristretto(capsys, *words).err
    assert "narrow: runs" in ristretto(capsys, *words, "--force").err


def test_the_first_failure_ends_it_where_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = jobs_yaml(tmp_path, "  - {name: bad, weights: none.caffemodel}\n  - {name: late, command: test}\n")
    outcome = ristretto(capsys, "batch", path, "--output", tmp_path / "out", "--stop_on_error")
    assert outcome.status == 2
    assert [item["status"] for item in json.loads((tmp_path / "out" / "summary.json").read_text())["jobs"]] == [
        "failed",
        "not run",
    ]


def test_a_dry_run_prints_commands_that_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = jobs_yaml(tmp_path, "  - {name: float, command: test}\n")
    outcome = ristretto(capsys, "batch", path, "--output", tmp_path / "out", "--dry_run")
    assert outcome.status == 0
    assert not (tmp_path / "out").exists()
    line = outcome.out.strip().replace("ristretto test", f"{sys.executable} -m ristretto test")
    (tmp_path / "out" / "float").mkdir(parents=True)
    subprocess.run(["sh", "-c", line], check=True, capture_output=True)
    assert (tmp_path / "out" / "float" / "report.json").exists()


def test_the_example_of_the_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (MODELS.parent / "docs" / "batch.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "models").symlink_to(MODELS)
    (tmp_path / "jobs.yaml").write_text(example)
    monkeypatch.chdir(tmp_path)
    outcome = ristretto(capsys, "batch", "jobs.yaml", "--output", "results")
    assert outcome.status == 0
    shown = page.partition("```text\n")[2].partition("```")[0].splitlines()
    for made, told in zip(outcome.out.splitlines(), shown, strict=True):
        assert made.split()[:-2] == told.split()[:-2]


def begun(path: Path, out: Path) -> subprocess.Popen[bytes]:
    """A batch whose first job is done and whose second one runs."""
    words = [sys.executable, "-m", "ristretto", "batch", str(path), "--output", str(out)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"second: runs"):
            break
    return process


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_batch_that_was_stopped_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, how: signal.Signals
) -> None:
    path = jobs_yaml(tmp_path, f"  - {{name: first, {FIXED}}}\n  - {{name: second, iterations: 10, {FIXED}}}\n")
    process = begun(path, tmp_path / "out")
    process.send_signal(how)
    status = process.wait(timeout=30)
    assert status == (-9 if how == signal.SIGKILL else 130)
    if how == signal.SIGINT:
        assert not (tmp_path / "out" / "second" / "job.json").exists()
    time.sleep(0.1)
    outcome = ristretto(capsys, "batch", path, "--output", tmp_path / "out")
    assert outcome.status == 0
    assert "first: was done before" in outcome.err
    clean = ristretto(capsys, "batch", path, "--output", tmp_path / "clean")
    assert clean.status == 0
    found, wanted = (
        [(item["name"], item["score"]) for item in json.loads((tmp_path / where / "summary.json").read_text())["jobs"]]
        for where in ("out", "clean")
    )
    assert found == wanted

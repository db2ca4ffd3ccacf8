"""``ristretto batch``: what a file of jobs says, and jobs run, kept, failed and interrupted."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ristretto.cli import jobs_flags
from ristretto.cli.batch import _check_quantize
from ristretto.cli.jobs_file import JobsFile, read_jobs
from ristretto.cli.jobs_flags import LONGEST_NAME, Value
from ristretto.cli.output_flags import with_shared_flags
from ristretto.cli.quantize import quantize
from ristretto.cli.test import test as score_command
from ristretto.errors import UsageError
from tests.cli.runner import MODELS, ristretto
from tests.cli.terminals import COLOUR, ESCAPE, in_terminal

COMMANDS = {"quantize": with_shared_flags(quantize), "test": with_shared_flags(score_command)}

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
    return read_jobs(path, COMMANDS, folder / "out", {"quantize": _check_quantize})


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


def test_what_defaults_say_a_job_may_leave_out_or_say_otherwise(tmp_path: Path) -> None:
    defaults = DEFAULTS + "  bw_fc_params: 8\n  matrix: {seed: [1, 2], bw_conv_params: [8, null]}\n"
    found = parsed(tmp_path, defaults + "jobs:\n  - {name: a, seed: 3, bw_fc_params: null}\n  - {name: b}\n").jobs
    assert [job.name for job in found] == [
        "a_bw_conv_params-8",
        "a_bw_conv_params-null",
        "b_seed-1_bw_conv_params-8",
        "b_seed-1_bw_conv_params-null",
        "b_seed-2_bw_conv_params-8",
        "b_seed-2_bw_conv_params-null",
    ]
    assert not any("fc_params" in word for word in found[0].arguments)
    assert "--bw_fc_params=8" in found[2].arguments
    assert found[1].arguments[-1] == "--seed=3"


def test_models_of_one_file_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    text = DEFAULTS + "jobs:\n  - {name: n, matrix: {weights: [[a/x, b/x], a/x, c/x]}}\n"
    assert [job.name for job in parsed(tmp_path, text).jobs] == ["n_weights-x-b-x", "n_weights-a-x", "n_weights-c-x"]
    assert parsed(tmp_path, text).jobs[0].inputs[1:] == (Path("a/x"), Path("b/x"))
    (job,) = parsed(tmp_path, DEFAULTS + f"jobs:\n  - name: {'long' * 100}\n").jobs
    assert LONGEST_NAME < len(job.name) < 140


def test_places_of_results(tmp_path: Path) -> None:
    text = DEFAULTS + 'jobs:\n  - {name: n, html: "{folder}/p.html", model_quantized: "nets/{name}.prototxt"}\n'
    (job,) = parsed(tmp_path, text).jobs
    folder = tmp_path / "out" / "n"
    assert set(job.outputs) == {folder / "report.json", folder / "p.html", Path("nets/n.prototxt")}
    assert job.report == folder / "report.json"
    assert job.inputs == (Path("digits_lenet/train_val.prototxt"), Path("digits_lenet/digits_lenet.caffemodel"))
    assert job.placed == ("--report", str(folder / "report.json"))


@settings(max_examples=50, deadline=None)
@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), min_size=1, max_size=6, unique=True
    )
)
def test_any_texts_of_a_matrix_make_names_of_folders(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("jobs")
    text = DEFAULTS + f"jobs:\n  - name: n\n    matrix: {{score: {json.dumps(texts)}}}\n"
    found = parsed(folder, text).jobs
    assert len({job.name.lower() for job in found}) == len(texts)
    assert all((folder / job.name).resolve().parent == folder.resolve() for job in found)
    assert [job.arguments[-1] for job in found] == [f"--score={text}" for text in texts]


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
        (DEFAULTS + "jobs:\n  - {name: a, report: x}\n  - {name: b, report: x}\n", "yaml:8: .*'a' and 'b'"),
        (DEFAULTS + "jobs:\n  - seed: 1\n    budget: 3\n", "jobs.yaml:8: --budget means nothing without --search"),
        (DEFAULTS + 'jobs:\n  - score: "\\0"\n', "jobs.yaml:7: a value may not hold NUL"),
        (DEFAULTS + 'jobs:\n  - score: "\\ud800"\n', "jobs.yaml:7: half of a character"),
        (DEFAULTS + "jobs:\n  - matrix: {seed: [3,\n    3]}\n", "jobs.yaml:8: matrix: 'seed' has 3 twice"),
        (DEFAULTS + "  name: a\njobs: [{}]\n", "'name' is of one job"),
        (DEFAULTS + "jobs:\n  - {quiet: true, verbose: true}\n", "jobs.yaml:7: .*--verbose exclude each other"),
        (DEFAULTS + "jobs:\n  - command: fold\n", "jobs.yaml:7: there is no job 'fold'; use one of quantize, test"),
        (DEFAULTS + "jobs:\n  - matrix: {seed: 3}\n", "jobs.yaml:7: matrix: 'seed' is no list"),
        (DEFAULTS + "jobs:\n  - {seed: 3, matrix: {seed: [3]}}\n", "jobs.yaml:7: 'seed' has a value and stands in"),
        (DEFAULTS + "jobs:\n  - {seed: 3, seed: 4}\n", "jobs.yaml:7: 'seed' stands here twice"),
        (DEFAULTS + "jobs:\n  - per_channel: 3\n", "jobs.yaml:7: 'per_channel' is true or false"),
        ("jobs:\n  - model: a.prototxt\n", "jobs.yaml:2: Missing option '--weights'"),
        ("root: nowhere\njobs: [{}]", "jobs.yaml:1: root: there is no folder nowhere"),
        ("defaults: {modle: a}\njobs: [{}]", "jobs.yaml:1: no job has a flag 'modle'; did you mean 'model'"),
        (DEFAULTS + "jobs:\n" + "  - &a [*a]\n", "jobs.yaml:7: "),
        (DEFAULTS + f"jobs:\n  - score: {'a' * 4097}\n", "jobs.yaml:7: a value has more than 4096 characters"),
        (DEFAULTS + f"jobs:\n  - html: '{'{folder}' * 512}'\n", "jobs.yaml:7: a value has more than 4096 characters"),
        (DEFAULTS + f"jobs:\n  - only: [{'a,' * 10_001}]\n", "jobs.yaml:7: a list has 10001 values; 10000 are"),
        (DEFAULTS + f"jobs:\n  - matrix: {{seed: [{'3,' * 10_001}]}}\n", "jobs.yaml:7: .* more than 10000 jobs"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(tmp_path, text)


def test_aliases_and_matrices_multiply_no_more_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_flags, "_MOST_BYTES", 20_000)
    parsed(tmp_path, DEFAULTS + "jobs:\n  - matrix: {seed: [1, 2]}\n")
    laughs = f"jobs:\n  - only: &a [{'x,' * 100}]\n    matrix:\n      skip: [*a, *a, *a, *a]\n"
    with pytest.raises(UsageError, match=r"jobs.yaml:7: the values of this file, all .*, are too many; make files"):
        parsed(tmp_path, DEFAULTS + laughs)
    many = f"jobs:\n  - matrix: {{seed: {list(range(100))}}}\n"
    with pytest.raises(UsageError, match="the values of this file, all aliases and jobs written out, are too many"):
        parsed(tmp_path, DEFAULTS + many)


def test_paths_that_no_name_could_tell_apart_get_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No longer tails are tried than a name may have characters."""
    tried: list[str] = []
    word = jobs_flags._word
    monkeypatch.setattr(jobs_flags, "_word", lambda text: tried.append(text) or word(text))
    same = "/a" * 1500
    found = jobs_flags.labels([Value((first + same,), 0) for first in ("b", "c")])
    assert [label[:5] for label in found] == ["1-a-a", "2-a-a"]
    assert len(tried) < 150
    assert jobs_flags.labels([Value((first + "/a/a",), 0) for first in ("b", "c")]) == ["b-a-a", "c-a-a"]


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
    assert [line for line in second.err.splitlines() if "was done" in line] == [
        "good: was done before",
        "float: was done before",
    ]
    assert [item["status"] for item in json.loads((out / "summary.json").read_text())["jobs"]] == ["done"] * 3
    third = ristretto(capsys, "batch", path, "--output", out)
    assert third.out == second.out
    assert third.err.count("was done before") == 3
    (out / "good" / "quantized.prototxt").unlink()
    fourth = ristretto(capsys, "batch", path, "--output", out)
    assert [line for line in fourth.err.splitlines() if line.endswith(": runs")] == ["good: runs"]
    (out / "float" / "job.json").write_text("{")
    assert ristretto(capsys, "batch", path, "--output", out, "--quiet").err == ""


def test_table_csv_and_json_say_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = jobs_yaml(tmp_path, f"  - {{name: a, {FIXED}}}\n  - {{name: bad, weights: none.caffemodel}}\n")
    elsewhere = tmp_path / "table.csv"
    outcome = ristretto(capsys, "batch", path, "--output", tmp_path / "out", "--csv", elsewhere)
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())["jobs"]
    rows = list(csv.DictReader(elsewhere.open()))
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in facts] == rows
    assert not (tmp_path / "out" / "summary.csv").exists()
    head, first, second, said = outcome.out.splitlines()
    assert [text.strip() for text in head.split("  ") if text.strip()] == [
        "job", "net", "float", "score", "drop, points", "margin held", "bits", "mean", "bytes", "s",
    ]  # fmt: skip
    report = json.loads((tmp_path / "out" / "a" / "report.json").read_text())
    assert facts[0]["bytes"] == report["size"]["bytes"]
    assert facts[0]["mean_bits"] == pytest.approx(
        32 * report["size"]["bytes"] / report["size"]["bytes_float"], abs=1e-3
    )
    cells = [text.strip() for text in first.split("  ") if text.strip()]
    assert cells == [
        "a", "DigitsLeNet", f"{facts[0]['float_score']:.4g}", f"{facts[0]['score']:.4g}", f"{facts[0]['drop_pct']:.4g}",
        "yes", facts[0]["widths"], f"{facts[0]['mean_bits']:.4g}", str(facts[0]["bytes"]), f"{facts[0]['seconds']:.1f}",
        "done",
    ]  # fmt: skip
    assert second.split()[0] == "bad"
    assert second.split()[-1] == "failed"
    assert said == f"bad: {facts[1]['message']}"


def test_the_table_in_a_terminal(tmp_path: Path) -> None:
    """A margin that is missed is red; the job is run once, so that its time is the same in all tables."""
    narrow = "bw_conv_params: 1, bw_fc_params: 1, bw_activations: 1"
    path = jobs_yaml(tmp_path, f"  - {{name: bad, iterations: 1, {narrow}}}\n")
    words = ("batch", path, "--quiet")
    status, wide = in_terminal(tmp_path, *words, COLUMNS="140")
    assert status == 0
    row = next(line for line in wide.splitlines() if "DigitsLeNet" in line)
    assert "\u2502" in row
    assert "\x1b[31m" in row
    _, plain = in_terminal(tmp_path, *words, NO_COLOR="1", COLUMNS="140")
    assert ESCAPE not in plain
    assert COLOUR.sub("", wide) == plain
    _, narrow = in_terminal(tmp_path, *words, COLUMNS="60")
    assert "\u2502" not in narrow
    assert "\x1b[31mbad" in narrow


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


@pytest.mark.parametrize("job", [f"{{name: j, {FIXED}}}", "{name: j, command: test}"])
def test_data_that_only_the_net_names_counts_as_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, job: str
) -> None:
    for name in ("digits_lenet", "digits_data"):
        shutil.copytree(MODELS / name, tmp_path / name)
    path = jobs_yaml(tmp_path, f"  - {job}\n")
    path.write_text(path.read_text().replace(str(MODELS), str(tmp_path)))
    words = ("batch", path, "--output", tmp_path / "out")
    assert ristretto(capsys, *words).status == 0
    assert "j: was done before" in ristretto(capsys, *words).err
    os.utime(tmp_path / "digits_data" / "test_lmdb" / "data.mdb", ns=(1, 1))
    assert "j: runs" in ristretto(capsys, *words).err


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
    subprocess.run(["sh", "-c", line], check=True, capture_output=True)
    assert (tmp_path / "out" / "float" / "report.json").exists()


IN_BACKGROUND = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Starts a program as a script's ``&`` does."""


def begun(path: Path, out: Path, background: bool = False) -> subprocess.Popen[bytes]:
    """A batch whose first job is done and whose second one runs."""
    words = [sys.executable, "-m", "ristretto", "batch", str(path), "--output", str(out)]
    if background:
        words = [sys.executable, "-c", IN_BACKGROUND, *words]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"second: runs"):
            break
    return process


def ended(pid: int) -> bool:
    """Whether a process is gone, or dead and not yet fetched by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize(
    ("how", "background", "status"),
    [(signal.SIGKILL, False, -9), (signal.SIGINT, False, 130), (signal.SIGTERM, True, 143)],
)
def test_a_batch_that_was_stopped_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, how: signal.Signals, background: bool, status: int
) -> None:
    path = jobs_yaml(tmp_path, f"  - {{name: first, {FIXED}}}\n  - {{name: second, iterations: 10, {FIXED}}}\n")
    process = begun(path, tmp_path / "out", background)
    started = [
        int(pid.name)
        for pid in Path("/proc").iterdir()
        if pid.name.isdigit() and str(tmp_path / "out" / "second").encode() in _words_of(pid)
    ]
    process.send_signal(how)
    assert process.wait(timeout=30) == status
    for _ in range(200):
        if all(map(ended, started)):
            break
        time.sleep(0.05)
    assert all(map(ended, started))
    assert not (tmp_path / "out" / "second" / "job.json").exists()
    outcome = ristretto(capsys, "batch", path, "--output", tmp_path / "out")
    assert outcome.status == 0
    assert "first: was done before" in outcome.err
    clean = ristretto(capsys, "batch", path, "--output", tmp_path / "clean")
    assert clean.status == 0
    found, wanted = (
        [{**item, "seconds": 0} for item in json.loads((tmp_path / where / "summary.json").read_text())["jobs"]]
        for where in ("out", "clean")
    )
    assert found == wanted


def _words_of(pid: Path) -> bytes:
    try:
        return (pid / "cmdline").read_bytes()
    except OSError:
        return b""

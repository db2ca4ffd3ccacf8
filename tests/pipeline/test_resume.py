"""A job that was stopped goes on from its finished scores, and ends as if it had never been stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.caffe.weights import read_weights, write_caffemodel
from ristretto.errors import FormatError, RistrettoError, UsageError
from ristretto.pipeline import finished, scoring
from ristretto.pipeline.finished import FinishedScores, scores_file, sealed
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from ristretto.report.events import Event, Resumed, Warned

MODELS = Path(__file__).parents[2] / "models"
LENET = MODELS / "digits_lenet"
RESNET = MODELS / "digits_resnet"

AGREEMENT: Mapping[str, Any] = {"model": LENET / "deploy.prototxt", "calibration_phase": "TEST"}

JOBS: dict[str, Mapping[str, Any]] = {
    "ladders": {},
    "fast": {"fast": True, "iterations": None},
    "compensated": {"weight_rounding": "compensated", "ladder": (8, 4, 3), "rounding_images": 20},
    "mixed": {"search": "mixed", "min_bits": 4, "rounding_images": 20},
    "minifloat": {"trimming_mode": "minifloat"},
    "resnet": {"model": RESNET / "train_val.prototxt", "weights": (RESNET / "digits_resnet.caffemodel",)},
    "agreement": AGREEMENT,
}


class Stop(BaseException):
    """As sudden as a signal."""


def options(folder: Path, **given: Any) -> QuantizeOptions:
    folder.mkdir(exist_ok=True)
    usual: dict[str, Any] = {
        "model": LENET / "train_val.prototxt",
        "weights": (LENET / "digits_lenet.caffemodel",),
        "iterations": 3,
        "data_root": MODELS,
        "error_margin": 1,
        "calibration_batches": 2,
        "details": True,
    }
    outputs = {
        name: folder / name
        for name in ("model_quantized", "report", "html", "weights_quantized")
        if name != "weights_quantized" or "weight_rounding" in given
    }
    if given.get("model") == AGREEMENT["model"]:
        images = np.random.default_rng(0).uniform(0, 1, (20, 1, 16, 16)).astype(np.float32)
        np.savez(folder / "inputs.npz", data=images)
        outputs["inputs"] = folder / "inputs.npz"
    return QuantizeOptions(**{**usual, **outputs, **given})


def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What passes are run for, from here on."""
    run, purposes = scoring.run_pass, []

    def counted(*arguments: Any) -> Any:
        purposes.append(arguments[4])
        return run(*arguments)

    monkeypatch.setattr(scoring, "run_pass", counted)
    return purposes


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a job as soon as so many scores are kept."""
    keep = FinishedScores._keep

    def stopping(self: FinishedScores, *arguments: Any) -> None:
        keep(self, *arguments)
        if len(self.scores) == count:
            raise Stop

    monkeypatch.setattr(FinishedScores, "_keep", stopping)


def written(folder: Path) -> dict[str, Any]:
    """What a job has written; reports without their times."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".npz"}
    del found["html"]  # shows times
    found["report"] = timeless(json.loads(found["report"]))
    return found


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if name not in ("seconds", "provenance")}
        return {name: timeless(each) for name, each in kept.items()}
    return [timeless(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", JOBS)
def test_stopped_after_any_score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    given, whole = JOBS[name], tmp_path / "whole"
    heard: list[Event] = []
    all_passes = passes(monkeypatch)
    quantize(options(whole, **given), heard.append)
    wanted = written(whole)
    monkeypatch.undo()
    count = len(all_passes)
    assert count >= 3
    for stopped in sorted({1, count // 2, count}):
        folder = tmp_path / str(stopped)
        with monkeypatch.context() as patched:
            stop_after(stopped, patched)
            with pytest.raises(Stop):
                quantize(options(folder, **given))
        assert not (folder / "model_quantized").exists()
        with monkeypatch.context() as patched:
            rest, told = passes(patched), list[Event]()
            quantize(options(folder, resume=True, **given), told.append)
        assert Resumed(stopped, str(scores_file(folder / "model_quantized"))) in told
        assert [event for event in told if not isinstance(event, Resumed)] == heard
        again = [purpose for purpose in rest if purpose != "baseline"]
        assert again == all_passes[stopped:]
        assert rest.count("baseline") <= 1  # where later passes need more of it than its score
        assert written(folder) == wanted


def test_nothing_was_finished(tmp_path: Path) -> None:
    heard: list[Event] = []
    quantize(options(tmp_path, ladder=(8,), resume=True), heard.append)
    assert next(event.scores for event in heard if isinstance(event, Resumed)) == 0
    assert not scores_file(tmp_path / "model_quantized").exists()


def stopped_job(folder: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Path:
    with monkeypatch.context() as patched:
        stop_after(2, patched)
        with pytest.raises(Stop):
            quantize(options(folder, **given))
    return scores_file(folder / "model_quantized")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"error_margin": 3}, "its --error_margin was 1.0, here it is 3"),
        ({"iterations": 4}, "its --iterations was 3, here it is 4"),
        ({"weights": (Path("other.caffemodel"),)}, "other.caffemodel is not the file that it read"),
        ({"save_ranges": Path("ranges.json")}, "it was to write"),
    ],
)
def test_another_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Mapping[str, Any], said: str) -> None:
    file = stopped_job(tmp_path, monkeypatch)
    before = file.read_bytes()
    monkeypatch.chdir(tmp_path)
    weights = read_weights((LENET / "digits_lenet.caffemodel",))
    write_caffemodel(Path("other.caffemodel"), "another name", weights.layers)
    with pytest.raises(RistrettoError) as caught:
        quantize(options(tmp_path, resume=True, **change))
    assert said in str(caught.value)
    assert file.read_bytes() == before


def test_the_same_files_in_another_place_are_the_same_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopped_job(tmp_path, monkeypatch)
    moved = tmp_path / "moved.caffemodel"
    moved.write_bytes((LENET / "digits_lenet.caffemodel").read_bytes())
    heard: list[Event] = []
    quantize(options(tmp_path, resume=True, weights=(moved,)), heard.append)
    assert any(isinstance(event, Resumed) and event.scores == 2 for event in heard)


def test_another_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = stopped_job(tmp_path, monkeypatch)
    header, *scores = texts_of(file)
    data = json.loads(header)
    data["job"]["versions"]["onnxruntime"] = "0.1"
    file.write_bytes(sealed([json.dumps(data), *scores])[0])
    with pytest.raises(UsageError, match=r"it ran with onnxruntime 0\.1"):
        quantize(options(tmp_path, resume=True))


def texts_of(file: Path) -> list[str]:
    """What the lines of a file of scores say."""
    return [line.partition(" ")[2] for line in file.read_text().splitlines()]


@pytest.mark.parametrize("content", ["[]", "{}", "\x00", "{", "", '{"schema": 2, "tool": "another", "job": {}}\n'])
@pytest.mark.parametrize("resume", [True, False])
def test_what_is_no_file_of_scores_is_left_alone(tmp_path: Path, content: str, resume: bool) -> None:
    file = scores_file(tmp_path / "model_quantized")
    file.write_text(content)
    with pytest.raises(UsageError, match="what is there now is none of its own; move it away") as caught:
        quantize(options(tmp_path, resume=resume))
    assert str(caught.value).startswith(f"{file}: ")
    assert file.read_text() == content


def test_scores_of_the_first_form_are_replaced(tmp_path: Path) -> None:
    file = scores_file(tmp_path / "model_quantized")
    file.write_text('{"schema": 1, "tool": "ristretto", "job": {}, "scores": []}\n')
    with pytest.raises(FormatError, match="of another version of ristretto; run the job without --resume"):
        quantize(options(tmp_path, resume=True))
    quantize(options(tmp_path, ladder=(8,)))
    assert not file.exists()


def changed_score(line: str) -> str:
    seal, _, text = line.partition(" ")
    return f"{seal} {json.dumps({**json.loads(text), 'score': 7.5})}"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda lines: [*lines[:2], changed_score(lines[2])], id="edited"),
        pytest.param(lambda lines: [lines[0], lines[2]], id="a line is missing"),
        pytest.param(lambda lines: [lines[0], lines[2], lines[1]], id="another order"),
        pytest.param(lambda lines: [*lines, lines[2]], id="a line twice"),
        pytest.param(lambda lines: [lines[0][:-9] + "x" + lines[0][-8:], *lines[1:]], id="another job"),
    ],
)
def test_damaged_or_edited_scores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: Any) -> None:
    file = stopped_job(tmp_path, monkeypatch)
    file.write_text("".join(f"{line}\n" for line in damage(file.read_text().splitlines())))
    with pytest.raises(FormatError, match="damaged, or were edited; delete the file to begin anew"):
        quantize(options(tmp_path, resume=True))


@pytest.mark.parametrize("values", [{"images": None}, {"right": {"images": 3, "bits": ""}}, {"events": [[]]}])
def test_scores_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: Any) -> None:
    file = stopped_job(tmp_path, monkeypatch)
    header, first, _ = texts_of(file)
    file.write_bytes(sealed([header, json.dumps({**json.loads(first), **values})])[0])
    with pytest.raises(FormatError, match="these are no finished scores"):
        quantize(options(tmp_path, resume=True))


@pytest.mark.parametrize("end", ["half", "zeros"])
def test_a_last_line_that_was_not_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str) -> None:
    """As a killed process or a power cut leaves it: the job goes on from what is before it, and mends the file."""
    file = stopped_job(tmp_path, monkeypatch)
    data = file.read_bytes()
    last = data.splitlines(keepends=True)[-1]
    file.write_bytes(data + (last[: len(last) // 2] if end == "half" else last[:-9] + b"\0" * 8 + b"\n"))
    heard: list[Event] = []
    with monkeypatch.context() as patched:
        stop_after(3, patched)
        with pytest.raises(Stop):
            quantize(options(tmp_path, resume=True), heard.append)
    assert Resumed(2, str(file)) in heard
    assert file.read_bytes().startswith(data)
    assert len(texts_of(file)) == 4
    quantize(options(tmp_path, resume=True))
    assert not file.exists()


def test_a_score_is_added_and_the_others_are_not_written_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keep, sizes, places = FinishedScores._keep, list[int](), set[int]()
    file = scores_file(tmp_path / "model_quantized")

    def looked_at(self: FinishedScores, *arguments: Any) -> None:
        keep(self, *arguments)
        sizes.append(file.stat().st_size)
        places.add(file.stat().st_ino)

    monkeypatch.setattr(FinishedScores, "_keep", looked_at)
    quantize(options(tmp_path))
    assert len(places) == 1
    assert sizes == sorted(set(sizes))


def test_another_run_has_replaced_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two runs of one job at once: each writes whole what it has, and nothing behind the lines of the other."""
    keep, file = FinishedScores._keep, scores_file(tmp_path / "model_quantized")

    def disturbed(self: FinishedScores, *arguments: Any) -> None:
        keep(self, *arguments)
        if len(self.scores) == 2:
            file.write_bytes(sealed(['{"schema": 2, "tool": "ristretto", "job": {}}'])[0])
        if len(self.scores) == 3:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(FinishedScores, "_keep", disturbed)
        with pytest.raises(Stop):
            quantize(options(tmp_path))
    heard: list[Event] = []
    quantize(options(tmp_path, resume=True), heard.append)
    assert Resumed(3, str(file)) in heard


def test_scores_that_could_not_be_read_again_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = stopped_job(tmp_path, monkeypatch)
    room = file.stat().st_size + 100  # less than another score needs
    file.unlink()
    heard: list[Event] = []
    monkeypatch.setattr(finished, "limit", lambda name: 1)
    monkeypatch.setattr(finished, "_MB", room)
    with monkeypatch.context() as patched:
        patched.setattr(FinishedScores, "remove", lambda self: None)
        quantize(options(tmp_path), heard.append)
    warned = [event.text for event in heard if isinstance(event, Warned) and "kept" in event.text]
    assert len(warned) == 1
    assert warned[0].startswith("no more finished scores are kept, so --resume will go on from the first 2: they would")
    assert "RISTRETTO_MAX_JSON_MB" in warned[0]
    assert len(texts_of(file)) == 3
    quantize(options(tmp_path, resume=True), heard.append)
    assert Resumed(2, str(file)) in heard
    assert not file.exists()


def test_a_disk_that_is_full_for_a_moment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is said of the scores is true, and the file is gone when the job is done all the same."""
    file, add = scores_file(tmp_path / "model_quantized"), finished._append

    def full(path: Path, data: bytes) -> None:
        add(path, data[: len(data) // 2])
        raise UsageError("cannot write: No space left on device")

    heard: list[Event] = []
    monkeypatch.setattr(finished, "_append", full)
    with monkeypatch.context() as patched:
        patched.setattr(FinishedScores, "remove", lambda self: None)
        quantize(options(tmp_path), heard.append)
    warned = [event.text for event in heard if isinstance(event, Warned) and "kept" in event.text]
    assert warned == [
        "no more finished scores are kept, so --resume will go on from the first 1: "
        "cannot write: No space left on device"
    ]
    quantize(options(tmp_path, resume=True), heard.append)
    assert Resumed(1, str(file)) in heard
    assert not file.exists()


def test_an_older_file_stays_if_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = stopped_job(tmp_path, monkeypatch)

    def full(path: Path, data: bytes) -> None:
        raise UsageError("cannot write: No space left on device")

    heard: list[Event] = []
    with monkeypatch.context() as patched:
        patched.setattr(finished, "atomic_write_bytes", full)
        patched.setattr(FinishedScores, "remove", lambda self: None)
        quantize(options(tmp_path, error_margin=2), heard.append)
    warned = [event.text for event in heard if isinstance(event, Warned) and "kept" in event.text]
    assert warned[0].startswith(f"finished scores are not kept; {file} has those of an earlier run: cannot write")
    quantize(options(tmp_path, resume=True), heard.append)
    assert Resumed(2, str(file)) in heard


@pytest.mark.parametrize("name", ["model_quantized.scores", "n" * 250])
def test_a_name_that_scores_cannot_have(tmp_path: Path, name: str) -> None:
    long = name.startswith("n")
    given = {"model_quantized": tmp_path / name} if long else {"report": tmp_path / name}
    heard: list[Event] = []
    if long:
        quantize(options(tmp_path, ladder=(8,), **given), heard.append)
        assert any(isinstance(event, Warned) and "File name too long" in event.text for event in heard)
        return
    with pytest.raises(UsageError, match="the job keeps this file while it runs, and a result would go into it"):
        quantize(options(tmp_path, **given))
    assert list(tmp_path.iterdir()) == []


def test_without_resume_a_job_begins_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = stopped_job(tmp_path, monkeypatch)
    run = passes(monkeypatch)
    quantize(options(tmp_path, ladder=(8,)))
    assert run[0] == "baseline"
    assert not file.exists()


def test_scores_that_cannot_be_kept_stop_no_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scores_file(tmp_path / "model_quantized").mkdir()
    heard: list[Event] = []
    report = quantize(options(tmp_path, ladder=(8,)), heard.append)
    warned = [event.text for event in heard if isinstance(event, Warned) and "not kept" in event.text]
    assert len(warned) == 1
    assert warned[0] not in report.warnings  # which says the same wherever it is written
    assert (tmp_path / "model_quantized").exists()


def test_it_needs_a_result(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--resume needs --model_quantized"):
        quantize(QuantizeOptions(LENET / "train_val.prototxt", (LENET / "digits_lenet.caffemodel",), resume=True))

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
from ristretto.pipeline import scoring
from ristretto.pipeline.finished import FinishedScores, scores_file
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
    data = json.loads(file.read_text())
    data["job"]["versions"]["onnxruntime"] = "0.1"
    file.write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"it ran with onnxruntime 0\.1"):
        quantize(options(tmp_path, resume=True))


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"schema": 1, "scores": [1], "job": {}}', '{"schema": 1, "scores": [], "job": []}', "\x00", "{"],
)
def test_a_damaged_file(tmp_path: Path, content: str) -> None:
    scores_file(tmp_path / "model_quantized").write_text(content)
    with pytest.raises(FormatError):
        quantize(options(tmp_path, resume=True))


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

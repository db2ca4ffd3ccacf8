"""``ristretto verify``: a report says how it came about, and its job is run again from that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.errors import RistrettoError
from ristretto.pipeline.provenance import SAMPLE, WHOLE_UP_TO, fingerprint
from ristretto.report.verification import Difference, differences
from tests.cli.runner import MODELS, Outcome, ristretto

NET, WEIGHTS = "digits_lenet/train_val.prototxt", "digits_lenet/digits_lenet.caffemodel"

Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs the program in a folder with a copy of the digits net."""
    for name in ("digits_lenet", "digits_data"):
        shutil.copytree(MODELS / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return lambda *words: ristretto(capsys, *words)


def quantize(call: Call, name: str = "out", *more: object) -> dict[str, Any]:
    outcome = call(
        "quantize", "--model", NET, "--weights", WEIGHTS, "--trimming_mode", "dynamic_fixed_point", "--iterations", 2,
        "--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8, "--model_quantized", f"{name}.prototxt",
        "--report", f"{name}.json", *more,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    report: dict[str, Any] = json.loads(Path(f"{name}.json").read_text())
    return report


def without_times(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if '"seconds"' not in line)


def test_two_runs_of_a_job_write_the_same_bytes_but_for_times(call: Call) -> None:
    quantize(call, "a", "--seed", 3)
    quantize(call, "b", "--seed", 3)
    first, second = Path("a.json").read_text(), Path("b.json").read_text()
    assert without_times(first) == without_times(second)
    assert first.count('"seconds"') == 2
    assert Path("a.prototxt").read_bytes() == Path("b.prototxt").read_bytes()


def test_a_report_names_its_files_flags_and_versions(call: Call) -> None:
    found = quantize(call, "out", "--seed", 7)["provenance"]
    assert [file["role"] for file in found["files"]] == ["model", "weights", "source", "source"]
    assert {Path(file["path"]).name for file in found["files"]} == {
        "train_val.prototxt", "digits_lenet.caffemodel", "data.mdb",
    }  # fmt: skip
    assert all(Path(file["path"]).stat().st_size == file["bytes"] for file in found["files"])
    assert found["flags"]["seed"] == 7
    assert found["flags"]["bw_bias"] is None
    assert "threads" not in found["flags"]
    assert found["outputs"] == ["model_quantized", "report"]
    assert found["images"] == {"score": 600, "calibration": 1197}
    assert {"ristretto", "python", "numpy", "onnx", "onnxruntime"} <= found["versions"].keys()
    assert "out" not in json.dumps(found["flags"])


def test_the_job_of_a_report_is_run_again(call: Call) -> None:
    shutil.copy(MODELS / "digits_lenet" / "deploy.prototxt", "deploy.prototxt")
    quantize(call, "out", "--weights_quantized", "q.caffemodel", "--also", "deploy.prototxt=dq.prototxt")
    before = sorted(Path().iterdir())
    outcome = call("verify", "out.json", "--quiet")
    assert outcome.status == 0, outcome.out
    assert "the same again, score" in outcome.out
    assert sorted(Path().iterdir()) == before


def test_what_is_different_is_told(call: Call) -> None:
    report = quantize(call)
    report["layers"]["conv1"]["params"]["fl"] += 1
    report["combined"]["score"] += 1e-3
    report["provenance"]["versions"]["numpy"] = "0.1"
    report["ladders"]["conv"]["chosen"] = 8.0
    Path("out.json").write_text(json.dumps(report))
    outcome = call("verify", "out.json", "--json", "found.json")
    assert outcome.status == 3
    fl = report["layers"]["conv1"]["params"]["fl"]
    lines = outcome.out.splitlines()
    assert f"layers.conv1.params.fl: {fl} in the report, {fl - 1} now" in lines
    assert any(line.startswith("combined.score: ") for line in lines)
    assert any(line.startswith("note: numpy 0.1 made the report, ") for line in lines)
    assert "2 are not as the report says" in lines[-1]
    found = json.loads(Path("found.json").read_text())
    assert not found["holds"]
    assert {change["field"] for change in found["differences"]} == {"combined.score", "layers.conv1.params.fl"}
    assert call("verify", "out.json", "--tolerance", 0.01).out.splitlines()[-1].startswith(str(found["compared"]))


def small(call: Call, command: str) -> Path:
    """The report of a small job."""
    path = Path(f"{command}.json")
    job = ("--trimming_mode", "dynamic_fixed_point", "--model_quantized", "out.prototxt", "--calibration_batches", 1)
    widths = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)
    words = (*job, *widths) if command == "quantize" else ()
    outcome = call(command, "--model", NET, "--weights", WEIGHTS, "--iterations", 1, "--report", path, *words)
    assert outcome.status == 0, outcome.err
    return path


EDITS: dict[str, Callable[[Any], Any]] = {
    "schema": lambda report: report.update(schema=2),
    "tool": lambda report: report.update(tool="other"),
    "version": lambda report: report.update(version="9.9"),
    "provenance.images.score": lambda report: report["provenance"]["images"].update(score=7),
    "provenance.outputs": lambda report: report["provenance"].update(outputs=[1]),
    "provenance.files.source": lambda report: report["provenance"]["files"].pop(),
    "provenance.files.mean file": lambda report: report["provenance"]["files"][-1].update(role="mean file"),
    "seconds": lambda report: passes(report).update(seconds="x"),
    "score": lambda report: passes(report).update(images=100.0),
}


def passes(report: Any) -> Any:
    """What a report says of a pass."""
    found = report.get("combined", report)
    assert {"seconds", "images"} <= found.keys()
    return found


@pytest.mark.parametrize("command", ["quantize", "test"])
@pytest.mark.parametrize("field", EDITS)
def test_nothing_in_a_report_can_be_changed_unseen(call: Call, command: str, field: str) -> None:
    path = small(call, command)
    assert call("verify", path).status == 0
    report = json.loads(path.read_text())
    EDITS[field](report)
    path.write_text(json.dumps(report))
    outcome = call("verify", path)
    assert (outcome.status, field in outcome.out) == (3, True), outcome


def test_other_versions_alone_are_a_note(call: Call) -> None:
    path = small(call, "test")
    report = json.loads(path.read_text())
    versions = report["provenance"]["versions"]
    versions["plug-in gone"] = versions.pop("numpy")
    path.write_text(json.dumps(report))
    outcome = call("verify", path)
    assert outcome.status == 0
    assert "note: numpy none made the report" in outcome.out
    assert "note: plug-in gone" in outcome.out


ODD = ([1], {"a": 1}, -1, 1.5, "x", 10**30, True, None, [[]], "", [None], 0, "a\0b")


@pytest.mark.parametrize("command", ["quantize", "test"])
def test_no_edited_flag_is_taken_for_another_or_a_fault_of_ours(
    call: Call, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """All that comes before the job: that runs with what is left, which is a mistake or can be run."""
    path = small(call, command)
    monkeypatch.setattr("ristretto.pipeline.verify.quantize", done)
    monkeypatch.setattr("ristretto.pipeline.verify.evaluate", done)
    flags = json.loads(path.read_text())["provenance"]["flags"]
    assert len(flags) > 15
    for flag in flags:
        for value in ODD:
            report = json.loads(path.read_text())
            report["provenance"]["flags"][flag] = value
            path.with_suffix(".edited").write_text(json.dumps(report))
            for more in ((), ("--untrusted", "--data-root", ".")):
                outcome = call("verify", path.with_suffix(".edited"), *more)
                assert outcome.status == 2, (flag, value, outcome)
                assert outcome.err.count("\n") == 1, (flag, value, outcome)


def done(*arguments: object, **more: object) -> None:
    raise RistrettoError("done")


def test_other_inputs_are_told_and_not_run(call: Call) -> None:
    quantize(call)
    data = Path("digits_data/test_lmdb/data.mdb")
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    Path(WEIGHTS).unlink()
    outcome = call("verify", "out.json")
    assert outcome.status == 3
    assert outcome.out.splitlines() == [
        f"weights {WEIGHTS}: is gone",
        f"source {data}: is another file now",
        "not run again: these are other inputs",
    ]
    assert outcome.err == ""


def test_the_report_of_a_score_is_run_again(call: Call) -> None:
    quantize(call)
    words = ("--iterations", 2, "--arithmetic", "integer", "--accumulator_bits", 20, "--report", "test.json")
    assert call("test", "--model", "out.prototxt", "--weights", WEIGHTS, *words).status == 0
    assert call("verify", "test.json", "--tolerance", 0).status == 0
    report = json.loads(Path("test.json").read_text())
    assert report["provenance"]["flags"]["accumulator"] == {"bw": 20, "overflow": "saturate"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda report: report.pop("provenance"),
            "does not say how it came about; reports of quantize",
        ),
        (lambda report: report["provenance"].update(command="demo"), "there is no job 'demo'"),
        (lambda report: report["provenance"].update(files=[1]), "makes no sense"),
        (lambda report: report["provenance"]["flags"].update(also=3), "made.json: also cannot be 3"),
        (lambda report: report["provenance"]["flags"].update(sede=3), "quantize has no option 'sede'; is 'seed' meant"),
        (lambda report: report["provenance"]["flags"].update(seed="x"), "seed cannot be 'x'"),
        (lambda report: report["provenance"]["flags"].pop("model"), "makes no sense"),
    ],
)
def test_reports_that_cannot_be_run_again(call: Call, change: Callable[[Any], Any], message: str) -> None:
    report = {
        "provenance": {
            "command": "quantize", "flags": {"model": NET, "weights": [WEIGHTS]}, "outputs": [], "versions": {},
            "files": [],
        }
    }  # fmt: skip
    change(report)
    Path("made.json").write_text(json.dumps(report))
    outcome = call("verify", "made.json")
    assert outcome.status == 2
    assert message in outcome.message


def test_of_a_large_source_samples_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.mdb"
    with path.open("wb") as file:
        file.truncate(WHOLE_UP_TO + 1)
    before = fingerprint("source", path)
    assert before.sampled
    assert not fingerprint("weights", path).sampled
    for place in (0, SAMPLE - 1, WHOLE_UP_TO):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        assert fingerprint("source", path).sha256 != before.sha256
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\0")
    assert fingerprint("source", path) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_a_value_equals_itself(value: Any) -> None:
    assert not any(differences(value, json.loads(json.dumps(value)), 0.0))


@given(JSON, JSON)
def test_values_that_differ_are_found(first: Any, second: Any) -> None:
    found = [change for change in differences({"x": first}, {"x": second}, 0.0) if change is not None]
    if json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True):
        assert found == []
    elif not found:  # null and absence are one, and so are 1 and 1.0
        assert _plain(first) == _plain(second)
    assert all(change.field.startswith("x") for change in found)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def test_times_do_not_count_and_true_is_not_one() -> None:
    assert not any(differences({"seconds": 1, "a": [{"seconds": 2}]}, {"a": [{"seconds": 3}]}, 0.0))
    assert list(differences({"a": True}, {"a": 1}, 0.0)) == [Difference("a", True, 1)]
    assert list(differences([1.0], [1.0 + 1e-9], 1e-6)) == [None]
    assert list(differences([1], [2], 1e6)) == [Difference(".0", 1, 2)]

"""``ristretto doctor`` as a user sees it: lines, exit status, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ristretto.report.findings import Finding, finding_lines, in_order
from tests.cli.runner import MODELS, ristretto
from tests.pipeline.ailing import LENET, WEIGHTS, changed

Capture = pytest.CaptureFixture[str]
ROOT = ("--data-root", MODELS)


def test_a_healthy_net(capsys: Capture) -> None:
    outcome = ristretto(capsys, "doctor", LENET, WEIGHTS, *ROOT)
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[-1] == "3 notes: nothing would fail"
    assert lines[-2].startswith("float score of 100 images: 0.9")
    heads = [line for line in lines[:-2] if not line.startswith("  ")]
    assert all(line.startswith(f"note: {LENET}: ") for line in heads)
    assert "\x1b" not in outcome.out


def test_flags_and_arguments_are_the_same(capsys: Capture) -> None:
    first = ristretto(capsys, "doctor", LENET, WEIGHTS, *ROOT, "--no-score")
    assert "float score" not in first.out
    for more in (("--model", LENET, "--weights", WEIGHTS), ("-model", LENET, WEIGHTS)):
        assert ristretto(capsys, "doctor", *more, *ROOT, "--no-score") == first


def test_an_ill_net(capsys: Capture, tmp_path: Path) -> None:
    net, report = tmp_path / "net.prototxt", tmp_path / "out.json"
    net.write_text(
        changed(
            ('bottom: "pool1"', 'bottom: "pool_1"'), ("num_output: 64", "num_output: 60"), ('top: "loss"', 'top: "a"')
        )
    )
    outcome = ristretto(capsys, "doctor", net, WEIGHTS, *ROOT, "--json", report)
    assert outcome.status == 2
    heads = [line.split(":")[0] for line in outcome.out.splitlines() if not line.startswith("  ")]
    assert heads[:3] == ["error", "warning", "note"]
    place = f"error: {net}:{net.read_text()[: net.read_text().index('pool_1')].count(chr(10)) + 1}: layer 'conv2': "
    lines = outcome.out.splitlines()
    assert lines[0] == f"{place}unknown bottom blob 'pool_1'"
    assert lines[1].startswith("  cure: no layer before this one makes it")
    assert "a job would fail" in lines[-1]
    data = json.loads(report.read_text())
    assert (data["schema"], data["healthy"], data["measured"]) == (1, False, None)
    assert [finding["severity"] for finding in data["findings"]] == [
        finding for finding in heads if finding in ("error", "warning", "note")
    ]
    assert data["findings"][0]["layer"] == "conv2"


def test_measured_in_json(capsys: Capture, tmp_path: Path) -> None:
    net, report = tmp_path / "net.prototxt", tmp_path / "out.json"
    net.write_text(changed(("scale: 0.00390625", ""), count=2))
    outcome = ristretto(capsys, "doctor", net, WEIGHTS, *ROOT, "--iterations", 4, "--json", report)
    assert outcome.status == 0  # a warning stops nothing
    measured = json.loads(report.read_text())["measured"]
    assert measured["images"] == 200
    sure = [trial["change"] for trial in measured["trials"] if trial["sure"]]
    assert "scale 0.00390625" in sure
    assert "  cure: set scale: 0.00390625" in outcome.out


def test_mistakes(capsys: Capture, tmp_path: Path) -> None:
    outcome = ristretto(capsys, "doctor")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.message == "ristretto: no prototxt is given; write ristretto doctor MODEL [WEIGHTS...]"
    outcome = ristretto(capsys, "doctor", LENET, "--json", LENET)
    assert "this file is an input too" in outcome.message
    outcome = ristretto(capsys, "doctor", tmp_path / "gone.prototxt")
    assert (outcome.status, outcome.err) == (2, "")
    assert "cannot read the prototxt" in outcome.out


def test_findings_are_told_once_and_in_order() -> None:
    note = Finding("note", "a", "one thing", file="x", line=3)
    error = Finding("error", "b", "one thing", "do this", "x", 3)
    other = Finding("warning", "c", "another\nthing", layer="l")
    assert in_order([note, other, error, note]) == (error, other)
    assert finding_lines(other) == ("layer 'l': another thing", "")
    assert finding_lines(error) == ("x:3: one thing", "do this")


def test_the_documented_example(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MODELS.parent)
    command, shown = (MODELS.parent / "docs" / "doctor.md").read_text().split("```")[1:4:2]
    words = command.removeprefix("sh\n").split()
    assert words[:2] == ["ristretto", "doctor"]
    assert ristretto(capsys, *words[1:]).out == shown.lstrip("\n")

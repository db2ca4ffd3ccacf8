"""A call of the system that fails, whichever it is: one line, exit status 2, and what was there is there still."""

from __future__ import annotations

import errno
import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.runner import Outcome, ristretto
from tests.faults.commands import COMMANDS, Content, checked, content, emptied, made, old_outputs
from tests.faults.injected import faults, longest_file

Capture = pytest.CaptureFixture[str]

NAMES = [name for name in COMMANDS if name != "finetune" or importlib.util.find_spec("torch") is not None]
QUICK = ["fold", "export caffe", "init"]
"""Those that are tried at some of their calls each time; all are tried at every call once in CI."""


@dataclass
class Place:
    """A folder to run commands in, again and again."""

    folder: Path
    capsys: Capture

    def run(
        self, name: str, old: Content | None, longest: int = -1, **asked: Any
    ) -> tuple[Content, Content, Outcome, list[str]]:
        """Run a command with faults: the content before and after, what it said, and the calls that it made."""
        emptied(self.folder)
        (self.folder / "tmp").mkdir()
        command = COMMANDS[name]
        if old is not None:
            old_outputs(self.folder, command.outputs, old)
        before = content(self.folder)
        with faults(self.folder, **asked) as heard, longest_file(longest):
            outcome = ristretto(self.capsys, *command.words)
        return before, content(self.folder), outcome, heard.calls


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture
def place(given: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(given)
    monkeypatch.setattr(tempfile, "tempdir", str(given / "tmp"))
    if not (given / "given").exists():
        made(given / "given", capsys)
    return Place(given, capsys)


def tried(place: Place, name: str, step: int = 1) -> tuple[int, int]:
    """Let every step-th call fail, alone and with all that need room; how many there are, and how many were tried."""
    _, whole, outcome, _ = place.run(name, None)
    assert outcome.status == 0, outcome.err
    number = 0
    for old in (None, whole):
        _, _, done, calls = place.run(name, old)
        assert done.status == 0, done.err
        for first in range(0, len(calls), step):
            for how in ({"error": errno.EIO}, {"for_good": True, "error": errno.ENOSPC}):
                before, after, outcome, _ = place.run(name, old, first=first, **how)
                try:
                    checked(before, after, whole, outcome, COMMANDS[name].outputs)
                except AssertionError as caught:
                    message = f"{name}: call {first}, {calls[first]}, {how}, old {old is not None}\n{outcome.err}"
                    raise AssertionError(message) from caught
                number += 1
    return len(calls), number


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_whichever_call_fails(place: Place, name: str) -> None:
    """Every call, but where there are so many that a part of them has to do for CI: each time another kind is hit."""
    calls, number = tried(place, name, {"export hardware": 10, "demo": 13, "quantize": 3}.get(name, 1))
    sys.stdout.write(f"{name}: {calls} calls, {number} faults\n")
    assert number >= 14


@pytest.mark.parametrize("name", QUICK)
def test_some_calls_fail(place: Place, name: str) -> None:
    assert tried(place, name, 3)[1] >= 12


def test_the_last_calls_of_the_main_job_fail(place: Place) -> None:
    """When all is prepared, and some files are in their places already; the others are tried in CI."""
    _, whole, _, _ = place.run("quantize", None)
    _, _, _, calls = place.run("quantize", whole)
    assert [call.split()[0] for call in calls[-3:]] == ["os.rename"] * 3
    for first in (len(calls) - 1, len(calls) - 9):
        before, after, outcome, _ = place.run("quantize", whole, first=first)
        checked(before, after, whole, outcome, COMMANDS["quantize"].outputs)
        assert outcome.status == 2


def test_a_disk_that_breaks_mixes_no_old_and_new(place: Place) -> None:
    """Where not even what was moved away can be put back, some files are missing, and the next run tidies up."""
    name = "fold"
    _, whole, _, _ = place.run(name, None)
    outputs = COMMANDS[name].outputs
    _, _, _, calls = place.run(name, whole)
    lost = []
    for first in range(len(calls)):
        before, after, outcome, _ = place.run(name, whole, first=first, read_only=True, error=errno.EROFS)
        assert outcome.status == 2
        assert len([line for line in outcome.err.splitlines() if line.startswith("ristretto: ")]) == 1
        here = {file: after[file] for file in outputs if file in after}
        assert here.items() <= before.items() or here.items() <= whole.items(), calls[first]
        lost += [calls[first].split()[0]] if len(here) < len(outputs) else []
        assert ristretto(place.capsys, *COMMANDS[name].words).status == 0
        assert content(place.folder) == whole
    assert set(lost) == {"os.rename"}  # before the first file is moved nothing can be lost


@pytest.mark.parametrize("name", [*QUICK, pytest.param("quantize", marks=pytest.mark.slow)])
def test_a_file_that_may_not_grow(place: Place, name: str) -> None:
    """The disk is full after so many bytes of a file: at once, in the midst of it, at its last byte."""
    _, whole, _, _ = place.run(name, None)
    files = [path for path in place.folder.rglob("*") if path.is_file() and "given" not in path.parts]
    longest = max(path.stat().st_size for path in files)
    for old in (None, whole):
        for size in (0, 1, longest // 3, longest - 1, longest):
            before, after, outcome, _ = place.run(name, old, longest=size)
            checked(before, after, whole, outcome, COMMANDS[name].outputs)
            assert outcome.status == (0 if size == longest else 2)

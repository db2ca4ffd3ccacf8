"""Signals that end the program, and streams that cannot be written to: one line, a status, nothing left."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ristretto.cli import signals
from ristretto.cli.signals import Terminated, hear_signals
from tests.cli.runner import MODELS
from tests.faults.commands import DATA, LENET, NET, content

ROOT = MODELS.parent
WORDS = ("quantize", *NET, *DATA, "--trimming_mode", "dynamic_fixed_point", "--iterations", 5000)
FULL = Path("/dev/full")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no disk that is always full")


def started(folder: Path, *words: object, **more: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    command = [sys.executable, "-m", "ristretto", *map(str, words)]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **given)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_signals_end_a_job(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """A job of a minute, in the midst of its first score."""
    with started(tmp_path, *WORDS, "--model_quantized", "q.prototxt") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Batch 3," in line:
                break
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == status
    said = [line for line in rest.splitlines() if line and not line.startswith("I")]
    how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert said == [f"ristretto: {how}, nothing is left half written"]
    assert content(tmp_path).keys() <= {".ses"}, "which is onnxruntime's"


def test_what_is_ignored_stays_so() -> None:
    """As with nohup; and a handler of somebody else's stays as well."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        hear_signals()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        with pytest.raises(Terminated) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert (caught.value.status, caught.value.name) == (143, "SIGTERM")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_end_of_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """What is written in C and imported may make another error of it, or crash."""
    seen = "import os, sys, time\nos.kill(os.getpid(), sys.number_for_test)\ntime.sleep(0.1)\nsys.seen_by_test = True\n"
    (tmp_path / "imported_while_a_signal_comes.py").write_text(seen)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "number_for_test", number, raising=False)
    monkeypatch.setattr(sys, "seen_by_test", False, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        hear_signals()
        with pytest.raises((Terminated, KeyboardInterrupt)):  # noqa: PT012
            importlib.import_module("imported_while_a_signal_comes")
            time.sleep(10)
        assert sys.seen_by_test  # type: ignore[attr-defined]
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        sys.modules.pop("imported_while_a_signal_comes", None)


def test_an_import_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_for_ever.py").write_text("import os, time\nos.kill(os.getpid(), 15)\ntime.sleep(10)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(signals, "_PATIENCE", 0.1)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        hear_signals()
        with pytest.raises(Terminated):
            importlib.import_module("imported_for_ever")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@needs_full
@pytest.mark.parametrize(
    "words", [("--help",), pytest.param(("inspect", "--model", LENET / "deploy.prototxt"), marks=pytest.mark.slow)]
)
def test_stdout_on_a_full_disk(tmp_path: Path, words: tuple[object, ...]) -> None:
    with FULL.open("w") as full, started(tmp_path, *words, stdout=full) as process:
        _, said = process.communicate()
    assert process.returncode == 2
    cure = "free some space or choose another place"
    assert said == f"ristretto: stdout: No space left on device; {cure}\n"


@needs_full
@pytest.mark.slow
def test_a_log_on_a_full_disk_ends_no_job(tmp_path: Path) -> None:
    """And without any streams, as cron jobs may be run, there is a result as well."""
    words = (*WORDS[:-1], 1, "--calibration_batches", 1, "--ladder", 8, "--model_quantized", "q.prototxt")
    with FULL.open("w") as full, started(tmp_path, *words, stderr=full) as process:
        out, _ = process.communicate()
    assert "q.prototxt: " in out
    assert (tmp_path / "q.prototxt").exists()


def test_nobody_reads(tmp_path: Path) -> None:
    """The result is there, and nothing is called our fault."""
    words = ("upgrade", "--model", LENET / "deploy.prototxt", "--output", "new.prototxt")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as unread, started(tmp_path, *words, stdout=unread) as process:
        _, said = process.communicate()
    assert (process.returncode, said) == (141, "")
    assert content(tmp_path).keys() == {"new.prototxt"}


@needs_full
def test_a_result_outlives_stdout(tmp_path: Path) -> None:
    words = ("upgrade", "--model", LENET / "deploy.prototxt", "--output", "new.prototxt")
    with FULL.open("w") as full, started(tmp_path, *words, stdout=full) as process:
        _, said = process.communicate()
    assert process.returncode == 2
    assert said.startswith("ristretto: stdout: No space left on device")
    assert content(tmp_path).keys() == {"new.prototxt"}


def test_ctrl_c_before_the_program_hears_it_ends_it_without_a_traceback() -> None:
    """While Python is still importing there is nothing to tidy up."""
    code = """
import os, signal, sys

class Interrupting:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "ristretto.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting)
from ristretto.__main__ import entry
entry()
"""
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")

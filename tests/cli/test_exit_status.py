"""The exit statuses that docs/commands.md promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ristretto.cli import main as program
from tests.cli.runner import MODELS, ristretto

Capture = pytest.CaptureFixture[str]
LENET = MODELS / "digits_lenet"
NET = ("--model", LENET / "train_val.prototxt", "--weights", LENET / "digits_lenet.caffemodel")
PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr("ristretto.pipeline.inspect.inspect", fail)


def test_the_page_has_them_all() -> None:
    statuses = {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}
    assert statuses == {0, 1, 2, 3, 130, 141, 143}


def test_done(capsys: Capture) -> None:
    assert ristretto(capsys, "inspect", *NET, "--data-root", MODELS).status == 0
    assert ristretto(capsys, "--version").status == 0


def test_our_fault(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError("a\nb"))
    outcome = ristretto(capsys, "inspect", *NET)
    assert outcome.status == 1
    assert outcome.err == "ristretto: our fault, please report it: ZeroDivisionError: a b (--debug shows where)\n"
    with pytest.raises(ZeroDivisionError):
        ristretto(capsys, "--debug", "inspect", *NET)


def test_a_mistake(capsys: Capture) -> None:
    for arguments in ((), ("quantise",), ("inspect",), ("inspect", "--model", "gone"), ("inspect", "--v")):
        outcome = ristretto(capsys, *arguments)
        assert outcome.status == 2
        assert outcome.out == ""
        assert outcome.err


def test_a_missed_margin(capsys: Capture, tmp_path: Path) -> None:
    job = ("--model_quantized", tmp_path / "q", "--trimming_mode", "dynamic_fixed_point", "--iterations", 1)
    widths = ("--bw_conv_params", 1, "--bw_fc_params", 1, "--bw_activations", 1)
    quantize = ("quantize", *NET, "--data-root", MODELS, *job, *widths)
    assert ristretto(capsys, *quantize).status == 0
    assert ristretto(capsys, *quantize, "--strict").status == 3


def test_interrupted(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    outcome = ristretto(capsys, "inspect", *NET)
    assert (outcome.status, outcome.err.strip()) == (130, "ristretto: interrupted, nothing is left half written")
    assert program.EXIT_INTERRUPTED == 130

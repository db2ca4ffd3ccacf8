"""Runs the program in this process: its exit status, stdout and stderr."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ristretto.cli.main import main

MODELS = Path(__file__).resolve().parents[2] / "models"


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line of a mistake."""
        lines = [line for line in self.err.splitlines() if not line.startswith(("I", "W"))]
        assert len(lines) == 1, self.err
        return lines[0]


def ristretto(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return Outcome(status, captured.out, captured.err)

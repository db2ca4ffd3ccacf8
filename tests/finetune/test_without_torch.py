"""torch is optional: nothing but training itself needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runner import MODELS, ristretto

PACKAGE = MODELS.parent / "ristretto"
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for folder in ("finetune", "pipeline/finetune")
    for path in sorted((PACKAGE / folder).rglob("*.py"))
]


def test_everything_can_be_imported_without_it() -> None:
    lines = ["import doctest, sys", "sys.modules['torch'] = None", *(f"import {name}" for name in MODULES)]
    lines += [f"doctest.DocTestFinder().find({name})" for name in MODULES]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=PACKAGE.parent, check=True)


def test_no_other_command_loads_it(tmp_path: Path) -> None:
    model, weights = (MODELS / "digits_lenet" / name for name in ("train_val.prototxt", "digits_lenet.caffemodel"))
    code = (
        "import sys; from ristretto.cli.main import main\n"
        f"main(['test', '--model', {str(model)!r}, '--weights', {str(weights)!r}, '--iterations', '1',"
        f" '--data-root', {str(MODELS)!r}])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=True, capture_output=True)


def test_the_extra_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = ristretto(capsys, "finetune", "--solver", tmp_path / "solver.prototxt", "--weights", "x")
    assert outcome.status == 2
    assert outcome.message == (
        "ristretto: training needs the package torch (its build for the CPU is enough); "
        "pip install 'ristretto-fixed-point[finetune]'"
    )

"""The fuzz targets of binary formats without a fuzzer, and one of them with it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.test_text_targets import FINDINGS, FUZZ, damaged, target

TARGETS = {
    "caffemodel": 1500,
    "mean_file": 1500,
    "solver_state": 1000,
    "datum": 1500,
    "image": 1500,
    "npz": 500,
    "lmdb_file": 150,
}
"""How many damaged inputs each gets; hdf5_file is C, which may end the process: it is run apart."""


@pytest.fixture(scope="module", autouse=True)
def _targets_can_be_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FUZZ))
    module, rng = target(name), random.Random(name)
    seeds = list(module.seeds())
    words = [word.encode() for word in getattr(module, "words", lambda: ["\0"])()]
    for seed in seeds:
        module.one_input(seed)
    for _ in range(TARGETS[name]):
        module.one_input(damaged(rng.choice(seeds), words, rng))


@pytest.mark.parametrize("path", sorted(FINDINGS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_findings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What once broke a reader does not any more."""
    if path.parent.name in TARGETS:
        monkeypatch.syspath_prepend(str(FUZZ))
        target(path.parent.name).one_input(path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["caffemodel", "ranges_json"])
def test_a_short_run_of_the_fuzzer(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: it has no package for this Python")
    command = [sys.executable, FUZZ / "run.py", name, "--runs", "3000", "--folder", tmp_path]
    # Forked, and not by vfork: what that starts takes over the peak of this process, which the fuzzer's limit counts.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, errors="replace", preexec_fn=lambda: None
    )
    assert done.returncode == 0, done.stderr
    assert "stat::number_of_executed_units: 3000" in done.stderr
    assert list((tmp_path / name / "findings").iterdir()) == []

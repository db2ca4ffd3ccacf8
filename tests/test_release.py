"""The sdist and the wheel: they hold what they should, and run by themselves on every Python that is at hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ristretto
from tests.docs.pages import ROOT

THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
DECLARED = ("3.10", "3.11", "3.12", "3.13")


def test_versions_and_changelog_agree() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert sections[0].startswith("[Unreleased]")
    assert any(section.startswith(f"[{ristretto.__version__}]") for section in sections)
    for section in sections[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", section), section
    pyproject = (ROOT / "pyproject.toml").read_text()
    for version in DECLARED:
        assert f'"Programming Language :: Python :: {version}"' in pyproject
    assert f'requires-python = ">={DECLARED[0]}"' in pyproject


def python_of(version: str) -> str | None:
    """A Python of that version: this one, one on the PATH, or pyenv's where all are wanted."""
    if version == THIS:
        return sys.executable
    programs = [shutil.which(f"python{version}")]
    if os.environ.get("RISTRETTO_PYTHONS") == "all":
        programs += map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for program in filter(None, programs):
        if subprocess.run([program, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0:
            return program
    return None


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wheels of the dependencies come from a package index; without one nothing can be installed."""
    folder = tmp_path_factory.mktemp("index")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, "click"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr:
        pytest.skip("no package index can be reached")


@pytest.mark.slow
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("version", DECLARED)
def test_the_wheel_of_the_sdist_runs_by_itself(version: str, tmp_path: Path) -> None:
    pytest.importorskip("build", reason="the package build is not installed")
    pytest.importorskip("hatchling", reason="the package hatchling is not installed")
    program = python_of(version)
    if program is None:
        pytest.skip(f"python{version} is not on the PATH (RISTRETTO_PYTHONS=all looks at pyenv's too)")
    command = [sys.executable, ROOT / "tools" / "try_release.py", program, "--keep", tmp_path / "dist"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo and library run" in done.stdout

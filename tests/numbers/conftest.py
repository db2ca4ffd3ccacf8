"""A folder with the digits LeNet, for every test of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.numbers.nets import Place, place


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    """The folder, which is the current one."""
    return place(tmp_path / "here", capsys, monkeypatch)

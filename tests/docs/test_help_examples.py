"""The examples of ``ristretto COMMAND --help`` are run, as the documentation's commands are."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from ristretto.cli.main import _COMMANDS, cli
from tests.docs import reader
from tests.docs.pages import Block

SKIPPED = {
    "init": "for colour images of ImageNet's size; docs/init.md has one that is run",
    "finetune": "it trains for a thousand steps",
}
"""Commands whose examples cannot be run, and why."""

BEFORE = {
    "run": "python -c \"import numpy; numpy.savez('in.npz', data=numpy.zeros((2, 1, 16, 16), 'float32'))\"",
    "upgrade": "cp train_val.prototxt old.prototxt; cp net.caffemodel old.caffemodel",
    "doctor": "mkdir data",
    "batch": "echo 'jobs: [{name: float, command: test, model: train_val.prototxt, iterations: 1, weights: "
    "net.caffemodel}]' > jobs.yaml",
}
"""What an example takes for granted."""


def examples(command: str) -> list[str]:
    """The commands of a help text's examples, continued lines put together; those with "..." are no commands."""
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    text = (found.help or "").partition("Example:\n")[2].replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.split()[:1] == ["ristretto"]]
    return [line for line in lines if "..." not in line]


def test_examples_run(tmp_path: Path) -> None:
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    reader.prepare(folder, home)
    reader.write_photos(folder / "photos", each=3)
    shown = []
    for number, command in enumerate(sorted(_COMMANDS, key=lambda name: name != "quantize")):
        lines = [BEFORE[command]] if command in BEFORE else []
        if command not in SKIPPED:
            lines += examples(command)
        shown.append(Block("sh", "", "\n".join(lines) + "\n", number, False))
    reader.read(shown, folder, home)
    assert (folder / "quantized.prototxt").exists()


@pytest.mark.parametrize("command", _COMMANDS)
def test_each_command_has_an_example(command: str) -> None:
    assert examples(command)

"""The file of ristretto batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp

from ristretto.cli.jobs_file import COMMANDS, read_jobs
from ristretto.cli.main import cli
from ristretto.errors import RistrettoError

_FOLDER = Path(mkdtemp(prefix="ristretto-fuzz"))
_FILE = _FOLDER / "jobs.yaml"


def seeds() -> Iterable[bytes]:
    yield b"""root: .
defaults: {iterations: 5, bw_activations: 8, matrix: {trimming_mode: [dynamic_fixed_point, minifloat]}}
jobs:
- {name: a, model: a.prototxt, weights: [a.caffemodel, b.caffemodel]}
- command: test
  model: b.prototxt
  score: ~
  matrix: {rounding: [half_even, half_away], seed: [1, 2, 3]}
"""
    yield b"jobs: [{model: &a x, weights: *a, !!python/object/apply:os.system name: 'true'}]"
    yield b'{"jobs": [{"model": "x", "weights": "y", "plugin": ["a.py", "b"], "error_margin": 1e400}]}'
    yield b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\njobs: *c\n"


def words() -> Iterable[str]:
    import click

    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield from (f"{parameter.name}: " for parameter in command.params)
    yield from ("&a ", "*a", "!!python/name:os.system ", "<<: ", "? ", "--- ", "- ", "|\n ", "matrix: ", "\\ud800")


def one_input(data: bytes) -> None:
    _FILE.write_bytes(data)
    import click

    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    with contextlib.suppress(RistrettoError):
        read_jobs(_FILE, {name: command for name, command in commands.items() if command}, _FOLDER / "out")

"""``ristretto doctor``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ristretto.cli.options import (
    PATH,
    WeightsType,
    check_results,
    data_root,
    inputs,
    plugins,
    score,
    state,
    threads,
    untrusted,
)
from ristretto.cli.output import current_output, is_coloured, is_terminal
from ristretto.errors import UsageError

if TYPE_CHECKING:
    from ristretto.report.findings import Diagnosis

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


@click.command(short_help="Say what would go wrong with a net, before anything runs.")
@click.argument("model", type=PATH, required=False)
@click.argument("weights", type=PATH, nargs=-1)
@click.option("--model", "model_flag", type=PATH, help="The net's prototxt, as MODEL.")
@click.option("--weights", "weights_flag", type=WeightsType(), default=(), help="Its weights, as WEIGHTS.")
@score
@click.option(
    "--no-score", "quick_score", is_flag=True, flag_value=False, default=True, help="Do not run the float net."
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    metavar="N",
    help="Batches to run the float net on.  [default: about 100 images]",
)
@click.option(
    "--calibration_phase",
    type=click.Choice(["TRAIN", "TEST"]),
    default="TRAIN",
    show_default=True,
    help="The phase whose data ranges are to be measured on.",
)
@inputs
@data_root
@untrusted
@state
@threads
@plugins
@click.option("--json", "json_path", type=PATH, metavar="OUT.json", help="Write the findings as JSON.")
def doctor(
    model: Path | None,
    weights: tuple[Path, ...],
    model_flag: Path | None,
    weights_flag: tuple[Path, ...],
    json_path: Path | None,
    **flags: Any,
) -> int:
    """Say what would go wrong with a net, before anything runs: all of it, each with its cure.

    An error stops ristretto quantize or makes its result worthless, a warning may spoil it, a note is good to know. The
    prototxt, its data, the weights and the score are looked at; then the float net runs on a few batches, and where it
    does not do well, again with channels swapped and other means and scales, to see what would help. Exit status: 0 if
    nothing would fail, else 2.

    \b
    Example:
      ristretto doctor train_val.prototxt net.caffemodel --data-root data
    """
    if model_flag is not None:  # then all arguments are weights
        model, weights = model_flag, (*([model] if model is not None else []), *weights)
    if model is None:
        raise UsageError("no prototxt is given", cure="write ristretto doctor MODEL [WEIGHTS...]")
    from ristretto.atomic import atomic_write_text
    from ristretto.pipeline.doctor import DoctorOptions, diagnose
    from ristretto.report.findings import diagnosis_to_json
    from ristretto.report.jsonfile import dump

    given = (*weights, *weights_flag)
    if json_path is not None:
        check_results([json_path], [model, *given])
    with _progress() as say:
        diagnosis = diagnose(DoctorOptions(model, given, **flags), say)
    if json_path is not None:
        atomic_write_text(json_path, dump(diagnosis_to_json(diagnosis)))
    _print(diagnosis)
    return 2 if diagnosis.of("error") else 0


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows what is being done where stderr is a terminal."""
    if not (is_terminal(sys.stderr) and current_output().shows("I")):
        yield lambda what: None
        return
    from ristretto.cli.console import terminal_console

    with terminal_console().status("looking") as status:
        yield lambda what: status.update(what)


def _print(diagnosis: Diagnosis) -> None:
    from ristretto.report.findings import finding_lines, measured_lines, verdict

    write = _writer()
    for finding in diagnosis.findings:
        what, cure = finding_lines(finding)
        write(f"{finding.severity}:", what, _STYLES[finding.severity])
        if cure:
            write("  cure:", cure, "")
    if diagnosis.measured is not None:
        for line in measured_lines(diagnosis.measured):
            write("", line, "")
    write("", verdict(diagnosis), "bold")


def _writer() -> Callable[[str, str, str], None]:
    """Writes a head and a text to stdout: coloured in a terminal, plain lines elsewhere and with NO_COLOR."""
    if not is_coloured(sys.stdout):
        return lambda head, text, style: click.echo(f"{head} {text}" if head else text)
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)

    def write(head: str, text: str, style: str) -> None:
        console.print(Text.assemble((f"{head} ", style), text) if head else Text(text, style))

    return write

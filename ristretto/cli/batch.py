"""``ristretto batch``."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ristretto.cli.options import PATH
from ristretto.cli.output import current_output, is_terminal
from ristretto.cli.sections import SectionCommand, section
from ristretto.errors import UsageError

if TYPE_CHECKING:
    from ristretto.cli.jobs_run import Done

EXIT_INTERRUPTED, EXIT_MARGIN_MISSED, EXIT_MISTAKE, EXIT_FAULT = 130, 3, 2, 1


@click.command(short_help="Run many jobs from a file, and sum them up.", cls=SectionCommand)
@click.argument("jobs", type=PATH, metavar="JOBS.yaml")
@section(
    "Where",
    click.option(
        "--output", type=PATH, default=Path("batch"), show_default=True, help="The folder for all that jobs write."
    ),
    click.option("--csv", "csv_path", type=PATH, help="The summary as CSV.  [default: OUTPUT/summary.csv]"),
)
@section(
    "How",
    click.option("--jobs", "at_a_time", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
                 help="How many run at a time; each takes all cores unless its threads are given."),
    click.option("--force", is_flag=True, help="Run what is done and unchanged too."),
    click.option("--stop_on_error", is_flag=True, help="Begin no other job once one has failed."),
    click.option("--strict", is_flag=True, help="Exit with status 3 if a margin is missed."),
    click.option("--dry_run", is_flag=True, help="Print the commands, and run nothing."),
)  # fmt: skip
def batch(
    jobs: Path,
    output: Path,
    csv_path: Path | None,
    at_a_time: int,
    force: bool,
    stop_on_error: bool,
    strict: bool,
    dry_run: bool,
) -> int:
    """Run many jobs, each in a folder and a process of its own, and sum them up in one table.

    The file lists jobs with the flags of ristretto quantize by name (or of test: command: test); a matrix makes a job
    of every combination. All are checked before the first one runs. One that fails leaves the others alone. Called
    again, only what failed, is missing or has changed is run.

    \b
    Example:
      ristretto batch jobs.yaml --output results

    \b
    With this in jobs.yaml, for example:
      defaults: {model: train_val.prototxt, weights: net.caffemodel,
                 trimming_mode: dynamic_fixed_point, iterations: all}
      jobs:
        - name: ladder
        - name: fixed
          matrix: {bw_conv_params: [8, 6, 4], bw_activations: [8, 16]}

    Exit status: 0 all done; 1 or 2 if a job failed, by our fault or a mistake; 3 with --strict if a margin was missed.
    """
    from ristretto.cli.jobs_file import COMMANDS, read_jobs
    from ristretto.cli.jobs_run import Batch, shell_line
    from ristretto.cli.main import cli

    context = click.get_current_context()
    commands = {name: command for name in COMMANDS if (command := cli.get_command(context, name)) is not None}
    asked = read_jobs(jobs, commands)
    if dry_run:
        for job in asked.jobs:
            click.echo(shell_line(job, output / job.name, asked.root))
        return 0
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{output}: cannot make the folder: {error.strerror}", cure="give another --output") from error
    runner = Batch(asked.jobs, asked.root, output, force, stop_on_error, _teller())

    def finished(done: Sequence[Done]) -> None:
        _write(output, csv_path or output / "summary.csv", [line_of(each) for each in done])

    try:
        results = runner.run(at_a_time, finished)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on with what is not done", err=True)
        return EXIT_INTERRUPTED
    lines = [line_of(each) for each in results]
    _print(lines)
    return _status(results, lines, strict)


@dataclass(frozen=True, slots=True)
class Line:
    """One job in the summary; scores as they are, the drop in percent points."""

    name: str
    command: str
    status: str
    net: str = ""
    float_score: float | None = None
    score: float | None = None
    drop_pct: float | None = None
    margin_met: bool | None = None
    widths: str = ""
    seconds: float = 0.0
    message: str = ""


_HEADS = {
    "name": "job", "net": "net", "float_score": "float", "score": "score", "drop_pct": "drop, points",
    "margin_met": "margin held", "widths": "bits", "seconds": "s", "status": "",
}  # fmt: skip


def line_of(done: Done) -> Line:
    """What the summary says of a job: its report's figures."""
    from ristretto.cli.jobs_run import read_json

    status = ("unchanged" if done.kept else "done") if done.good else ("failed" if done.status else "not run")
    line = Line(done.job.name, done.job.command, status, seconds=round(done.seconds, 1), message=done.message)
    report = read_json(done.folder / "report.json") if done.good else None
    if not isinstance(report, dict):
        return line
    facts: dict[str, Any] = {"net": report.get("net", "")}
    if done.job.command == "test":
        facts["score"] = report.get("score")
    else:
        facts |= {
            "float_score": report["baseline"]["score"],
            "score": report["combined"]["score"],
            "drop_pct": report["drop_pct"],
            "margin_met": report["margin_met"],
            "widths": _widths(report),
        }
    return Line(**{**asdict(line), **facts})


def _widths(report: dict[str, Any]) -> str:
    """The widths chosen, group by group."""
    mixed = report.get("mixed")
    if isinstance(mixed, dict) and mixed.get("chosen") is not None:
        return f"mean {mixed['path'][mixed['chosen']]['cost']:.3g}"
    return ", ".join(f"{group} {ladder['chosen']}" for group, ladder in report.get("ladders", {}).items())


def _write(output: Path, csv_path: Path, lines: Sequence[Line]) -> None:
    from ristretto.atomic import atomic_write_text

    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(Line.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    rows = [asdict(line) for line in lines]
    writer.writerows([{key: "" if value is None else value for key, value in row.items()} for row in rows])
    atomic_write_text(csv_path, table.getvalue())
    atomic_write_text(output / "summary.json", json.dumps({"schema": 1, "jobs": rows}, indent=1) + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print(lines: Sequence[Line]) -> None:
    """The table on stdout: drawn in a terminal, columns of plain text elsewhere; then what failed, and why."""
    rows = [[_cell(getattr(line, key)) for key in _HEADS] for line in lines]
    if is_terminal(sys.stdout):
        from rich.console import Console
        from rich.table import Table

        table = Table(*_HEADS.values())
        for line, row in zip(lines, rows, strict=True):
            bad = line.status == "failed" or line.margin_met is False
            table.add_row(*row, style="red" if bad else "")
        Console().print(table)
    else:
        texts = [list(_HEADS.values()), *rows]
        sizes = [max(len(row[column]) for row in texts) for column in range(len(_HEADS))]
        for row in texts:
            click.echo("  ".join(text.ljust(size) for text, size in zip(row, sizes, strict=True)).rstrip())
    for line in lines:
        if line.message:
            click.echo(f"{line.name}: {line.message}")


def _teller() -> Callable[[str], None]:
    """Tells of jobs on stderr, unless --quiet is given: asked here, as the threads that tell do not know the flags."""
    shown = current_output().shows("I")

    def tell(text: str) -> None:
        if shown:
            click.echo(text, err=True)

    return tell


def _status(results: Sequence[Done], lines: Sequence[Line], strict: bool) -> int:
    bad = [done.status for done in results if not done.good and done.status is not None]
    if any(status != EXIT_MISTAKE for status in bad):
        return EXIT_FAULT
    if bad:
        return EXIT_MISTAKE
    return EXIT_MARGIN_MISSED if strict and any(line.margin_met is False for line in lines) else 0

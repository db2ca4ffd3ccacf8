"""``ristretto batch``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ristretto.cli.options import OUTPUT_PATH, PATH
from ristretto.cli.output import current_output
from ristretto.cli.sections import SectionCommand, section
from ristretto.errors import UsageError

if TYPE_CHECKING:
    from ristretto.cli.jobs_run import Done
    from ristretto.cli.jobs_table import Line

EXIT_INTERRUPTED, EXIT_MARGIN_MISSED, EXIT_MISTAKE, EXIT_FAULT = 130, 3, 2, 1


@click.command(short_help="Run many jobs from a file, and sum them up.", cls=SectionCommand)
@click.argument("jobs", type=PATH, metavar="JOBS.yaml")
@section(
    "Where",
    click.option(
        "--output", type=PATH, default=Path("batch"), show_default=True, help="The folder for all that jobs write."
    ),
    click.option("--csv", "csv_path", type=OUTPUT_PATH, help="The summary as CSV.  [default: OUTPUT/summary.csv]"),
)
@section(
    "How",
    click.option("--jobs", "at_a_time", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
                 help="How many run at a time; each takes all cores unless its threads are given."),
    click.option("--force", is_flag=True, help="Run what is done and unchanged too."),
    click.option("--stop_on_error", is_flag=True, help="Begin no other job once one has failed."),
    click.option("--strict", is_flag=True, help="Exit with status 3 if a margin is missed."),
    click.option("--dry_run", is_flag=True, help="Print the commands, and run nothing."),
    click.option("--untrusted", is_flag=True, help="The file is somebody else's: refuse code and machines that it "
                 "names, and paths that lead out of its folder and OUTPUT; every job is run with this flag."),
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
    untrusted: bool,
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
    from ristretto.atomic import check_outputs
    from ristretto.cli.jobs_file import COMMANDS, read_jobs
    from ristretto.cli.jobs_run import Batch, shell_line
    from ristretto.cli.jobs_table import line_of, print_summary, write_summary
    from ristretto.cli.main import cli
    from ristretto.cli.signals import STOPPED, Terminated

    context = click.get_current_context()
    commands = {name: command for name in COMMANDS if (command := cli.get_command(context, name)) is not None}
    asked = read_jobs(jobs, commands, output, {"quantize": _check_quantize}, untrusted=untrusted)
    if dry_run:
        for job in asked.jobs:
            click.echo(shell_line(job, asked.root))
        return 0
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{output}: cannot make the folder: {error.strerror}", cure="give another --output") from error
    as_csv, as_json = csv_path or output / "summary.csv", output / "summary.json"
    check_outputs([as_csv, as_json], [jobs])
    runner = Batch(asked.jobs, asked.root, output, force, stop_on_error, _teller())

    lines: dict[str, Line] = {}

    def finished(done: Sequence[Done]) -> None:
        for each in done:
            if each.job.name not in lines:
                lines[each.job.name] = line_of(each)
        write_summary([lines[each.job.name] for each in done], as_csv, as_json)

    try:
        results = runner.run(at_a_time, finished)
    except STOPPED as stop:
        click.echo("interrupted; the same command goes on with what is not done", err=True)
        return stop.status if isinstance(stop, Terminated) else EXIT_INTERRUPTED
    shown = [lines[each.job.name] for each in results]
    print_summary(shown)
    return _status(results, shown, strict)


def _check_quantize(flags: Mapping[str, Any]) -> None:
    """Refuse flags of ``quantize`` that contradict each other, as it would do itself."""
    from ristretto.cli.quantize import quantize_options
    from ristretto.pipeline.wishes import check_wishes

    wishes = {name: value for name, value in flags.items() if name not in ("report", "strict")}
    check_wishes(quantize_options(wishes, flags["report"]))


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

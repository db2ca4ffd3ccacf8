"""``ristretto verify``."""

from __future__ import annotations

from pathlib import Path

import click

from ristretto.cli.options import OUTPUT_PATH, PATH, check_results, untrusted

EXIT_DIFFERENT = 3


@click.command(short_help="Run the job of a report again, and compare.")
@click.argument("report", type=PATH, metavar="REPORT.json")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-6,
    show_default=True,
    help="How far floats may be apart, relative to the larger; whole numbers, formats and words must be equal.",
)
@untrusted
@click.option("--data-root", type=PATH, metavar="DIR", help="With --untrusted, another folder for its files.")
@click.option("--json", "as_json", type=OUTPUT_PATH, metavar="OUT.json", help="Write what was found, all of it.")
def verify(report: Path, tolerance: float, untrusted: bool, data_root: Path | None, as_json: Path | None) -> int:
    """Run the job of a report again, and compare all that comes out.

    The report of quantize, test or finetune says with which flags, files and versions it was made (docs/report.md);
    plug-ins and scripts that it names are run. Call this in the folder that the job ran in. If a file has changed
    since, nothing is run. What the job wrote then is left alone. With --untrusted a report that names code is refused.

    \b
    Example:
      ristretto verify report.json

    Exit status: 0 the same again, 3 something is different.
    """
    from ristretto.atomic import atomic_write_text
    from ristretto.cli.console import job_console
    from ristretto.pipeline.verify import verify as verify_report
    from ristretto.report.jsonfile import dump
    from ristretto.report.verification import verification_lines, verification_to_json

    if as_json is not None:
        check_results([as_json], [report])
    with job_console() as console:
        found = verify_report(report, tolerance, console.hear, untrusted=untrusted, data_root=data_root)
    for line in verification_lines(found):
        click.echo(line)
    if as_json is not None:
        atomic_write_text(as_json, dump(dict(verification_to_json(found))))
    return 0 if found.holds else EXIT_DIFFERENT

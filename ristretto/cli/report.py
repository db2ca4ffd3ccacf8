"""``ristretto report``."""

from __future__ import annotations

from pathlib import Path

import click

from ristretto.cli.options import PATH, check_results


@click.command(short_help="Draw the JSON report of a quantization as an HTML page.")
@click.option("--report", "source", type=PATH, required=True, help="What ristretto quantize --report wrote.")
@click.option("--html", type=PATH, required=True, metavar="OUT.html", help="Where to write the page.")
def report(source: Path, html: Path) -> int:
    """Draw the JSON report of a quantization as an HTML page: one file, which needs no network.

    quantize --html writes the same page at once (docs/html_report.md).

    \b
    Example:
      ristretto report --report report.json --html report.html
    """
    from ristretto.atomic import atomic_write_text
    from ristretto.pipeline.files import read_json
    from ristretto.report.html.page import page_of_file

    check_results([html], [source])
    atomic_write_text(html, page_of_file(read_json(source, "report"), str(source)))
    click.echo(f"{html}: written")
    return 0

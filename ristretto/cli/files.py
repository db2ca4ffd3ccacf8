"""``ristretto apply`` and ``ristretto upgrade``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ristretto.cli.options import PATH, model, plugins


@click.command(short_help="Write chosen number formats into any prototxt.")
@model
@click.option("--formats", type=PATH, required=True, metavar="FILE.json", help="A report, or formats written by hand.")
@click.option("--output", type=PATH, required=True, help="Where to write the prototxt.")
@click.option(
    "--dialect",
    type=click.Choice(["extended", "original"]),
    default="extended",
    show_default=True,
    help="The reader the prototxt is written for: original keeps to what the C++ tool knows.",
)
@plugins
def apply(
    model: Path, formats: Path, output: Path, dialect: Literal["extended", "original"], plugins: tuple[str, ...]
) -> int:
    """Write chosen number formats into any prototxt.

    Nothing but the named layers changes: comments, order and fields that nobody knows stay. The formats are those of a
    report, or of a file such as {"layers": {"conv1": {"in": {"bw": 8, "fl": 5}, "out": {"bw": 8, "fl": 4}, "params":
    {"bw": 8, "fl": 7}}}}.

    \b
    Example:
      ristretto apply --model deploy.prototxt --formats report.json --output deploy_quantized.prototxt
    """
    from ristretto.cli.console import warn
    from ristretto.pipeline.files import apply as apply_formats

    applied = apply_formats(model, formats, output, dialect, plugins)
    for name in applied.missing:
        warn(f"{model} has no layer '{name}' that could be quantized")
    count = len(applied.layers)
    done = (
        f"formats of {count} layer{'s' * (count != 1)} written" if count else "no formats to write, the net as it was"
    )
    click.echo(f"{output}: {done}")
    return 0


@click.command(short_help="Bring a V0 or V1 net to today's format.")
@click.option("--model", type=PATH, required=True, help="The old prototxt.")
@click.option("--output", type=PATH, required=True, help="Where to write the new one.")
@click.option("--weights", type=PATH, help="The old weights file.")
@click.option("--output-weights", type=PATH, help="Where to write the new one.")
def upgrade(model: Path, output: Path, weights: Path | None, output_weights: Path | None) -> int:
    """Bring a V0 or V1 net to today's format, as Caffe does when it reads one. One line on stdout says what was done.

    \b
    Example:
      ristretto upgrade --model old.prototxt --output new.prototxt \\
        --weights old.caffemodel --output-weights new.caffemodel
    """
    from ristretto.pipeline.files import upgrade as upgrade_files

    upgraded = upgrade_files(model, output, weights, output_weights)
    also = f"; {output_weights}: {upgraded.weights}" if upgraded.weights else ""
    click.echo(f"{output}: {upgraded.model}{also}")
    return 0

"""``ristretto apply`` and ``ristretto upgrade``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ristretto.cli.options import DIALECTS, PATH, model, plugins

Dialect = Literal["extended", "original", "chaidnn", "intel", "accdnn"]


@click.command(short_help="Write chosen number formats into any prototxt.")
@model
@click.option("--formats", type=PATH, required=True, metavar="FILE.json", help="A report, or formats written by hand.")
@click.option("--output", type=PATH, required=True, help="Where to write the prototxt.")
@click.option(
    "--dialect",
    type=click.Choice(DIALECTS),
    default="extended",
    show_default=True,
    help="The reader the prototxt is written for (docs/dialects.md): original keeps to what the C++ tool knows.",
)
@click.option("--nearest", is_flag=True, help="Write the nearest setting where that reader cannot be told one.")
@plugins
def apply(model: Path, formats: Path, output: Path, dialect: Dialect, nearest: bool, plugins: tuple[str, ...]) -> int:
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

    applied = apply_formats(model, formats, output, dialect, plugins, nearest=nearest)
    for name in applied.missing:
        warn(f"{model} has no layer '{name}' that could be quantized")
    count = len(applied.layers)
    done = (
        f"formats of {count} layer{'s' * (count != 1)} written" if count else "no formats to write, the net as it was"
    )
    click.echo(f"{output}: {done}")
    return 0


@click.command("convert-dialect", short_help="Write a quantized prototxt for another reader.")
@model
@click.option(
    "--from",
    "source",
    type=click.Choice(("auto", *DIALECTS)),
    default="auto",
    show_default=True,
    help="The dialect it is in; auto goes by the names of its fields.",
)
@click.option("--to", type=click.Choice(DIALECTS), required=True, help="The dialect to write.")
@click.option("--output", type=PATH, required=True, help="Where to write the prototxt.")
@click.option("--nearest", is_flag=True, help="Write the nearest setting where the dialect cannot say one.")
@plugins
def convert_dialect(
    model: Path,
    source: Literal["auto", "extended", "original", "chaidnn", "intel", "accdnn"],
    to: Dialect,
    output: Path,
    nearest: bool,
    plugins: tuple[str, ...],
) -> int:
    """Write a quantized prototxt for another reader: the original Ristretto, CHaiDNN, Intel Caffe or AccDNN.

    Only types and the fields of formats change; comments, order and fields that nobody knows stay. What the new dialect
    cannot say is an error that names the layer and the nearest setting that can be said; with --nearest that is
    written, and told on stderr. What each dialect can say stands in docs/dialects.md.

    \b
    Example:
      ristretto convert-dialect --model quantized.prototxt --to chaidnn --output for_chaidnn.prototxt --nearest
    """
    from ristretto.cli.console import warn
    from ristretto.pipeline.files import convert_dialect as convert

    done = convert(model, output, to, source, nearest=nearest, plugins=plugins)
    for change in done.changes:
        warn(change)
    count = f"formats of {done.layers} layer{'s' * (done.layers != 1)}"
    click.echo(f"{output}: {count}, from {done.source} to {to}")
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

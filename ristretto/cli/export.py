"""``ristretto export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ristretto.cli.options import (
    PATH,
    ListType,
    data_root,
    dialect_read,
    inputs,
    model,
    optional_weights,
    plugins,
    rounding,
    seed,
    state,
    untrusted,
)
from ristretto.export.targets import TARGETS


def _targets() -> str:
    return "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items())


@click.command(short_help="Write a quantized net for hardware and other runtimes.")
@model
@optional_weights
@click.option("--target", type=click.Choice(list(TARGETS)), metavar="TARGET", required=True, help=_targets() + ".")
@click.option("--output", type=PATH, required=True, help="The folder to write, a new one.")
@click.option(
    "--images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Images whose values are written, or on which an ONNX model is measured.  [default: 1, or 100]",
)
@inputs
@data_root
@untrusted
@click.option(
    "--formats",
    type=ListType(),
    default=(),
    help="Kinds of files for integers: npy, hex, coe, c. npy is always written.  [default: all]",
)
@click.option("--layers", type=ListType(), default=(), help="Write vectors and files of these only.  [default: all]")
@click.option("--force", is_flag=True, help="Replace the folder of an older export.")
@click.option("--blobs", type=ListType(), help="The blobs that an ONNX model computes.  [default: the net's outputs]")
@click.option(
    "--batch", type=click.IntRange(min=1), help="Fix axis 0 of an ONNX model's inputs.  [default: any length]"
)
@rounding
@click.option(
    "--accumulator_bits", type=click.IntRange(2, 48), default=32, show_default=True, help="Bits of the accumulator."
)
@click.option(
    "--overflow",
    type=click.Choice(("saturate", "wrap", "report")),
    default="saturate",
    show_default=True,
    help="What that accumulator does with a sum that it cannot hold.",
)
@state
@seed
@dialect_read
@plugins
def export(rounding: str, accumulator_bits: int, overflow: str, images: int | None, **flags: Any) -> int:
    """Write a quantized net for hardware and other runtimes.

    The net's own formats are taken to the letter. Target hardware writes a folder of integers with net.json, from which
    a generator can build the net, and the integers of every layer for some images (docs/hardware.md). The other targets
    write ONNX models and plain Caffe files (docs/export.md).

    \b
    Example:
      ristretto export --model quantized.prototxt --weights net.caffemodel \\
        --target hardware --output hardware --images 2
    """
    from ristretto.cli.console import warn
    from ristretto.numerics.arithmetic import Accumulator, Overflow
    from ristretto.numerics.rounding import Rounding
    from ristretto.pipeline.export import ExportOptions
    from ristretto.pipeline.export import export as export_net
    from ristretto.version import VERSION

    path: Path = flags["output"]
    accumulator = Accumulator(accumulator_bits, Overflow(overflow))
    given: dict[str, Any] = flags if images is None else {**flags, "images": images}
    options = ExportOptions(rounding=Rounding(rounding), accumulator=accumulator, version=VERSION, **given)
    done = export_net(options)
    for warning in done.warnings:
        warn(warning)
    click.echo(f"{path}: {flags['target']}")
    for line in done.lines:
        click.echo(line)
    return 0

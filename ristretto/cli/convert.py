"""``ristretto convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ristretto.cli.options import (
    PATH,
    data_root,
    inputs,
    model,
    optional_weights,
    phase,
    plugins,
    rounding,
    seed,
    state,
    untrusted,
)


@click.command(short_help="Turn a net and its weights into an ONNX model.")
@model
@optional_weights
@click.option("--output", type=PATH, required=True, metavar="OUT.onnx", help="Where to write the model.")
@click.option(
    "--converter",
    type=click.Choice(["native", "caffe2onnx"]),
    default="native",
    show_default=True,
    help="Our own, or the package caffe2onnx (pip install --no-deps caffe2onnx), which knows none of the flags below.",
)
@click.option("--outputs", metavar="A,B", help="The blobs to compute.  [default: the net's outputs]")
@click.option("--batch", type=click.IntRange(min=1), help="Fix axis 0 of the inputs.  [default: any length]")
@phase
@rounding
@inputs
@data_root
@untrusted
@state
@seed
@plugins
def convert(outputs: str | None, **flags: Any) -> int:
    """Turn a net and its weights into an ONNX model that the checker and shape inference accept.

    Inputs and outputs have the names of the prototxt's blobs, nodes those of its layers. Data layers become inputs;
    their shapes come from the source, or from --inputs, or from crop_size. A quantized prototxt is converted with its
    roundings. One line per input and output goes to stdout.

    \b
    Example:
      ristretto convert --model deploy.prototxt --weights net.caffemodel --output net.onnx
    """
    from ristretto.cli.console import warn
    from ristretto.numerics.rounding import Rounding
    from ristretto.pipeline.convert import ConvertOptions
    from ristretto.pipeline.convert import convert as convert_net
    from ristretto.version import VERSION

    wanted = None if outputs is None else tuple(part for part in outputs.split(",") if part)
    flags["rounding"] = Rounding(flags["rounding"])
    path: Path = flags["output"]
    done = convert_net(ConvertOptions(outputs=wanted, version=VERSION, **flags))
    for warning in done.warnings:
        warn(warning)
    click.echo(f"{path}: opset {done.opset}, {done.nodes} nodes")
    for kind, values in (("input", done.inputs), ("output", done.outputs)):
        for name, shape in values.items():
            click.echo(f"{kind} {name}: {' x '.join(map(str, shape)) or 'scalar'}")
    return 0

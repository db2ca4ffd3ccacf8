"""``ristretto fold``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ristretto.cli.options import PATH, model, phase, state, weights


@click.command(short_help="Fold BatchNorm, Scale and Bias into the layer before them.")
@model
@weights
@click.option("--output", type=PATH, required=True, help="Where to write the new prototxt.")
@click.option("--output-weights", type=PATH, required=True, help="Where to write the new .caffemodel.")
@phase
@state
def fold(
    model: Path,
    weights: tuple[Path, ...],
    output: Path,
    output_weights: Path,
    phase: Literal["TRAIN", "TEST"],
    level: int,
    stages: tuple[str, ...],
) -> int:
    """Fold BatchNorm, Scale and Bias into the convolution, deconvolution or inner product before them.

    The net computes what it did in the given phase, but for rounding, and has none of these layers where they could be
    folded: hardware has no BatchNorm, and a quantized net rounds once where it would round three times. Comments and
    all other layers stay as they are. One line on stdout for each layer that took others in, and one with the reason
    for each that stays; where nothing can be folded the files written are equal to those given.

    \b
    Example:
      ristretto fold --model train_val.prototxt --weights net.caffemodel \\
        --output folded.prototxt --output-weights folded.caffemodel
    """
    from ristretto.pipeline.fold import fold as fold_files

    folded = fold_files(model, weights, output, output_weights, phase, level, stages)
    for chain in folded.folded:
        click.echo(f"folded {', '.join(chain.layers)} into {chain.into}")
    for layer, reason in folded.declined:
        click.echo(f"kept {layer}: {reason}")
    if not folded.folded:
        click.echo(f"nothing to fold: {output} is the net as it was")
    return 0

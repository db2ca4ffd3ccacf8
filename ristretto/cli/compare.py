"""``ristretto compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ristretto.cli.options import PATH, WeightsType, model, net_run, optional_weights, phase, simulated


@click.command(short_help="Say layer by layer how far a quantized net is from its float net.")
@model
@optional_weights
@click.option("--against", type=PATH, required=True, help="The prototxt to compare with it, usually quantized.")
@click.option(
    "--against-weights", type=WeightsType(), default=(), help="Its weights.  [default: those given by --weights]"
)
@click.option("--images", type=click.IntRange(min=1), default=64, show_default=True, help="Images to look at.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@phase
@net_run
def compare(against: Path, against_weights: tuple[Path, ...], images: int, as_json: bool, **flags: Any) -> int:
    """Say layer by layer how far a quantized net is from its float net, and which layer is to blame.

    Both nets see the same images, those of --model or --inputs. For each layer that both have, by its name: the error
    that it makes alone, on the float net's values, and the error that has gathered up to it, as signal to noise ratios
    in dB; and how many values lie at the ends of its formats or beyond.

    \b
    Example:
      ristretto compare --model train_val.prototxt --weights net.caffemodel --against quantized.prototxt
    """
    from ristretto.cli.console import say_device, warn
    from ristretto.pipeline.compare import compare as compare_nets
    from ristretto.pipeline.evaluate import NetOptions
    from ristretto.report.comparison import comparison_to_json, render_comparison
    from ristretto.report.jsonfile import dump

    options = NetOptions(**simulated(flags))
    say_device(options.gpu)
    comparison = compare_nets(options, against, against_weights, images)
    for warning in comparison.warnings:
        warn(warning)
    click.echo(dump(comparison_to_json(comparison)) if as_json else render_comparison(comparison), nl=not as_json)
    return 0

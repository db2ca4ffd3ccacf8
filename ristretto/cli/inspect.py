"""``ristretto inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ristretto.cli.options import data_root, model, optional_weights, phase, plugins, state, untrusted


@click.command(short_help="Show layers, shapes, parameters, operations and weight ranges.")
@model
@optional_weights
@phase
@data_root
@untrusted
@state
@plugins
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(
    model: Path,
    weights: tuple[Path, ...],
    phase: Literal["TRAIN", "TEST"],
    data_root: Path | None,
    untrusted: bool,
    level: int,
    stages: tuple[str, ...],
    plugins: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show what a net is made of: layers, shapes, parameters, operations and, with --weights, their ranges.

    \b
    Example:
      ristretto inspect --model deploy.prototxt --weights net.caffemodel
    """
    from ristretto.cli.console import warn
    from ristretto.pipeline.inspect import inspect as inspect_net
    from ristretto.report.inspection import facts_to_json, render_facts
    from ristretto.report.jsonfile import dump

    facts = inspect_net(model, weights, phase, data_root, plugins, level, stages, untrusted)
    for warning in facts.warnings:
        warn(warning)
    click.echo(dump(facts_to_json(facts)) if as_json else render_facts(facts), nl=not as_json)
    return 0

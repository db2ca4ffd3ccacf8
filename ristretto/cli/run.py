"""``ristretto run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ristretto.cli.options import PATH, check_results, model, net_run, optional_weights, phase, simulated


@click.command(short_help="Run one batch through a net and save its blobs.")
@model
@optional_weights
@click.option("--outputs", type=PATH, required=True, metavar="OUT.npz", help="Where to save the blobs, by name.")
@click.option("--blobs", metavar="A,B|all", help="The blobs to save.  [default: the net's outputs]")
@phase
@click.option("--batch", type=click.IntRange(min=0), default=0, show_default=True, help="Which batch of its own data.")
@net_run
def run(outputs: Path, blobs: str | None, batch: int, **flags: Any) -> int:
    """Run one batch through a net and save its blobs.

    With --inputs the arrays of an npz file are fed by blob name and the net takes their shapes; without, the net reads
    its own data.

    \b
    Example:
      ristretto run --model deploy.prototxt --weights net.caffemodel --inputs in.npz --outputs out.npz
    """
    import numpy as np

    from ristretto.cli.console import say_device, warn
    from ristretto.cli.npz import save_npz
    from ristretto.errors import UsageError
    from ristretto.pipeline.evaluate import NetOptions
    from ristretto.pipeline.evaluate import run as run_net
    from ristretto.report.events import Warned

    read = [flags["model"], *flags["weights"], *filter(None, [flags["inputs"]])]
    check_results([outputs], read)
    options = NetOptions(**simulated(flags))
    wanted = None if blobs is None else tuple(part.strip() for part in blobs.split(",") if part.strip())
    if wanted == ():
        raise UsageError("--blobs names no blob", cure="write --blobs conv1,prob or --blobs all")
    say_device(options.gpu)
    values = run_net(options, wanted, batch, lambda event: warn(event.text) if isinstance(event, Warned) else None)
    save_npz(outputs, values)
    for name, array in values.items():
        click.echo(f"{name}: {' x '.join(map(str, array.shape)) or 'scalar'}")
        if not np.isfinite(array).all():
            warn(f"blob '{name}' holds NaN or infinity")
    return 0

"""``ristretto demo``."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import click

from ristretto.cli.options import PATH


@click.command(short_help="Quantize a small net that comes with the tool.")
@click.option(
    "--net",
    type=click.Choice(["lenet", "resnet"]),
    default="lenet",
    show_default=True,
    help="Which of the two nets, both trained on 8 x 8 pixel digits.",
)
@click.option("--output", type=PATH, metavar="DIR", help="Where to write the result.  [default: a new folder]")
@click.option("--copy", type=PATH, metavar="DIR", help="Copy both nets and their data to a new folder, run nothing.")
def demo(net: Literal["lenet", "resnet"], output: Path | None, copy: Path | None) -> int:
    """Quantize a small net that comes with the tool, so that you see what the main job does.

    \b
    Example:
      ristretto demo

    With --copy you get the nets and their data, to try the other commands on.
    """
    if copy is not None:
        return _copied(copy)
    from ristretto.cli.output import current_output
    from ristretto.cli.quantize import run_quantize
    from ristretto.errors import UsageError
    from ristretto.resources import models_folder

    models = models_folder()
    folder = models / f"digits_{net}"
    target = output or Path(tempfile.mkdtemp(prefix="ristretto-demo-"))
    if target.exists() and not target.is_dir():
        raise UsageError("this is a file, a folder is to be written to", file=str(target), cure="name a folder")
    made = not target.exists() or output is None
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot make the folder: {error.strerror}"
        raise UsageError(what, file=str(target), cure="name another with --output") from error
    flags: dict[str, Any] = {
        "model": folder / "train_val.prototxt",
        "weights": (folder / f"digits_{net}.caffemodel",),
        "model_quantized": target / "quantized.prototxt",
        "trimming_mode": "dynamic_fixed_point",
        "iterations": "all",
        "error_margin": 1.0,
        "data_root": models,
        "also": (f"{folder / 'deploy.prototxt'}={target / 'deploy_quantized.prototxt'}",),
        "rounding": "half_even",
        "html": target / "report.html",
    }
    command = (
        f"ristretto quantize --model {flags['model']} --weights {flags['weights'][0]} --model_quantized "
        f"{flags['model_quantized']} --trimming_mode dynamic_fixed_point --iterations all --error_margin 1 "
        f"--data-root {models} --report {target / 'report.json'} --html {target / 'report.html'}"
    )
    if current_output().shows("I"):
        click.echo(command, err=True)
    try:
        return run_quantize(flags, target / "report.json", strict=False)
    finally:
        if made:
            with suppress(OSError):  # it is not empty: the job is done
                target.rmdir()


def _copied(target: Path) -> int:
    from ristretto.atomic import atomic_folder
    from ristretto.resources import models_folder

    models = models_folder()
    with atomic_folder(target) as folder:
        # Whatever the mode of an installed file is, a copy can be changed.
        shutil.copytree(models, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in sorted(models.glob("*/train_val.prototxt")):
        click.echo(f"{target / path.relative_to(models)}")
    return 0

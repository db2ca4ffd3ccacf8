"""``ristretto init``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ristretto.cli.options import PATH, AnyType, model, plugins


class NumbersType(AnyType):
    """Numbers, separated by commas."""

    name = "N,N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Split at the commas."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is no list of numbers such as 104,117,123", param, ctx)


_SIZE = click.IntRange(min=1)


@click.command(short_help="Make a net that can be scored from a deploy net and images.")
@model
@click.option("--images", type=PATH, required=True, metavar="FOLDER|LIST|LMDB", help="The images to score.")
@click.option("--output", type=PATH, required=True, metavar="OUT.prototxt", help="Where to write the net.")
@click.option("--list_output", type=PATH, metavar="OUT.txt", help="Where to write the list of images.")
@click.option(
    "--train_images", type=PATH, metavar="FOLDER|LIST|LMDB", help="Images for phase TRAIN, to measure ranges on."
)
@click.option(
    "--train",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=None,
    metavar="SHARE",
    help="The share of the images to keep for phase TRAIN.  [default: TRAIN reads those that are scored]",
)
@click.option(
    "--mean_value", type=NumbersType(), default=(), help="What is taken off pixels, one value or one per channel."
)
@click.option("--bgr/--rgb", default=True, help="The order of the values of --mean_value.  [default: bgr]")
@click.option("--mean_file", type=PATH, metavar="FILE.binaryproto", help="The same as an image.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="What they are multiplied by after that.")
@click.option("--crop_size", type=_SIZE, default=None, help="Side of the square that is cut from the middle.")
@click.option("--new_height", type=_SIZE, default=None, help="Resize images first.  [default: to the net's input]")
@click.option("--new_width", type=_SIZE, default=None, help="Goes with it.")
@click.option("--gray", is_flag=True, help="Read images gray.  [default: if the net has one channel]")
@click.option("--batch_size", type=_SIZE, default=50, show_default=True, help="Images per batch.")
@click.option("--label_blob", default="label", show_default=True, help="What to call the blob of labels.")
@click.option("--score", metavar="BLOB", help="The blob with the classes' scores.  [default: the only output]")
@plugins
def init(bgr: bool, **flags: Any) -> int:
    """Make a net that can be scored, a train_val.prototxt, from a deploy net and images.

    The deploy net keeps its text; in the place of its input come data layers for TRAIN and TEST, at its end accuracies
    and a loss. A folder with a sub-folder for each class gives labels by the sorted names of the sub-folders (or by
    their numbers, if all are named so); a list has 'path label' lines, or paths alone. Without labels the score is
    agreement with the float net. Images are read blue, green, red, as Caffe does.

    \b
    Example:
      ristretto init --model deploy.prototxt --images photos --output train_val.prototxt \\
        --new_height 256 --new_width 256 --crop_size 227 --mean_value 104,117,123
    """
    from ristretto.pipeline.init import InitOptions, initialise

    given = {name: value for name, value in flags.items() if value is not None}
    if not bgr:
        given["mean_value"] = given["mean_value"][::-1]
    options = InitOptions(**given)
    done = initialise(options)
    for note in done.notes:
        click.echo(f"note: {note}")
    for path in done.files:
        click.echo(f"wrote {path}")
    output: Path = options.output
    click.echo(f"next: ristretto doctor {output} WEIGHTS")
    return 0

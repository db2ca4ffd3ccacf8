"""``ristretto quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ristretto.cli.options import (
    PATH,
    batches_asked,
    data_root,
    inputs,
    iterations,
    model,
    plugins,
    report,
    rounding,
    score,
    score_script,
    seed,
    threads,
    together,
    weights,
)
from ristretto.errors import UsageError

EXIT_MARGIN_MISSED = 3

_bw = click.IntRange(1, 32)


@click.command(short_help="Turn a trained Caffe net into a fixed-point net.")
@together(
    model,
    weights,
    click.option("--model_quantized", type=PATH, required=True, help="Where to write the quantized prototxt."),
    click.option(
        "--trimming_mode",
        type=click.Choice(["dynamic_fixed_point", "minifloat", "integer_power_of_2_weights"]),
        required=True,
        help="The kind of number format. Only dynamic_fixed_point can be searched for today.",
    ),
    iterations,
    click.option(
        "--error_margin",
        type=float,
        default=2.0,
        show_default=True,
        help="The allowed drop of the score, in percent points.",
    ),
    click.option("--gpu", default="", metavar="ID", help="Taken from old scripts; everything runs on the CPU."),
    click.option(
        "--preset",
        type=click.Choice(["recommended", "original"]),
        default="recommended",
        show_default=True,
        help="The rules for ranges; recommended does not saturate what is fed to the net.",
    ),
    click.option(
        "--dialect",
        type=click.Choice(["extended", "original"]),
        default="extended",
        show_default=True,
        help="The reader the prototxt is written for: original keeps to what the C++ tool knows.",
    ),
    click.option("--bw_conv_params", type=_bw, help="Width of the weights of CONV layers; not searched then."),
    click.option("--bw_fc_params", type=_bw, help="Width of the weights of FC layers; not searched then."),
    click.option("--bw_activations", type=_bw, help="Width of layer inputs and outputs; not searched then."),
    rounding,
    score,
    score_script,
    inputs,
    data_root,
    click.option(
        "--calibration_phase",
        type=click.Choice(["TRAIN", "TEST"]),
        default="TRAIN",
        show_default=True,
        help="Whose data the ranges are measured on.",
    ),
    click.option(
        "--calibration_batches",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        help="How many batches the ranges are measured on.",
    ),
    click.option("--also", multiple=True, metavar="IN=OUT", help="Write the same formats into another prototxt."),
    report,
    click.option("--strict", is_flag=True, help="Exit with status 3 if the margin is missed."),
    seed,
    threads,
    plugins,
)
def quantize(**flags: Any) -> int:
    """Turn a trained Caffe net into a fixed-point net.

    The float net is scored on its TEST data, the ranges of its values are measured on some batches of its TRAIN data,
    and the narrowest bit-widths that keep the score within the margin are searched: weights of CONV layers, weights of
    FC layers, activations. The result is the same prototxt with the number formats in every quantized layer.

    \b
    Example:
      ristretto quantize --model train_val.prototxt --weights net.caffemodel \\
        --model_quantized quantized.prototxt --trimming_mode dynamic_fixed_point \\
        --iterations 100 --error_margin 1 --report report.json
    """
    report_path: Path | None = flags.pop("report")
    strict: bool = flags.pop("strict")
    return run_quantize(flags, report_path, strict)


def run_quantize(flags: dict[str, Any], report_path: Path | None, strict: bool) -> int:
    """Run the job that the flags describe, log it, and write its report."""
    from ristretto.atomic import atomic_write_text
    from ristretto.cli.console import job_console
    from ristretto.numerics.rounding import Rounding
    from ristretto.pipeline.quantize import QuantizeOptions
    from ristretto.pipeline.quantize import quantize as quantize_net
    from ristretto.report.glog import glog_line, summary_lines
    from ristretto.report.jsonfile import dump, report_to_json
    from ristretto.version import VERSION

    if flags["trimming_mode"] != "dynamic_fixed_point":
        what = f"--trimming_mode {flags['trimming_mode']} cannot be searched for yet"
        raise UsageError(what, cure="use dynamic_fixed_point")
    flags["iterations"] = batches_asked(flags["iterations"], flags.get("inputs"))
    flags["rounding"] = Rounding(flags["rounding"])
    flags["also"] = tuple(map(_pair, flags["also"]))
    options = QuantizeOptions(**flags, report=report_path)
    with job_console() as (listener, write):
        result = quantize_net(options, listener)
        for line in summary_lines(result):
            write(glog_line(line))
    if report_path is not None:
        atomic_write_text(report_path, dump(report_to_json(result, VERSION)))
    if options.model_quantized is not None:
        missed = "" if result.margin_met else f"; the margin of {options.error_margin:g} points is missed"
        scores = f"score {result.combined.score:g}, float {result.baseline.score:g}"
        click.echo(f"{options.model_quantized}: {scores}{missed}")
    return EXIT_MARGIN_MISSED if strict and not result.margin_met else 0


def _pair(text: str) -> tuple[Path, Path]:
    source, equals, target = text.partition("=")
    if not (source and equals and target):
        raise UsageError(f"--also {text}: expected IN.prototxt=OUT.prototxt")
    return Path(source), Path(target)

"""``ristretto quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ristretto.bounds import PARTS
from ristretto.cli.options import (
    DIALECTS,
    OUTPUT_PATH,
    PATH,
    AnyType,
    ListType,
    batches_asked,
    data_root,
    gpu,
    inputs,
    iterations,
    model,
    plugins,
    report,
    rounding,
    score,
    score_script,
    seed,
    state,
    threads,
    untrusted,
    weights,
    whole,
    workers,
)
from ristretto.cli.sections import SectionCommand, section
from ristretto.errors import UsageError

if TYPE_CHECKING:
    from ristretto.pipeline.options import QuantizeOptions

EXIT_MARGIN_MISSED = 3


class BiasType(AnyType):
    """A number of bits, or one of two words."""

    name = "N|params|accumulator"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Turn a number's text into the number; the words stay."""
        if value in ("params", "accumulator") or isinstance(value, int):
            return value  # type: ignore[no-any-return]
        text = str(value)
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= 32:
            self.fail(f"'{text[:40]}' is neither a width from 1 to 32 nor params nor accumulator", param, ctx)
        return int(value)


@click.command(short_help="Turn a trained Caffe net into a fixed-point net.", cls=SectionCommand)
@section(
    "The job",
    model,
    weights,
    click.option("--model_quantized", type=OUTPUT_PATH, required=True, help="Where to write the quantized prototxt."),
    click.option(
        "--trimming_mode",
        type=click.Choice(["dynamic_fixed_point", "minifloat", "integer_power_of_2_weights"]),
        required=True,
        help="The kind of number format.",
    ),
    iterations,
    click.option(
        "--error_margin",
        type=float,
        default=2.0,
        show_default=True,
        help="The allowed drop of the score, in percent points.",
    ),
    click.option(
        "--preset",
        type=click.Choice(["recommended", "original"]),
        default="recommended",
        show_default=True,
        help="The rules for formats: those of the C++ tool, or those that lose least (docs/differences.md).",
    ),
    click.option(
        "--fast",
        is_flag=True,
        help="Score a width no longer than it takes to know that it misses the margin; for accuracies only.",
    ),
    click.option(
        "--fast_error",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.01,
        show_default=True,
        help="With --fast: the greatest probability of dropping a width that holds.",
    ),
    gpu,
    click.option("--strict", is_flag=True, help="Exit with status 3 if the margin is missed."),
)
@section(
    "Widths",
    click.option(
        "--bw_conv_params", type=whole("bw_conv_params"), help="Width of the weights of CONV layers; not searched then."
    ),
    click.option(
        "--bw_fc_params", type=whole("bw_fc_params"), help="Width of the weights of FC layers; not searched then."
    ),
    click.option(
        "--bw_activations", type=whole("bw_activations"), help="Width of layer inputs and outputs; not searched then."
    ),
    click.option(
        "--ladder", type=ListType(numbers=True), metavar="N,N", help="Widths to search.  [default: 16,8,4,2,1]"
    ),
)
@section(
    "Mixed precision",
    click.option(
        "--search",
        type=click.Choice(["ladder", "mixed"]),
        default="ladder",
        show_default=True,
        help="ladder finds one width for each group, as the original; mixed one for every layer.",
    ),
    click.option(
        "--min_bits", type=whole("min_bits"), default=2, show_default=True, help="The narrowest width of a layer."
    ),
    click.option(
        "--max_bits",
        type=whole("max_bits"),
        default=8,
        show_default=True,
        help="The widest; what is not searched has it.",
    ),
    click.option(
        "--cost",
        type=click.Choice(["weight_bits", "activation_bits", "mac_bits"]),
        default="weight_bits",
        show_default=True,
        help="What is saved: bits of weights, of layer inputs, or their product for each multiplication.",
    ),
    click.option("--budget", type=float, metavar="MEAN", help="Come down to this mean cost, whatever the score."),
)
@section(
    "Formats",
    click.option("--static", metavar="IL.FL", help="One format for all activations, such as 10.6."),
    click.option(
        "--bw_bias",
        type=BiasType(),
        help="Width of biases, with a point of their own; accumulator adds them at the scale of the products, params "
        "gives them the format of the weights.  [default: accumulator; params in the original's preset and dialect]",
    ),
    click.option(
        "--unsigned/--signed",
        default=None,
        help="Whether values that are never negative do without a sign bit.  [default: unsigned; signed in the "
        "original's preset and dialect]",
    ),
    click.option("--per_channel", is_flag=True, help="A fractional length for the weights of every output channel."),
    click.option(
        "--other_layers",
        type=ListType(),
        metavar="TYPE,TYPE|all",
        help="Quantize these too: BatchNorm, Scale, Eltwise, Concat, Pooling, LRN.",
    ),
    click.option(
        "--float_format",
        type=click.Choice(["half", "bfloat16", "fp8_e4m3", "fp8_e5m2"]),
        help="With minifloat: a format by name; nothing is searched then.",
    ),
    click.option("--exp_bits", type=whole("exp_bits"), help="With minifloat: bits of the exponent."),
    click.option(
        "--mant_bits", type=whole("mant_bits"), help="With minifloat: bits of the mantissa; not searched then."
    ),
    click.option(
        "--exp_min", type=int, default=-8, show_default=True, help="With powers of two: the least exponent of weights."
    ),
    click.option(
        "--exp_max", type=int, default=-1, show_default=True, help="With powers of two: the greatest exponent."
    ),
    click.option("--keep_zero", is_flag=True, help="With powers of two: weights that are zero stay zero."),
    rounding,
)
@section(
    "New weights (all need --weights_quantized)",
    click.option(
        "--weights_quantized",
        type=OUTPUT_PATH,
        metavar="OUT.caffemodel",
        help="Where to write the weights that belong to the result, in float.",
    ),
    click.option(
        "--fold/--no-fold",
        default=None,
        help="Fold BatchNorm, Scale and Bias into the layers before them.  [default: fold, where new weights are "
        "written, but in the original's preset and dialect]",
    ),
    click.option(
        "--equalize/--no-equalize",
        default=None,
        help="Scale channels by powers of two, exactly, so that their ranges become alike.  [default: no-equalize]",
    ),
    click.option(
        "--weight_rounding",
        type=click.Choice(["nearest", "compensated"]),
        help="compensated rounds weights so that each layer's output stays close, on images without labels.  "
        "[default: compensated, where new weights are written, as above]",
    ),
    click.option(
        "--bias_correction/--no-bias_correction",
        default=None,
        help="Correct biases by what rounding does to the mean of outputs.  [default: with compensated rounding]",
    ),
    click.option(
        "--rounding_images",
        type=whole("rounding_images"),
        default=256,
        show_default=True,
        help="How many images the last two look at.",
    ),
)
@section(
    "What is quantized",
    click.option(
        "--only",
        multiple=True,
        metavar="LAYER[:PARTS]",
        help="Layers by name or type, * and ? allowed; of them in, out, activations, weights, bias or params. May be "
        "repeated.",
    ),
    click.option("--skip", multiple=True, metavar="LAYER[:PARTS]", help="What stays float, in the same words."),
    click.option(
        "--overrides",
        type=PATH,
        metavar="FILE.json",
        help="Formats that take the place of the chosen ones, in the form of a report's layers.",
    ),
)
@section(
    "Score and data",
    score,
    score_script,
    inputs,
    data_root,
    untrusted,
    state,
    seed,
)
@section(
    "Ranges",
    click.option(
        "--calibration_phase",
        type=click.Choice(["TRAIN", "TEST"]),
        default="TRAIN",
        show_default=True,
        help="Whose data the ranges are measured on.",
    ),
    click.option(
        "--calibration_batches",
        type=whole("calibration_batches"),
        default=10,
        show_default=True,
        help="How many batches the ranges are measured on.",
    ),
    click.option(
        "--range_rule",
        type=click.Choice(["max", "percentile", "squared_error", "output_error"]),
        help="How integer lengths follow from values: by the greatest, as in the original; by a percentile; by what "
        "saturating and rounding lose of them; or of the layer's output.  [default: squared_error; max in the "
        "original's preset]",
    ),
    click.option(
        "--percentile",
        type=click.FloatRange(*PARTS["percentile"]),
        default=99.99,
        show_default=True,
        help="With that rule: the percentage of values that do not saturate.",
    ),
    click.option("--ranges", type=PATH, metavar="FILE.json", help="Take the ranges of a file or a report."),
    click.option("--save_ranges", type=OUTPUT_PATH, metavar="FILE.json", help="Write the ranges, for later jobs."),
)
@section(
    "Output",
    report,
    click.option("--html", type=OUTPUT_PATH, metavar="OUT.html", help="Write the report as a page for a browser."),
    click.option("--also", multiple=True, metavar="IN=OUT", help="Write the same formats into another prototxt."),
    click.option(
        "--dialect",
        type=click.Choice(DIALECTS),
        default="extended",
        show_default=True,
        help="The reader the prototxt is written for (docs/dialects.md): original keeps to what the C++ tool knows, "
        "the others to what theirs do.",
    ),
)
@section(
    "Running",
    threads,
    workers,
    click.option(
        "--cache_mb",
        type=whole("cache_mb"),
        default=256,
        show_default=True,
        metavar="MIB",
        help="Memory for decoded images, so that no pass decodes them again; 0 for none.",
    ),
    click.option(
        "--cache_disk_mb",
        type=whole("cache_disk_mb"),
        default=4096,
        show_default=True,
        metavar="MIB",
        help="What a temporary file (TMPDIR says where) takes of those that find no room in memory; 0 for none.",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Go on from the scores that a stopped run of this job left beside --model_quantized, in a file that ends "
        "in .scores.",
    ),
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

    \b
    8-bit weights and 16-bit activations, without a search, and the last layer in float:
      ristretto quantize ... --bw_conv_params 8 --bw_fc_params 8 --bw_activations 16 --skip prob_fc
    """
    report_path: Path | None = flags.pop("report")
    strict: bool = flags.pop("strict")
    return run_quantize(flags, report_path, strict)


def run_quantize(flags: dict[str, Any], report_path: Path | None, strict: bool) -> int:
    """Run the job that the flags describe, log it, and write its report."""
    from ristretto.cli.console import job_console
    from ristretto.cli.signals import STOPPED
    from ristretto.pipeline.quantize import quantize as quantize_net
    from ristretto.report.glog import outcome

    options = quantize_options(flags, report_path)
    try:
        with job_console() as console:
            result = quantize_net(options, console.hear)
            console.summary(result)
    except STOPPED:
        _tell_of_scores(options.model_quantized)
        raise
    if options.model_quantized is not None:
        click.echo(f"{options.model_quantized}: {outcome(result)}")
    return EXIT_MARGIN_MISSED if strict and not result.margin_met else 0


def _tell_of_scores(result: Path | None) -> None:
    """Say that an interrupted job need not begin anew."""
    from ristretto.cli.console import warn
    from ristretto.pipeline.finished import scores_file

    if result is not None and scores_file(result).exists():
        warn(f"finished scores are in {scores_file(result)}: the same command with --resume goes on from them")


def quantize_options(flags: dict[str, Any], report_path: Path | None) -> QuantizeOptions:
    """What the flags of the command ask for.

    Raises:
        UsageError: a value cannot be what its flag says.
    """
    from ristretto.numerics.rounding import Rounding
    from ristretto.pipeline.options import ALL_OTHER_LAYERS, QuantizeOptions

    asked = {
        **flags,
        "iterations": batches_asked(flags["iterations"], flags.get("inputs")),
        "rounding": Rounding(flags["rounding"]),
        "also": tuple(map(_pair, flags["also"])),
    }
    if asked.get("other_layers") == ("all",):
        asked["other_layers"] = ALL_OTHER_LAYERS
    given = {name: value for name, value in asked.items() if value is not None or name == "iterations"}
    return QuantizeOptions(
        **given, report=report_path, details=report_path is not None or given.get("html") is not None
    )


def _pair(text: str) -> tuple[Path, Path]:
    source, equals, target = text.partition("=")
    if not (source and equals and target):
        raise UsageError(f"--also {text}: expected IN.prototxt=OUT.prototxt")
    return Path(source), Path(target)

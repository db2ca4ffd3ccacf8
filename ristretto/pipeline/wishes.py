"""Which options of a quantization make no sense, or contradict each other."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from ristretto.atomic import check_outputs
from ristretto.caffe.net import read_prototxt
from ristretto.decide.plan import OTHER_TYPES
from ristretto.decide.select import parse_selector
from ristretto.errors import UsageError
from ristretto.pipeline.finished import check_scores_file, keeps_scores, scores_file
from ristretto.pipeline.options import DIALECT_WIDTHS, NARROW, OUTPUTS, QuantizeOptions, static_format
from ristretto.pipeline.workers import check_workers

_BELONGS = {
    "dynamic_fixed_point": ("budget", "bw_conv_params", "bw_fc_params", "per_channel", "bw_bias"),
    "minifloat": ("exp_bits", "mant_bits", "float_format"),
    "integer_power_of_2_weights": ("keep_zero",),
}
"""Options that mean something in one mode only."""


def check_options(options: QuantizeOptions) -> None:
    """Refuse what makes no sense, and outputs that cannot be written.

    Raises:
        UsageError: an option is out of range, contradicts another, or an output's place is unfit.
    """
    check_wishes(options)
    outputs: list[Path | None] = [getattr(options, name) for name in OUTPUTS]
    outputs += [target for _, target in options.also]
    inputs = [options.model, *options.weights, options.inputs, options.overrides, options.ranges]
    inputs += [source for source, _ in options.also]
    result = options.model_quantized
    keeps = result is not None and keeps_scores(result)
    if options.resume and not keeps:
        what = "--resume needs a --model_quantized that is a file"
        raise UsageError(what, cure="finished scores are kept beside it")
    beside = [scores_file(result)] if keeps and result is not None else []
    check_outputs(filter(None, outputs), filter(None, inputs), beside)
    for file in beside:
        check_scores_file(file)
    for source, _ in options.also:
        read_prototxt(source)


def check_wishes(options: QuantizeOptions) -> None:
    """Refuse what makes no sense, without a look at any file.

    Raises:
        UsageError: an option is out of range, or contradicts another.
    """
    if options.error_margin < 0 or not math.isfinite(options.error_margin):
        raise UsageError("--error_margin must be 0 or more", cure="it is the allowed drop in percent points")
    if options.resume and options.model_quantized is None:
        raise UsageError("--resume needs --model_quantized", cure="finished scores are kept beside it")
    if not 0 < options.fast_error < 1:
        raise UsageError("--fast_error is a probability", cure="give one between 0 and 1, such as 0.01")
    if options.fast and options.search == "mixed":
        raise UsageError("--fast means nothing with --search mixed", cure="leave it out")
    check_workers(options.workers, options.scheduler, options.gpu)
    _check_formats(options)


def _check_formats(options: QuantizeOptions) -> None:
    mode = options.trimming_mode
    for owner, names in _BELONGS.items():
        for name in names if owner != mode else ():
            if getattr(options, name) not in (None, False):
                raise UsageError(f"--{name} means nothing with --trimming_mode {mode}", cure=f"it is for {owner}")
    static = static_format(options.static)
    if static is not None and options.bw_activations not in (None, static.bw):
        what = f"--static {options.static} has {static.bw} bits, --bw_activations {options.bw_activations} others"
        raise UsageError(what, cure="give one of the two")
    if static is not None and mode == "minifloat":
        raise UsageError("--static means nothing with --trimming_mode minifloat")
    if any(not 1 <= bw <= 32 for bw in options.ladder) or not options.ladder:
        raise UsageError("--ladder needs widths from 1 to 32", cure="such as --ladder 16,12,8,6,4")
    if options.float_format is not None and (options.exp_bits, options.mant_bits) != (None, None):
        raise UsageError(
            "--float_format names a format, --exp_bits and --mant_bits make one", cure="give one of the two"
        )
    if options.search == "mixed":
        _check_mixed(options)
    elif options.budget is not None or options.cost != "weight_bits":
        name = "budget" if options.budget is not None else "cost"
        raise UsageError(f"--{name} means nothing without --search mixed", cure="add it, or leave this out")
    _check_treatment(options)
    if options.dialect == "original":
        _check_dialect(options)
    elif options.dialect in DIALECT_WIDTHS:
        _check_widths(options)
    strange = [kind for kind in options.other_layers if kind not in OTHER_TYPES]
    if strange:
        raise UsageError(
            f"layers of type '{strange[0]}' have no formats", cure=f"choose from {', '.join(sorted(OTHER_TYPES))}"
        )
    if isinstance(options.bw_bias, int) and not 1 <= options.bw_bias <= 32:
        raise UsageError("--bw_bias must be params, accumulator or 1 to 32 bits")
    for text in (*options.only, *options.skip):
        parse_selector(text)


def _check_treatment(options: QuantizeOptions) -> None:
    treatment = options.treatment
    if treatment.asked and options.model_quantized is not None and options.weights_quantized is None:
        cure = "say with --weights_quantized where to write those that belong to the result"
        raise UsageError(f"{treatment.asked} changes the weights", cure=cure)
    if options.trimming_mode != "dynamic_fixed_point":
        rounding = replace(treatment, fold=False, equalize=False).asked
        if rounding:
            raise UsageError(f"{rounding} means nothing with --trimming_mode {options.trimming_mode}")


def _check_dialect(options: QuantizeOptions) -> None:
    """Refuse at once what ``write_plan`` would refuse after the whole job."""
    beyond = ("unsigned", "per_channel", "other_layers", "only", "skip", "keep_zero", "float_format")
    asked = [name for name in beyond if getattr(options, name)]
    if options.bw_bias not in (None, "params"):
        asked.append("bw_bias")
    if asked:
        what = f"what --{asked[0]} asks for cannot be said in the original's dialect"
        raise UsageError(what, cure="use --dialect extended")


def _check_widths(options: QuantizeOptions) -> None:
    """Refuse at once what a dialect with few widths cannot say in any case."""
    for name, usual in (("trimming_mode", "dynamic_fixed_point"), ("search", "ladder")):
        if getattr(options, name) != usual:
            what = f"--{name} {getattr(options, name)} cannot be said in the dialect {options.dialect}"
            raise UsageError(what, cure="use --dialect extended")
    weights, activations = DIALECT_WIDTHS[options.dialect]
    asked = (
        ("bw_conv_params", options.bw_conv_params, weights),
        ("bw_fc_params", options.bw_fc_params, weights),
        ("bw_activations", options.bw_activations, activations),
    )
    for name, bw, known in asked:
        if bw is not None and bw not in known:
            what = f"--{name} {bw} cannot be said in the dialect {options.dialect}"
            raise UsageError(what, cure=f"it has {', '.join(map(str, known))}")
    if options.unsigned and options.dialect in NARROW:
        raise UsageError(f"--unsigned cannot be said in the dialect {options.dialect}", cure="leave it out")
    if not options.ladder_of("params") or not options.ladder_of("activations"):
        cure = f"give some of {', '.join(map(str, activations))}"
        raise UsageError(f"no width of the ladder can be said in the dialect {options.dialect}", cure=cure)


def _check_mixed(options: QuantizeOptions) -> None:
    if options.trimming_mode != "dynamic_fixed_point":
        raise UsageError(f"--search mixed means nothing with --trimming_mode {options.trimming_mode}")
    if not 1 <= options.min_bits <= options.max_bits <= 32:
        raise UsageError(f"--min_bits {options.min_bits} and --max_bits {options.max_bits} span no widths from 1 to 32")
    if options.bw_conv_params is not None or options.bw_fc_params is not None:
        raise UsageError(
            "--search mixed chooses the widths of weights", cure="leave out --bw_conv_params and --bw_fc_params"
        )
    if options.static is not None:
        raise UsageError("--search mixed and --static exclude each other", cure="give one of the two")
    if options.bw_activations is not None and options.cost != "weight_bits":
        raise UsageError(f"--cost {options.cost} chooses the widths of activations", cure="leave out --bw_activations")

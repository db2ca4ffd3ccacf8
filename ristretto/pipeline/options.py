"""What a quantization may be asked for, and which wishes contradict each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ristretto.caffe.netspec import Phase
from ristretto.decide.choose import DEFAULT_FORMAT
from ristretto.decide.plan import OTHER_TYPES, Scheme
from ristretto.decide.search import LADDER
from ristretto.decide.select import Selection, parse_selector
from ristretto.dialects.fields import Dialect
from ristretto.errors import FormatError, UsageError
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.given import coerce

TrimmingMode = Literal["dynamic_fixed_point", "minifloat", "integer_power_of_2_weights"]
Preset = Literal["recommended", "original"]
ALL_OTHER_LAYERS = tuple(sorted(OTHER_TYPES))
Search = Literal["ladder", "mixed"]

DIALECT_WIDTHS: Mapping[Dialect, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "chaidnn": ((8, 6), (8, 6)),
    "intel": ((8,), (8,)),
    "accdnn": ((16, 8, 4), (16, 8)),
}
"""The widths of weights and of activations in dialects that have few (docs/dialects.md)."""

NARROW: frozenset[Dialect] = frozenset({"chaidnn", "accdnn"})
"""Those of them in which results cannot be kept wider than that."""
CostName = Literal["weight_bits", "activation_bits", "mac_bits"]
RangeRule = Literal["max", "percentile", "squared_error", "output_error"]
WeightRounding = Literal["nearest", "compensated"]
BiasChoice = Literal["params", "accumulator"] | int

OUTPUTS = ("model_quantized", "weights_quantized", "report", "html", "save_ranges")
"""The options that say where results go, but for ``also``."""

POWER_OF_TWO_ACTIVATIONS_BW = 8
"""The width of activations beside weights that are powers of two, where none is asked for."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to the weights before and while they are rounded; the outputs of the float net stay the same."""

    fold: bool = False
    equalize: bool = False
    compensate: bool = False
    correct_biases: bool = False

    @property
    def asked(self) -> str:
        """The flag of the first thing that is done, or nothing."""
        flags = {
            "--fold": self.fold,
            "--equalize": self.equalize,
            "--weight_rounding compensated": self.compensate,
            "--bias_correction": self.correct_biases,
        }
        return next((flag for flag, done in flags.items() if done), "")


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What to quantize and how; the names are those of the command line.

    Attributes:
        model, weights: the float net and its weights files (later ones override).
        model_quantized: where to write the quantized prototxt; None writes none.
        trimming_mode: the kind of number format.
        iterations: batches per score; None scores every image of the TEST source once.
        error_margin: the allowed drop of the score, in percent points.
        fast: whether a width is dropped as soon as it is all but certain that it misses the margin (docs/fast.md).
        fast_error: the greatest probability of dropping one that holds it.
        preset: the rules for ranges and formats.
        dialect: the reader that the prototxt is written for.
        bw_conv_params, bw_fc_params, bw_activations: fixed widths; a group with one is not searched.
        ladder: the widths that are searched.
        search: "ladder" is the original's, one width for each group; "mixed" finds a width for every layer.
        min_bits, max_bits: the widths that mixed precision may choose.
        cost: what mixed precision saves: bits of weights, of activations, or their product for each operation.
        budget: the mean cost to come down to, in place of a margin.
        static: "IL.FL", one format for all activations in place of one per layer and role.
        bw_bias: the format of biases: that of the weights, the accumulator's scale, or a width of its own. None takes
            the accumulator's where preset and dialect allow it.
        unsigned: whether values that are never negative do without a sign bit. None takes the preset's.
        range_rule: "max" is the original's rule; "percentile" takes the shortest integer length with which that many
            values do not saturate; "squared_error" the one that loses least in squared error; "output_error" the one
            that changes the layer's output least. None takes the preset's.
        percentile: the percentage of values that must not saturate.
        per_channel: whether the weights of every output channel have a fractional length of their own.
        other_layers: further layer types to quantize with the activations (``decide.plan.OTHER_TYPES``).
        only, skip: which sites are quantized (``decide.select``).
        overrides: a file of formats that take the place of the chosen ones.
        exp_bits, mant_bits, float_format: minifloat by hand, or a named format.
        exp_min, exp_max, keep_zero: powers of two by hand, and whether a zero weight stays zero.
        rounding: how the simulation rounds.
        score: the blob that decides; None takes the first output. A blob that holds no score, such as the
            probabilities of a deploy net, is judged by how far it agrees with the float net's.
        score_script: module:function of the user's own metric (see ``ristretto.pipeline.scorers.Script``).
        inputs: an npz file in place of the net's own data.
        data_root: a folder for relative sources.
        untrusted: whether paths that the files name must lie in their folder or in data_root (docs/robustness.md).
        calibration_phase, calibration_batches: where and how long ranges are measured.
        ranges: a file of ranges, or a report, in place of measuring.
        save_ranges: where to write the ranges.
        fold: whether BatchNorm, Scale and Bias layers are folded into the layers before them. This and the next three
            change the weights; None leaves it to ``treatment``.
        equalize: whether channels are scaled by powers of two so that their ranges become alike.
        weight_rounding: "nearest", or "compensated": layer by layer so that outputs stay close.
        bias_correction: whether biases make good what rounding does to the mean of outputs.
        rounding_images: how many images the latter two look at.
        weights_quantized: where to write the weights that belong to the result; a job that changes them needs it.
        level, stages: the state to build the net in, beside its phase (caffe.proto, NetState).
        resume: whether to go on from the scores that a stopped run of the same job left beside ``model_quantized``.
        details: whether to find out what each rule and treatment brought, where the error arises, and how values are
            spread.
        report, html: where the caller is going to write the report, as JSON and as a page, so that these places are
            checked before the job.
        also: further prototxt files (in, out) to write the same formats into.
        gpu: the device to run on, "" for the CPU (``pipeline.device``).
        seed: of crops, mirrors, dropout and stochastic rounding.
        threads: threads per run; 0 for one per core.
        workers: processes that share the batches of each pass; 1 runs all in this one, 0 takes one for every core.
        scheduler: the address of a Dask scheduler whose workers do that, or "" (docs/scaling.md).
        cache_mb, cache_disk_mb: MiB of memory and of a temporary file for decoded images, which serve all passes; 0
            for none. What finds no room is decoded in every pass.
        plugins: modules that teach layer types, by name or as paths ending in .py (docs/plugins.md).
    """

    model: Path
    weights: tuple[Path, ...]
    model_quantized: Path | None = None
    trimming_mode: TrimmingMode = "dynamic_fixed_point"
    iterations: int | None = 50
    error_margin: float = 2.0
    fast: bool = False
    fast_error: float = 0.01
    preset: Preset = "recommended"
    dialect: Dialect = "extended"
    bw_conv_params: int | None = None
    bw_fc_params: int | None = None
    bw_activations: int | None = None
    ladder: tuple[int, ...] = LADDER
    search: Search = "ladder"
    min_bits: int = 2
    max_bits: int = 8
    cost: CostName = "weight_bits"
    budget: float | None = None
    static: str | None = None
    bw_bias: BiasChoice | None = None
    unsigned: bool | None = None
    range_rule: RangeRule | None = None
    percentile: float = 99.99
    per_channel: bool = False
    other_layers: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    overrides: Path | None = None
    exp_bits: int | None = None
    mant_bits: int | None = None
    float_format: str | None = None
    exp_min: int = -8
    exp_max: int = -1
    keep_zero: bool = False
    rounding: Rounding = Rounding.HALF_EVEN
    score: str | None = None
    score_script: str | None = None
    inputs: Path | None = None
    data_root: Path | None = None
    untrusted: bool = False
    calibration_phase: Phase = "TRAIN"
    calibration_batches: int = 10
    ranges: Path | None = None
    save_ranges: Path | None = None
    fold: bool | None = None
    equalize: bool | None = None
    weight_rounding: WeightRounding | None = None
    bias_correction: bool | None = None
    rounding_images: int = 256
    weights_quantized: Path | None = None
    level: int = 0
    stages: tuple[str, ...] = ()
    resume: bool = False
    details: bool = False
    report: Path | None = None
    html: Path | None = None
    also: tuple[tuple[Path, Path], ...] = ()
    gpu: str = ""
    seed: int = 0
    threads: int = 0
    workers: int = 1
    scheduler: str = ""
    cache_mb: int = 256
    cache_disk_mb: int = 4096
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        coerce(self)

    @property
    def scheme(self) -> Scheme:
        """How fixed point formats follow from widths."""
        bias = self.bw_bias
        own = self.preset == "recommended" and self.dialect != "original"
        if bias is None:
            bias = "accumulator" if own and self.dialect != "accdnn" else "params"
        return Scheme(bias, static_format(self.static), None if own else DEFAULT_FORMAT)

    @property
    def without_sign(self) -> bool:
        """Whether values that are never negative do without a sign bit."""
        if self.unsigned is None:
            return self.preset == "recommended" and self.dialect in ("extended", "intel")
        return self.unsigned

    @property
    def sums_as_stored(self) -> bool:
        """Whether the results of additions are stored in a format, and their operands taken as they are stored."""
        own = self.preset == "recommended" and self.dialect == "extended" and self.static is None
        return own and self.trimming_mode != "minifloat" and "Eltwise" not in self.other_layers

    @property
    def rule(self) -> RangeRule:
        """How integer lengths are chosen."""
        if self.trimming_mode == "minifloat":
            return "max"
        return self.range_rule or ("squared_error" if self.preset == "recommended" else "max")

    @property
    def treatment(self) -> Treatment:
        """What is done to the weights; by default what helps all nets, where the caller takes new weights."""
        own = self.preset == "recommended" and self.dialect == "extended" and self.weights_quantized is not None
        own = own and self.trimming_mode == "dynamic_fixed_point"
        rounding = self.weight_rounding or ("compensated" if own else "nearest")
        return Treatment(
            own if self.fold is None else self.fold,
            bool(self.equalize),
            rounding == "compensated",
            rounding == "compensated" if self.bias_correction is None else self.bias_correction,
        )

    @property
    def activation_widths(self) -> tuple[int, ...]:
        """The widths of activations that the job may come to."""
        if self.static is not None or self.trimming_mode == "minifloat":
            return ()
        if self.search == "mixed" and (self.bw_activations is None or self.cost != "weight_bits"):
            return tuple(range(self.min_bits, self.max_bits + 1)) if self.cost != "weight_bits" else (self.max_bits,)
        if self.bw_activations is not None:
            return (self.bw_activations,)
        searched = self.ladder_of("activations")
        return searched if self.trimming_mode == "dynamic_fixed_point" else (POWER_OF_TWO_ACTIVATIONS_BW,)

    def ladder_of(self, group: str) -> tuple[int, ...]:
        """The widths that are searched for a group: those of the ladder that the dialect has."""
        if self.dialect not in DIALECT_WIDTHS:
            return self.ladder
        known = DIALECT_WIDTHS[self.dialect][group == "activations"]
        return known if self.ladder == LADDER else tuple(bw for bw in self.ladder if bw in known)

    @property
    def params_widths(self) -> tuple[int, ...]:
        """The widths of weights in fixed point that the job may come to."""
        if self.trimming_mode != "dynamic_fixed_point":
            return ()
        if self.search == "mixed":
            return tuple(range(self.min_bits, self.max_bits + 1))
        fixed = (self.bw_conv_params, self.bw_fc_params)
        searched = self.ladder_of("params") if None in fixed else ()
        return tuple(sorted({*searched, *(bw for bw in fixed if bw is not None)}))

    @property
    def selection(self) -> Selection:
        """Which sites are quantized."""
        return Selection(tuple(map(parse_selector, self.only)), tuple(map(parse_selector, self.skip)))


def static_format(text: str | None) -> DynamicFixedPoint | None:
    """The format that "IL.FL" names; the sign bit counts as part of IL.

    >>> static_format("10.6")
    DynamicFixedPoint(bw=16, fl=6, signed=True)

    Raises:
        UsageError: it names none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(-?\d+)\.(-?\d+)", text.strip())
    if match is None:
        raise UsageError(f"--static {text}: expected IL.FL", cure="such as 10.6: 16 bits, 6 of them fractional")
    il, fl = int(match[1]), int(match[2])
    try:
        return DynamicFixedPoint(il + fl, fl)
    except FormatError as error:
        raise UsageError(f"--static {text}: {error.what}", cure=error.cure) from error

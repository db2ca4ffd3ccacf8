"""The keyword arguments of ``ristretto``'s functions, for type checkers: what they mean stands with the options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from ristretto.numerics.arithmetic import Accumulator, Arithmetic
    from ristretto.numerics.rounding import Rounding

PathLike = str | Path
Paths = PathLike | Sequence[PathLike]
Phase = Literal["TRAIN", "TEST"]
RoundingName = Literal["half_even", "half_away", "half_up", "truncate", "stochastic"]
ArithmeticName = Literal["float32", "float64", "integer"]
DialectName = Literal["extended", "original", "chaidnn", "intel", "accdnn"]


class NetKeywords(TypedDict, total=False):
    """How a net is simulated: the fields of ``ristretto.pipeline.evaluate.NetOptions``."""

    phase: Phase
    level: int
    stages: Sequence[str]
    rounding: Rounding | RoundingName
    inputs: PathLike | None
    data_root: PathLike | None
    untrusted: bool
    seed: int
    threads: int
    gpu: str | int
    plugins: Paths
    arithmetic: Arithmetic | ArithmeticName
    accumulator: Accumulator
    workers: int
    scheduler: str
    dialect: Literal["auto"] | DialectName
    nearest: bool


class DoctorKeywords(TypedDict, total=False):
    """What is looked at: the fields of ``ristretto.pipeline.doctor.DoctorOptions``."""

    score: str | None
    inputs: PathLike | None
    data_root: PathLike | None
    untrusted: bool
    calibration_phase: Phase
    quick_score: bool
    iterations: int | None
    level: int
    stages: Sequence[str]
    threads: int
    plugins: Paths


class FinetuneKeywords(TypedDict, total=False):
    """How a net is trained: the fields of ``ristretto.pipeline.finetune.FinetuneOptions``."""

    snapshot: PathLike | None
    resume: bool
    quantize_activations: bool
    weight_rounding: Rounding | RoundingName
    batch_norm: Literal["trained", "frozen"]
    learn_formats: bool
    formats_rate: float
    snapshot_prefix: PathLike | None
    output: PathLike | None
    data_root: PathLike | None
    untrusted: bool
    seed: int | None
    threads: int


class ExportKeywords(TypedDict, total=False):
    """What is exported and how: the fields of ``ristretto.pipeline.export.ExportOptions``."""

    images: int
    inputs: PathLike | None
    data_root: PathLike | None
    untrusted: bool
    formats: Sequence[str]
    layers: Sequence[str]
    force: bool
    blobs: Sequence[str] | None
    batch: int | None
    rounding: Rounding | RoundingName
    accumulator: Accumulator
    seed: int
    level: int
    stages: Sequence[str]
    plugins: Paths
    dialect: Literal["auto"] | DialectName
    nearest: bool


class InitKeywords(TypedDict, total=False):
    """How images are prepared: the fields of ``ristretto.pipeline.init.InitOptions``."""

    list_output: PathLike | None
    train_images: PathLike | None
    train: float
    mean_value: Sequence[float]
    mean_file: PathLike | None
    scale: float
    crop_size: int
    new_height: int
    new_width: int
    gray: bool
    batch_size: int
    label_blob: str
    score: str | None
    plugins: Paths


class ConvertKeywords(TypedDict, total=False):
    """What is converted and how: the fields of ``ristretto.pipeline.convert.ConvertOptions``."""

    converter: Literal["native", "caffe2onnx"]
    phase: Phase
    outputs: Sequence[str] | None
    batch: int | None
    rounding: Rounding | RoundingName
    inputs: PathLike | None
    data_root: PathLike | None
    untrusted: bool
    seed: int
    plugins: Paths
    level: int
    stages: Sequence[str]


class QuantizeKeywords(TypedDict, total=False):
    """What is quantized and how: the fields of ``ristretto.pipeline.options.QuantizeOptions``."""

    model_quantized: PathLike | None
    trimming_mode: Literal["dynamic_fixed_point", "minifloat", "integer_power_of_2_weights"]
    iterations: int | Literal["all"] | None
    error_margin: float
    fast: bool
    fast_error: float
    preset: Literal["recommended", "original"]
    dialect: DialectName
    bw_conv_params: int | None
    bw_fc_params: int | None
    bw_activations: int | None
    ladder: Sequence[int]
    search: Literal["ladder", "mixed"]
    min_bits: int
    max_bits: int
    cost: Literal["weight_bits", "activation_bits", "mac_bits"]
    budget: float | None
    static: str | None
    bw_bias: Literal["params", "accumulator"] | int | None
    unsigned: bool | None
    range_rule: Literal["max", "percentile", "squared_error", "output_error"] | None
    percentile: float
    per_channel: bool
    other_layers: Sequence[str]
    only: Sequence[str]
    skip: Sequence[str]
    overrides: PathLike | None
    exp_bits: int | None
    mant_bits: int | None
    float_format: str | None
    exp_min: int
    exp_max: int
    keep_zero: bool
    rounding: Rounding | RoundingName
    score: str | None
    score_script: str | None
    inputs: PathLike | None
    data_root: PathLike | None
    untrusted: bool
    calibration_phase: Phase
    calibration_batches: int
    ranges: PathLike | None
    save_ranges: PathLike | None
    fold: bool | None
    equalize: bool | None
    weight_rounding: Literal["nearest", "compensated"] | None
    bias_correction: bool | None
    rounding_images: int
    weights_quantized: PathLike | None
    level: int
    stages: Sequence[str]
    details: bool
    report: PathLike | None
    html: PathLike | None
    also: Sequence[tuple[PathLike, PathLike]]
    gpu: str | int
    seed: int
    threads: int
    workers: int
    scheduler: str
    cache_mb: int
    cache_disk_mb: int
    resume: bool
    plugins: Paths

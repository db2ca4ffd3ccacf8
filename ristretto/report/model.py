"""The report of a quantization, as values; its JSON is documented in docs/report.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ristretto.decide.choose import IntegerLengths, LayerRanges
from ristretto.decide.confidence import Paired
from ristretto.decide.mixed import MixedSearch
from ristretto.decide.plan import QuantPlan
from ristretto.decide.search import Ladder
from ristretto.report.comparison import Comparison
from ristretto.report.details import NetDetails
from ristretto.report.events import Event
from ristretto.report.integer import IntegerLayer
from ristretto.report.provenance import Provenance

SCHEMA_VERSION = 1

Asked = bool | int | str | tuple[str, ...] | tuple[int, ...]
"""The value of a flag."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for, as far as it decides the result.

    Attributes:
        options: what was asked of the formats beyond the widths, by the flags' names.
    """

    model: str
    weights: tuple[str, ...]
    trimming_mode: str
    preset: str
    dialect: str
    rounding: str
    iterations: int | None
    error_margin: float
    calibration_phase: str
    calibration_batches: int
    seed: int
    options: tuple[tuple[str, Asked], ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """What a net answered to the images of a pass.

    Attributes:
        images: how many there were.
        right: how many answers were right.
        broken: how many images had NaN among the values of their classes.
        top_k: how many of the best classes may hold the right one.
        classes: how many the net knows; 0 where that is not known.
        labels: how many different labels there were.
        commonest, times: the class answered most often, and how often.
    """

    images: int
    right: int
    broken: int
    top_k: int
    classes: int
    labels: int
    commonest: int
    times: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of one net: all output blobs, means over the images.

    Attributes:
        score: the blob that decides, its first element.
        outputs: every output blob's elements.
        images, batches: how much was run.
        seconds: wall time of the pass.
        right: for each image whether it was right; None where the score is no plain accuracy.
        answers: what was answered; None where right is.
        broken: number of the first batch with NaN or infinity in an output, or None.
        uncounted: how many batches had an accuracy without a label that counts.
        missing: how many had an accuracy of classes with a class without an image.
    """

    score: float
    outputs: dict[str, tuple[float, ...]]
    images: int
    batches: int
    seconds: float
    right: NDArray[np.bool_] | None = field(default=None, compare=False)
    answers: Answers | None = field(default=None, compare=False)
    broken: int | None = field(default=None, compare=False)
    uncounted: int = field(default=0, compare=False)
    missing: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One quantized layer: its float type, its group, what was measured and the integer lengths that follow.

    Attributes:
        lengths: by the original's rule.
        fitted: by width those that lose least in squared error, where they were looked for.
    """

    type: str
    group: str
    ranges: LayerRanges
    lengths: IntegerLengths
    fitted: Mapping[int, IntegerLengths] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """A rule or treatment of weights, and the SQNR of the net's outputs, in dB, with it and all before it."""

    name: str
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a quantization found out.

    Attributes:
        settings: what was asked for.
        net: the net's name.
        score_blob: the blob that decides.
        source_images: images in the TEST source, or None where it does not know.
        baseline: the float net.
        ladders: the searches, by group: "conv", "fc", "activations"; a group that the net lacks is left out, one
            whose width was given holds no trials.
        combined: the net with all groups together.
        plan: the formats of all layers.
        layers: what was measured of each quantized layer.
        margin_met: whether the combined net holds the margin.
        warnings: signs that the result is not to be trusted.
        paired: what became of single images, where the score is a plain accuracy.
        mixed: the search for a width of every layer, where it was asked for.
        steps: what each rule and treatment brought, where that was asked for.
        comparison: where along the net the error arises, where that was asked for.
        details: how the values of quantized layers are spread and what their weights take, where that was asked for.
        provenance: how it came about, where that was asked for.
        events: what was told while the job ran.
    """

    settings: Settings
    net: str
    score_blob: str
    source_images: int | None
    baseline: Scored
    ladders: dict[str, Ladder]
    combined: Scored
    plan: QuantPlan
    layers: dict[str, LayerReport]
    margin_met: bool
    warnings: tuple[str, ...]
    paired: Paired | None = None
    mixed: MixedSearch | None = None
    steps: tuple[Step, ...] = ()
    comparison: Comparison | None = None
    details: NetDetails | None = None
    provenance: Provenance | None = None
    events: tuple[Event, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The score of one net.

    Attributes:
        net: the net's name.
        score_blob: the blob that decides.
        quantized_layers: how many layers carry number formats.
        source_images: images in the source, or None where it does not know.
        scored: the score.
        warnings: signs that it is not to be trusted.
        arithmetic: how it was computed.
        integer_layers: the layers computed on integers.
        provenance: how it came about, where that was asked for.
        events: what was told meanwhile.
    """

    net: str
    score_blob: str
    quantized_layers: int
    source_images: int | None
    scored: Scored
    warnings: tuple[str, ...]
    arithmetic: str = "float32"
    integer_layers: tuple[IntegerLayer, ...] = ()
    provenance: Provenance | None = None
    events: tuple[Event, ...] = field(default=(), compare=False, repr=False)

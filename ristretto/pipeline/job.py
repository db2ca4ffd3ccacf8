"""What a quantization works on: its options, the net, the weights and the data, opened and tried."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ristretto.atomic import check_outputs
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import LayerSpec, NetSpec, Phase
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import FED_TYPES
from ristretto.caffe.textproto import Document
from ristretto.caffe.upgrade import upgrade_net
from ristretto.caffe.weights import Weights, read_weights
from ristretto.decide.choose import LayerRanges
from ristretto.decide.plan import Group, QuantPlan, group_of
from ristretto.dialects.fields import Dialect
from ristretto.errors import NetError, UsageError
from ristretto.graph.build import Simulation
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.calibrate import Calibration, measure_ranges, quantizable_layers
from ristretto.pipeline.feed import Feed, open_feed
from ristretto.pipeline.plugins import load_plugins
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.score import run_pass, score_blob, scored_blobs
from ristretto.pipeline.scorers import Scorer, choose_scorer
from ristretto.report.events import Listener
from ristretto.report.model import Scored

TrimmingMode = Literal["dynamic_fixed_point"]
Preset = Literal["recommended", "original"]


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What to quantize and how; the names are those of the command line.

    Attributes:
        model, weights: the float net and its weights files (later ones override).
        model_quantized: where to write the quantized prototxt; None writes none.
        trimming_mode: the kind of number format.
        iterations: batches per score; None scores every image of the TEST source once.
        error_margin: the allowed drop of the score, in percent points.
        preset: the rules for ranges and formats.
        dialect: the reader that the prototxt is written for.
        bw_conv_params, bw_fc_params, bw_activations: fixed widths; a group with one is not searched.
        rounding: how the simulation rounds.
        score: the blob that decides; None takes the first output. A blob that holds no score, such as the
            probabilities of a deploy net, is judged by how far it agrees with the float net's.
        score_script: module:function of the user's own metric (see ``ristretto.pipeline.scorers.Script``).
        inputs: an npz file in place of the net's own data.
        data_root: a folder for relative sources.
        calibration_phase, calibration_batches: where and how long ranges are measured.
        report: where the caller is going to write the report, so that its place is checked before the job.
        also: further prototxt files (in, out) to write the same formats into.
        gpu: what --gpu was given; it runs on the CPU all the same.
        seed: of crops, mirrors, dropout and stochastic rounding.
        threads: threads per run; 0 for one per core.
        plugins: modules that teach layer types, by name or as paths ending in .py (docs/plugins.md).
    """

    model: Path
    weights: tuple[Path, ...]
    model_quantized: Path | None = None
    trimming_mode: TrimmingMode = "dynamic_fixed_point"
    iterations: int | None = 50
    error_margin: float = 2.0
    preset: Preset = "recommended"
    dialect: Dialect = "extended"
    bw_conv_params: int | None = None
    bw_fc_params: int | None = None
    bw_activations: int | None = None
    rounding: Rounding = Rounding.HALF_EVEN
    score: str | None = None
    score_script: str | None = None
    inputs: Path | None = None
    data_root: Path | None = None
    calibration_phase: Phase = "TRAIN"
    calibration_batches: int = 10
    report: Path | None = None
    also: tuple[tuple[Path, Path], ...] = ()
    gpu: str = ""
    seed: int = 0
    threads: int = 0
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """What all steps of one quantization share."""

    options: QuantizeOptions
    document: Document
    net: NetSpec
    weights: Weights
    feed: Feed
    calibration: Calibration
    layers: list[LayerSpec]
    blob: str
    scorer: Scorer | None
    listener: Listener

    @property
    def groups(self) -> dict[str, Group]:
        """The group that each layer is searched with."""
        return {layer.name: group for layer in self.layers if (group := group_of(layer.type)) is not None}

    def score(self, plan: QuantPlan, purpose: str) -> Scored:
        """Score the net with a plan's formats; an empty plan is the float net."""
        options = self.options
        simulation = Simulation(plan.layers, options.rounding, options.seed)
        averaged = () if self.scorer is not None else scored_blobs(self.net, options.score)
        finals = [self.net.finals[blob] for blob in (self.scorer.blobs if self.scorer is not None else averaged)]
        runner = Runner(self.net, self.weights, finals, (), simulation, options.threads)
        start = time.perf_counter()
        result = run_pass(runner, self.feed, averaged, options.iterations, purpose, self.listener, self.scorer)
        seconds = time.perf_counter() - start
        outputs = {output.blob: output.values for output in result.outputs}
        return Scored(result.score(self.blob), outputs, result.images, result.batches, seconds)

    def fed_layers(self) -> set[str]:
        """The layers that read what is fed to the net."""
        fed = {value for layer in self.net.layers if layer.type in FED_TYPES for value in layer.outputs}
        return {layer.name for layer in self.layers if layer.inputs[0] in fed}

    def ranges(self) -> dict[str, LayerRanges]:
        """The ranges of the layers to quantize."""
        return measure_ranges(
            self.calibration,
            self.layers,
            self.weights,
            seed=self.options.seed,
            threads=self.options.threads,
            listener=self.listener,
        )


def check_options(options: QuantizeOptions) -> None:
    """Refuse what makes no sense, and outputs that cannot be written.

    Raises:
        UsageError: an option is out of range, or an output's place is unfit.
    """
    if options.error_margin < 0 or not math.isfinite(options.error_margin):
        raise UsageError("--error_margin must be 0 or more", cure="it is the allowed drop in percent points")
    if options.iterations is not None and options.iterations < 1:
        raise UsageError("--iterations must be 1 or more, or all")
    outputs = [options.model_quantized, options.report, *(target for _, target in options.also)]
    inputs = [options.model, *options.weights, options.inputs, *(source for source, _ in options.also)]
    check_outputs(filter(None, outputs), filter(None, inputs))
    for source, _ in options.also:
        read_prototxt(source)


def open_job(options: QuantizeOptions, listener: Listener) -> Job:
    """Read everything and try the float net on the shapes of its data, so that mistakes show at once."""
    load_plugins(options.plugins)
    document = upgrade_net(read_prototxt(options.model))
    net = build_net(document)
    layers = quantizable_layers(net)
    blob = score_blob(net, options.score)
    weights = read_weights(options.weights)
    feed = open_feed(net, inputs=options.inputs, data_root=options.data_root, seed=options.seed, batched=True)
    calibration = _open_calibration(options, document, net, feed)
    shapes = Runner(net, weights, [net.finals[blob]]).prepare(feed.shapes)
    scorer = choose_scorer(net, shapes, options.score, options.score_script)
    name = blob if scorer is None else scorer.name
    return Job(options, document, net, weights, feed, calibration, layers, name, scorer, listener)


def _open_calibration(options: QuantizeOptions, document: Document, net: NetSpec, feed: Feed) -> Calibration:
    if options.calibration_phase == "TEST" or options.inputs is not None:
        return Calibration(net, feed, options.calibration_batches)
    try:
        train = build_net(document, NetState("TRAIN"))
    except NetError as error:
        what = f"the net of phase TRAIN, on whose data the ranges are measured, cannot be built: {error.what}"
        cure = "measure them with --calibration_phase TEST, or add a data layer for TRAIN"
        raise NetError(what, file=error.file, line=error.line, layer=error.layer, cure=cure) from error
    train_feed = open_feed(train, inputs=None, data_root=options.data_root, seed=options.seed)
    return Calibration(train, train_feed, options.calibration_batches)

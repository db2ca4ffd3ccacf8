"""The main job: a float net in, its fixed-point twin out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ristretto.atomic import atomic_write_bytes, check_writable
from ristretto.caffe.net import build_net, is_loss, modernise, read_prototxt
from ristretto.caffe.netspec import LayerSpec, NetSpec, Phase
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import FED_TYPES
from ristretto.caffe.textproto import Document
from ristretto.caffe.weights import Weights, read_weights
from ristretto.decide.choose import IntegerLengths, LayerRanges, integer_lengths
from ristretto.decide.plan import Group, QuantPlan, Widths, dynamic_fixed_point_plan, group_of
from ristretto.decide.search import FALLBACK_BW, Ladder, descend, holds
from ristretto.dialects.fields import Dialect
from ristretto.dialects.prototxt import write_plan
from ristretto.errors import UsageError
from ristretto.graph.build import Simulation
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.calibrate import Calibration, measure_ranges, quantizable_layers, suspicious_ranges
from ristretto.pipeline.feed import Feed, open_feed
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.score import run_pass, score_blob, scored_blobs
from ristretto.pipeline.scorers import Scorer, choose_scorer
from ristretto.report.events import DeviceChosen, LengthsChosen, Listener, Warned, silent
from ristretto.report.model import LayerReport, Report, Scored, Settings

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
        also: further prototxt files (in, out) to write the same formats into.
        gpu: what --gpu was given; it runs on the CPU all the same.
        seed: of crops, mirrors, dropout and stochastic rounding.
        threads: threads per run; 0 for one per core.
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
    also: tuple[tuple[Path, Path], ...] = ()
    gpu: str = ""
    seed: int = 0
    threads: int = 0


def quantize(options: QuantizeOptions, listener: Listener = silent) -> Report:
    """Quantize a net: score it, measure ranges, search the bit-widths, score the result, write it.

    Args:
        options: what to do.
        listener: hears what happens; nothing is printed here.

    Returns:
        all that was found out; the prototxt is written before it returns.

    Raises:
        RistrettoError: a user's mistake, with its place and cure.
    """
    _check(options)
    job = _open(options, listener)
    listener(DeviceChosen(options.gpu))
    baseline = job.score(QuantPlan(), "baseline")
    ranges = job.ranges()
    fed = job.fed_layers() if options.preset == "recommended" else set()
    lengths = {name: integer_lengths(layer, keep_input=name in fed) for name, layer in ranges.items()}
    for name, il in lengths.items():
        listener(LengthsChosen(name, il.input, il.output, il.params))
    ladders = _search(job, lengths, baseline.score)
    chosen = _chosen_widths(ladders, keep_float=options.preset == "recommended")
    plan = dynamic_fixed_point_plan(lengths, job.groups, chosen)
    combined = job.score(plan, "combined")
    report = _report(job, baseline, ranges, lengths, ladders, plan, combined)
    for warning in report.warnings:
        listener(Warned(warning))
    _write(options, job.document, plan)
    return report


@dataclass(frozen=True, slots=True)
class _Job:
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
        return {layer.name: group for layer in self.layers if (group := group_of(layer.type)) is not None}

    def score(self, plan: QuantPlan, purpose: str) -> Scored:
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
        return measure_ranges(
            self.calibration,
            self.layers,
            self.weights,
            seed=self.options.seed,
            threads=self.options.threads,
            listener=self.listener,
        )


def _check(options: QuantizeOptions) -> None:
    if options.error_margin < 0 or not math.isfinite(options.error_margin):
        raise UsageError("--error_margin must be 0 or more", cure="it is the allowed drop in percent points")
    if options.iterations is not None and options.iterations < 1:
        raise UsageError("--iterations must be 1 or more, or all")
    outputs = [options.model_quantized, *(target for _, target in options.also)]
    for path in outputs:
        if path is not None:
            check_writable(path)


def _open(options: QuantizeOptions, listener: Listener) -> _Job:
    """Read everything and try the float net on the shapes of its data, so that mistakes show at once."""
    document = modernise(read_prototxt(options.model))
    net = build_net(document)
    layers = quantizable_layers(net)
    blob = score_blob(net, options.score)
    weights = read_weights(options.weights)
    feed = open_feed(net, inputs=options.inputs, data_root=options.data_root, seed=options.seed, batched=True)
    calibration = _open_calibration(options, document, net, feed)
    shapes = Runner(net, weights, [net.finals[blob]]).prepare(feed.shapes)
    scorer = choose_scorer(net, shapes, options.score, options.score_script)
    name = blob if scorer is None else scorer.name
    return _Job(options, document, net, weights, feed, calibration, layers, name, scorer, listener)


def _open_calibration(options: QuantizeOptions, document: Document, net: NetSpec, feed: Feed) -> Calibration:
    if options.calibration_phase == "TEST" or options.inputs is not None:
        return Calibration(net, feed, options.calibration_batches)
    train = build_net(document, NetState("TRAIN"))
    train_feed = open_feed(train, inputs=None, data_root=options.data_root, seed=options.seed)
    return Calibration(train, train_feed, options.calibration_batches)


def _search(job: _Job, lengths: dict[str, IntegerLengths], baseline: float) -> dict[str, Ladder]:
    """The three searches: weights of CONV, weights of FC, activations; a group that the net lacks is left out."""
    options, present = job.options, set(job.groups.values())
    asked: list[tuple[str, int | None, Callable[[int], Widths]]] = []
    if "conv" in present:
        asked.append(("conv", options.bw_conv_params, lambda bw: Widths(conv_params=bw)))
    if "fc" in present:
        asked.append(("fc", options.bw_fc_params, lambda bw: Widths(fc_params=bw)))
    asked.append(("activations", options.bw_activations, lambda bw: Widths(activations=bw)))
    ladders = {}
    for group, fixed, widths in asked:
        if fixed is not None:
            ladders[group] = Ladder((), fixed)
            continue

        def evaluate(bw: int, group: str = group, widths: Callable[[int], Widths] = widths) -> float:
            plan = dynamic_fixed_point_plan(lengths, job.groups, widths(bw))
            return job.score(plan, f"{group} {bw} bit").score

        ladders[group] = descend(evaluate, baseline=baseline, margin=options.error_margin / 100)
    return ladders


def _chosen_widths(ladders: dict[str, Ladder], *, keep_float: bool) -> Widths:
    """The widths of the combined net.

    A group for which no width held falls back to 32 bits. The original gives it the integer lengths all the same, which
    saturate; with ``keep_float`` it stays as the partial searches leave it, nearly float.
    """
    chosen = {
        group: None if keep_float and ladder.trials and ladder.chosen == FALLBACK_BW else ladder.chosen
        for group, ladder in ladders.items()
    }
    return Widths(chosen.get("conv"), chosen.get("fc"), chosen["activations"])


def _report(
    job: _Job,
    baseline: Scored,
    ranges: dict[str, LayerRanges],
    lengths: dict[str, IntegerLengths],
    ladders: dict[str, Ladder],
    plan: QuantPlan,
    combined: Scored,
) -> Report:
    options = job.options
    settings = Settings(
        str(options.model),
        tuple(map(str, options.weights)),
        options.trimming_mode,
        options.preset,
        options.dialect,
        options.rounding.value,
        options.iterations,
        options.error_margin,
        job.calibration.net.phase,
        job.calibration.batches,
        options.seed,
    )
    layers = {
        layer.name: LayerReport(layer.type, job.groups[layer.name], ranges[layer.name], lengths[layer.name])
        for layer in job.layers
    }
    met = holds(combined.score, baseline.score, options.error_margin / 100)
    warnings = [
        *suspicious_ranges(ranges),
        *_suspicious_scores(job, baseline, ladders, combined),
        *_wrapped(job, baseline),
    ]
    if not met:
        drop = 100 * (baseline.score - combined.score)
        warnings.append(
            f"the combined net misses the margin: it drops {drop:.2f} points, {options.error_margin:g} are allowed"
        )
    return Report(
        settings,
        job.net.name,
        job.blob,
        job.feed.images,
        baseline,
        ladders,
        combined,
        plan,
        layers,
        met,
        tuple(warnings),
    )


def _suspicious_scores(job: _Job, baseline: Scored, ladders: dict[str, Ladder], combined: Scored) -> list[str]:
    """Signs that the scores say nothing: a loss, a score that never moves, NaN."""
    warnings = []
    maker = job.net.producer(job.net.finals[job.blob]) if job.scorer is None else None
    if maker is not None and is_loss(maker.type):
        warnings.append(
            f"the score '{job.blob}' is a loss: a smaller one is better, the search takes a larger one for better; "
            "name an accuracy with --score"
        )
    scores = [baseline.score, combined.score]
    scores += [trial.score for ladder in ladders.values() for trial in ladder.trials]
    if not all(map(math.isfinite, scores)):
        warnings.append(f"the score '{job.blob}' was not a finite number in at least one pass")
    elif len(scores) > 2 and len(set(scores)) == 1:
        warnings.append(
            f"all {len(scores)} scores are {scores[0]:g}: does '{job.blob}' depend on the net, and are labels right?"
        )
    return warnings


def _wrapped(job: _Job, baseline: Scored) -> list[str]:
    held = job.feed.images
    if held is None or baseline.images <= held:
        return []
    return [f"{baseline.images} images were asked for, the TEST source holds {held}: some were scored more than once"]


def _write(options: QuantizeOptions, document: Document, plan: QuantPlan) -> None:
    """Write the quantized prototxt, and the same formats into every file of --also."""
    if options.model_quantized is not None:
        quantized = write_plan(document, plan, options.dialect)
        atomic_write_bytes(options.model_quantized, quantized.to_bytes())
    for source, target in options.also:
        other = write_plan(modernise(read_prototxt(source)), plan, options.dialect)
        atomic_write_bytes(target, other.to_bytes())

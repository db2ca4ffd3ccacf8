"""Scoring and running nets as they are, quantized or not."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.atomic import check_again
from ristretto.caffe.confined import confined_to
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import NetSpec, Phase
from ristretto.caffe.parameters import with_shared
from ristretto.caffe.rules import NetState
from ristretto.caffe.weights import Weights, read_weights
from ristretto.data import noting_files
from ristretto.dialects.registry import Source, plan_of
from ristretto.errors import DataError, UsageError
from ristretto.graph.build import Simulation
from ristretto.numerics.arithmetic import Accumulator, Arithmetic
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.device import Device, on_device
from ristretto.pipeline.feed import Batch, open_feed
from ristretto.pipeline.given import coerce
from ristretto.pipeline.integer import overflow_warnings
from ristretto.pipeline.plugins import load_plugins
from ristretto.pipeline.provenance import provenance_of
from ristretto.pipeline.runnable import runnable
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.score import run_pass, score_blob, scored_blobs
from ristretto.pipeline.scorers import Agreement, choose_scorer
from ristretto.pipeline.signs import clueless, duplicate_names, ignored_fields, wrapped_around
from ristretto.pipeline.sound import Pass, check_weights, weight_warnings
from ristretto.pipeline.verdicts import verdicts_of
from ristretto.pipeline.workers import on_workers
from ristretto.report.events import DeviceChosen, Listener, Warned, silent
from ristretto.report.model import Evaluation, Scored
from ristretto.report.record import Recorder


@dataclass(frozen=True, slots=True)
class NetOptions:
    """A net and how to simulate it.

    Attributes:
        model: the prototxt; a quantized one is simulated to the letter.
        weights: its weights files, later ones override; none for a net without weights.
        phase, level, stages: the state to build it in (caffe.proto, NetState).
        rounding: how quantized layers round where they do not say so themselves.
        inputs: an npz file in place of the net's own data.
        data_root: a folder for relative sources.
        untrusted: whether paths that the files name must lie in their folder or in data_root (docs/robustness.md).
        seed: of everything random.
        threads: threads per run; 0 for one per core.
        gpu: the device to run on, "" for the CPU (``pipeline.device``).
        plugins: modules that teach layer types, by name or as paths ending in .py (docs/plugins.md).
        arithmetic: how sums and products are computed.
        accumulator: where integer arithmetic adds up.
        workers, scheduler: who scores (``QuantizeOptions``).
        dialect: the dialect of a quantized prototxt; "auto" lets the names of its fields decide (docs/dialects.md).
        nearest: whether scales in it that are no powers of two become the nearest.
    """

    model: Path
    weights: tuple[Path, ...] = ()
    phase: Phase = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()
    rounding: Rounding = Rounding.HALF_EVEN
    inputs: Path | None = None
    data_root: Path | None = None
    untrusted: bool = False
    seed: int = 0
    threads: int = 0
    gpu: str = ""
    plugins: tuple[str, ...] = ()
    arithmetic: Arithmetic = Arithmetic.FLOAT32
    accumulator: Accumulator = field(default_factory=Accumulator)
    workers: int = 1
    scheduler: str = ""
    dialect: Source = "auto"
    nearest: bool = False

    def __post_init__(self) -> None:
        coerce(self)


Loaded = tuple[NetSpec, Weights | None, Simulation]
"""A net, its weights, and how it is simulated."""


def load(options: NetOptions) -> Loaded:
    """A net, its weights, and how it is simulated.

    Raises:
        RistrettoError: one of the files cannot be read or makes no sense.
    """
    load_plugins(options.plugins)
    confined = confined_to(options.untrusted, options.model, options.data_root)
    document = read_prototxt(options.model, confined)
    net = build_net(document, NetState(options.phase, options.level, options.stages))
    weights = None
    if options.weights:
        weights = with_shared(net, read_weights(options.weights, untrusted=options.untrusted))
    test = options.phase == "TEST"
    formats = plan_of(net, options.dialect, options.nearest).layers if test else {}
    return net, weights, Simulation(formats, options.rounding, options.seed, options.arithmetic, options.accumulator)


def evaluate(
    options: NetOptions,
    iterations: int | None = 50,
    score: str | None = None,
    listener: Listener = silent,
    score_script: str | None = None,
    loaded: Loaded | None = None,
    details: bool = False,
) -> Evaluation:
    """Score a net over some batches, or with ``iterations`` None over every image once.

    Args:
        options: the net.
        iterations: how many batches.
        score: the blob that decides; None takes the first output.
        listener: hears what happens.
        score_script: module:function of the user's own metric.
        loaded: what ``load`` made of the options, or the same in another simulation; None to load it now.
        details: whether to find out what it is made from.

    Raises:
        RistrettoError: a user's mistake.
    """
    with on_device(options.gpu) as device, on_workers(options.workers, options.scheduler, options.gpu):
        recorder = Recorder(listener)
        with noting_files() as noted:
            result = _evaluate(options, loaded or load(options), iterations, score, recorder, score_script, device)
    if not details:
        return result
    asked = {"iterations": iterations, "score": score, "score_script": score_script}
    provenance = provenance_of("test", options, asked, noted, {"score": result.source_images})
    return replace(result, provenance=provenance)


def _evaluate(
    options: NetOptions,
    loaded: Loaded,
    iterations: int | None,
    score: str | None,
    listener: Recorder,
    score_script: str | None,
    device: Device,
) -> Evaluation:
    net, weights, simulation = loaded
    check_weights(net, weights)
    blob = score_blob(net, score)
    net, left_out = runnable(net, [net.finals[blob]])
    feed = open_feed(net, inputs=options.inputs, data_root=options.data_root, seed=options.seed, batched=True)
    shapes = Runner(net, weights, [net.finals[blob]]).prepare(feed.shapes)
    scorer = choose_scorer(net, shapes, score, score_script)
    check_again()
    if isinstance(scorer, Agreement):
        cure = "name an accuracy with --score, give a metric with --score_script, or see its outputs with ristretto run"
        raise UsageError(f"the net computes no score: blob '{scorer.blobs[0]}' is none", file=net.file, cure=cure)
    blobs = () if scorer is not None else scored_blobs(net, score)
    wanted = scorer.blobs if scorer is not None else blobs
    values = [net.finals[name] for name in wanted]
    counts = options.arithmetic is Arithmetic.INTEGER
    verdicts = verdicts_of(net, blob, shapes) if scorer is None else None
    fetched = list(dict.fromkeys([*values, *(verdicts.values if verdicts is not None else ())]))
    runner = Runner(net, weights, fetched, (), simulation, options.threads, diagnose=counts)
    listener(DeviceChosen(options.gpu, device.number, device.reason))
    start = time.perf_counter()
    result = run_pass(runner, feed, blobs, iterations, "test", listener, scorer, verdicts)
    seconds = time.perf_counter() - start
    outputs = {output.blob: output.values for output in result.outputs}
    name = blob if scorer is None else scorer.name
    answers = None if verdicts is None else verdicts.answers()
    marks = answers, result.broken, result.uncounted, result.missing
    scored = Scored(result.score(name), outputs, result.images, result.batches, seconds, None, *marks)
    passed = Pass(net, weights, simulation, feed, iterations, options.threads)
    passed.check(name, scored)
    integer = tuple(totals.report(layer) for layer, totals in runner.integer.items())
    warnings = [
        *left_out,
        *ignored_fields(net),
        *duplicate_names(net),
        *overflow_warnings(integer),
        *passed.warnings(scored),
        *passed.hidden(scored),
        *clueless(scored, "the net"),
        *wrapped_around(feed, scored),
    ]
    for warning in warnings:
        listener(Warned(warning))
    return Evaluation(
        net.name,
        name,
        len(simulation.formats),
        feed.images,
        scored,
        tuple(warnings),
        options.arithmetic.value,
        integer,
        events=tuple(listener.events),
    )


def run(
    options: NetOptions, blobs: tuple[str, ...] | None = None, batch: int = 0, listener: Listener = silent
) -> dict[str, NDArray[np.floating]]:
    """Run one batch through a net.

    Args:
        options: the net. With ``inputs`` the net takes the shapes of the arrays given; without, it reads its own data.
        blobs: the blobs to return; None for the net's output blobs, ("all",) for every blob.
        batch: number of the batch to read from the net's own data, from 0.
        listener: hears of weights that are not numbers, and of sums that an accumulator cannot hold.

    Returns:
        what each blob holds after the forward pass: float32, or float64 if that is the arithmetic.

    Raises:
        RistrettoError: a user's mistake.
    """
    net, weights, simulation = load(options)
    for warning in weight_warnings(net, weights):
        listener(Warned(warning))
    wanted = wanted_blobs(net, blobs)
    net, _ = runnable(net, [net.finals[blob] for blob in wanted])
    feeds = one_batch(net, options, batch)
    with on_device(options.gpu):
        asked = [net.finals[blob] for blob in wanted]
        counts = options.arithmetic is Arithmetic.INTEGER
        runner = Runner(net, weights, asked, (), simulation, options.threads, diagnose=counts)
        values, _ = runner.run(feeds)
    for warning in overflow_warnings(tuple(totals.report(layer) for layer, totals in runner.integer.items())):
        listener(Warned(warning))
    return {blob: values[net.finals[blob]] for blob in wanted}


def wanted_blobs(net: NetSpec, blobs: tuple[str, ...] | None) -> tuple[str, ...]:
    """The blobs asked for: None stands for the net's outputs, ("all",) for every one.

    Raises:
        UsageError: the net has no such blob.
    """
    if blobs is None:
        return net.outputs
    if blobs == ("all",):
        return tuple(net.finals)
    unknown = [blob for blob in blobs if blob not in net.finals]
    if unknown:
        cure = f"its blobs are {', '.join(net.finals)}"
        raise UsageError(f"the net has no blob '{unknown[0]}'", file=net.file, cure=cure)
    return blobs


def one_batch(net: NetSpec, options: NetOptions, number: int) -> Batch:
    """A batch of the net's own data, or of the npz file in its place.

    Raises:
        RistrettoError: there is no such batch, or the data cannot be read.
    """
    feed = open_feed(net, inputs=options.inputs, data_root=options.data_root, seed=options.seed)
    if number < 0:
        raise UsageError("--batch must be 0 or more")
    if number and options.inputs is not None:
        raise UsageError("--batch reads the net's own data, --inputs takes its place", cure="give one of the two")
    held = None if feed.images is None else -(-feed.images // feed.batch_size)
    if held is not None and number >= held:
        what = f"there is no batch number {number}: the source holds {feed.images} images, {held} batches"
        raise UsageError(what, file=net.file, cure=f"use 0 to {held - 1}")
    batch = next(islice(feed.batches(), number, None), None)
    if batch is None:
        raise DataError(f"there is no batch number {number}", file=net.file)
    return batch

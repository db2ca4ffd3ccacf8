"""The iterations of a training, with scores, log and snapshots on the way (BVLC/caffe solver.cpp, Step and Solve)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ristretto.atomic import check_again, check_outputs, one_job
from ristretto.caffe.confined import check_named, confined_to
from ristretto.caffe.hdf5 import import_h5py
from ristretto.caffe.solver import SolverConfig, read_solver
from ristretto.caffe.weights import Weights, read_weights, write_caffemodel
from ristretto.data import Noted, noting_files
from ristretto.errors import NetError, UsageError
from ristretto.finetune.backend import import_torch
from ristretto.finetune.rates import broken_rate, learning_rate
from ristretto.finetune.shares import threads
from ristretto.finetune.trainer import Step
from ristretto.pipeline.finetune.opened import Opened, open_training
from ristretto.pipeline.finetune.options import FinetuneOptions
from ristretto.pipeline.finetune.snapshots import (
    History,
    files_to_replace,
    last_snapshot,
    open_snapshot,
    restore,
    snapshot_files,
    write_snapshot,
)
from ristretto.pipeline.provenance import provenance_of
from ristretto.pipeline.score import loss_weights
from ristretto.pipeline.sound import broken_blobs
from ristretto.report.events import Output, Warned
from ristretto.report.training import (
    NetTested,
    SnapshotWritten,
    Stepped,
    StepShown,
    Training,
    TrainingEnded,
    TrainingListener,
    TrainingStarted,
    silent_training,
)

Asked = Literal["", "stop", "snapshot"]
"""What somebody wants of a training that runs: to stop with a snapshot, or to write one and go on."""


@one_job()
def finetune(
    options: FinetuneOptions,
    listener: TrainingListener = silent_training,
    asked: Callable[[], Asked] = lambda: "",
) -> Training:
    """Train a net.

    Args:
        options: the solver and all else.
        listener: hears what happens.
        asked: is asked after each iteration, and during tests.

    Raises:
        RistrettoError: a user's mistake, or a loss that is no number any more.
    """
    import_torch()
    confined = confined_to(options.untrusted, options.solver, options.data_root)
    solver = read_solver(options.solver, confined)
    if options.snapshot_prefix is not None:
        solver = replace(solver, snapshot_prefix=str(options.snapshot_prefix))
    else:
        check_named(Path(solver.snapshot_prefix).parent, "the folder of snapshots", options.solver, confined)
    _check_rates(solver)
    read = [options.solver, *options.weights]
    check_outputs(filter(None, [options.output]), read)
    check_outputs(snapshot_files(solver), [*read, *filter(None, [options.output])], again=False)
    if solver.hdf5:
        import_h5py(solver.file)
    path = options.snapshot or (last_snapshot(solver) if options.resume else None)
    state, learned = open_snapshot(path, untrusted=options.untrusted) if path is not None else (None, None)
    weights = _weights(options, solver) if learned is None else read_weights([learned], untrusted=options.untrusted)
    with noting_files() as noted:
        opened = open_training(options, solver, weights)
    check_again()
    noted += _files(options, opened, weights)
    told = options.told(opened.seed)
    warnings = list(opened.warnings)
    history = History(options=told)
    if state is not None and path is not None:
        history, more = restore(opened, state, path, told)
        warnings += more
    check_outputs(files_to_replace(solver, opened.trainer.iteration), again=False)
    for warning in warnings:
        listener(Warned(warning))
    trained = sum(parameter.data.size for parameter in opened.trainer.net.parameters.unique if parameter.lr_mult)
    quantized = len(opened.trainer.net.rounding.formats)
    resumed = str(path) if path is not None else ""
    iteration = opened.trainer.iteration
    listener(
        TrainingStarted(opened.net.name, solver.rate.name, quantized, trained, resumed, iteration, solver.max_iter)
    )
    loop = _Loop(opened, history, options, listener, asked)
    if path is not None:
        loop.saved = (iteration, str(learned), resumed)
    with threads(options.threads):
        training = loop.run(warnings)
    return replace(training, provenance=provenance_of("finetune", options, {}, noted, {"train": opened.feed.images}))


def _check_rates(solver: SolverConfig) -> None:
    iteration = broken_rate(solver.rate)
    if iteration is not None:
        rate = learning_rate(solver.rate, iteration)
        what = f"lr_policy '{solver.rate.name}' makes a rate of {rate:g} at iteration {iteration}, which no float32 is"
        raise NetError(what, file=solver.file, cure="correct base_lr, gamma or power")


def _files(options: FinetuneOptions, opened: Opened, weights: Weights) -> list[Noted]:
    """What was read besides data: with ``resume`` the job's weights, as a snapshot changes nothing."""
    nets = [opened.net.file, *(test.net.file for test in opened.tests)]
    return [
        *(Noted("net", Path(name)) for name in dict.fromkeys(nets)),
        *(Noted("weights", path) for path in weights.files if not options.resume),
    ]


def _weights(options: FinetuneOptions, solver: SolverConfig) -> Weights:
    """The weights to start from: those given, or those that the solver names."""
    if options.weights:
        return read_weights(options.weights, untrusted=options.untrusted)
    if solver.weights:
        confined = confined_to(options.untrusted, options.solver, options.data_root)
        for name in solver.weights:
            check_named(Path(name), "the weights file", options.solver, confined)
        return read_weights(",".join(solver.weights), untrusted=options.untrusted)
    cure = "give the trained weights with --weights, or a snapshot with --snapshot"
    raise UsageError("there are no weights to start from", file=solver.file, cure=cure)


class _Loop:
    """A training that runs.

    Attributes:
        stopping, wanted: whether it is to end, and whether a snapshot is asked for.
        saved: the last snapshot: its iteration, its weights file and its state.
    """

    def __init__(
        self,
        opened: Opened,
        history: History,
        options: FinetuneOptions,
        listener: TrainingListener,
        asked: Callable[[], Asked],
    ) -> None:
        self.opened, self.history, self.options = opened, history, options
        self.listener, self.asked = listener, asked
        self.solver = opened.solver
        self.losses = loss_weights(opened.net)
        self.saved: tuple[int, str, str] = (-1, "", "")
        self.prototxt = ""
        self.shown = time.perf_counter()
        self.steps = 0
        self.stopping = self.wanted = False

    def run(self, warnings: list[str]) -> Training:
        start = self.shown
        trainer = self.opened.trainer
        with closing(self.opened.batches()) as batches:
            while trainer.iteration < self.solver.max_iter and not self.stopping:
                self._test_if_due()
                if self.stopping:
                    break
                self._step(trainer.step(next(batches)))
                if self.solver.snapshot and trainer.iteration % self.solver.snapshot == 0:
                    self._snapshot()
                self._listen()
        if self.stopping:
            self._snapshot()
        else:
            self._finish()
        self.listener(TrainingEnded(trainer.iteration, self.stopping, self.saved[2]))
        if self.options.output is not None and not self.stopping:
            write_caffemodel(self.options.output, self.opened.net.name, self.opened.weights().layers)
        return Training(
            self.solver.file,
            self.opened.net.name,
            dict(self.history.options),
            trainer.iteration,
            self.history.first,
            tuple(self.history.losses),
            tuple(self.history.rates),
            tuple(self.history.tests),
            self.saved[1],
            self.saved[2],
            self.prototxt,
            self.stopping,
            time.perf_counter() - start,
            tuple(warnings),
        )

    def _finish(self) -> None:
        """What comes after the last iteration; the net is tested in any case, so that its score is known."""
        self._require_finite()  # no loss is left that would tell
        if self.solver.snapshot_after_train:
            self._snapshot()
        if self.solver.display and self.history.losses:
            self.listener(StepShown(self.opened.trainer.iteration, self._smoothed(), 0.0, (), 0.0, 0, last=True))
        self._test()

    def _step(self, step: Step) -> None:
        self.history.losses.append(step.loss)
        self.history.rates.append(step.rate)
        self.steps += 1
        self.listener(Stepped(step.iteration))
        if self.solver.display and step.iteration % self.solver.display == 0:
            now = time.perf_counter()
            outputs = tuple(Output(blob, values, self.losses.get(blob, 0.0)) for blob, values in step.outputs.items())
            self.listener(StepShown(step.iteration, self._smoothed(), step.rate, outputs, now - self.shown, self.steps))
            self.shown, self.steps = now, 0

    def _smoothed(self) -> float:
        """The loss averaged as the solver says (Solver::UpdateSmoothedLoss)."""
        last = self.history.losses[-self.solver.average_loss :]
        return sum(last) / len(last)

    def _listen(self) -> None:
        """Do what is asked for after an iteration."""
        self._stop()
        if self.wanted and not self.stopping:
            self._snapshot()
        self.wanted = False

    def _stop(self) -> bool:
        """Hear what is asked for; whether that is to end."""
        asked = self.asked()
        self.stopping = self.stopping or asked == "stop"
        self.wanted = self.wanted or asked == "snapshot"
        return self.stopping

    def _test_if_due(self) -> None:
        iteration, interval = self.opened.trainer.iteration, self.solver.test_interval
        if interval and iteration % interval == 0 and (iteration or self.solver.test_initialization):
            self._test()

    def _test(self) -> None:
        """Score the nets with the present weights, but for those that were before a snapshot of this iteration."""
        iteration = self.opened.trainer.iteration
        for number, test in enumerate(self.opened.tests):
            if self.stopping or self.history.tested(iteration, number):
                continue
            outputs = test.score(self.opened.weights(), self.opened.formats(), self.options.threads, self._stop)
            if outputs is not None:
                self.history.tests.append(NetTested(iteration, number, outputs))
                self.listener(self.history.tests[-1])
        self.shown, self.steps = time.perf_counter(), 0

    def _snapshot(self) -> None:
        if self.saved[0] == self.opened.trainer.iteration:
            return
        self._require_finite()
        written: SnapshotWritten = write_snapshot(self.opened, self.history)
        self.saved = (written.iteration, written.weights, written.state)
        self.prototxt = written.prototxt
        self.listener(written)

    def _require_finite(self) -> None:
        broken = next(broken_blobs(self.opened.net, self.opened.weights()), None)
        if broken is not None:
            what = f"{broken.what} after iteration {self.opened.trainer.iteration - 1}"
            cure = "lower base_lr, or set clip_gradients; the last snapshot is from before"
            raise NetError(what, file=self.opened.net.file, layer=broken.layer, cure=cure)

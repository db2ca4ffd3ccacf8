"""What happens while a net is trained: events, Caffe's log lines for them, and the report as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ristretto.report.events import Output, Warned
from ristretto.report.glog import LogLine, event_lines, number, output_texts
from ristretto.report.provenance import Provenance, provenance_to_json

SCHEMA_VERSION = 1

_SOLVER, _SGD = "solver.cpp", "sgd_solver.cpp"


@dataclass(frozen=True, slots=True)
class TrainingStarted:
    """Training begins, or goes on.

    Attributes:
        net: the net's name.
        policy: of the learning rate.
        layers: how many layers have formats.
        weights: how many numbers are trained.
        resumed: the snapshot that it goes on from, or "".
        iteration: the first one.
        end: where it will end.
    """

    net: str
    policy: str
    layers: int
    weights: int
    resumed: str
    iteration: int
    end: int


@dataclass(frozen=True, slots=True)
class StepShown:
    """An iteration whose loss is to be shown.

    Attributes:
        iteration: its number.
        loss: averaged as the solver says.
        rate: the learning rate.
        outputs: the output blobs of its last batch.
        seconds, steps: since the last one shown.
        last: whether this is the loss after the last step, which is shown without the rest.
    """

    iteration: int
    loss: float
    rate: float
    outputs: tuple[Output, ...]
    seconds: float
    steps: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Stepped:
    """An iteration is over."""

    iteration: int


@dataclass(frozen=True, slots=True)
class NetTested:
    """A net was scored; the outputs are means over its images."""

    iteration: int
    number: int
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class SnapshotWritten:
    """A snapshot was written: its weights, its state, and what else is in it."""

    iteration: int
    weights: str
    state: str
    hdf5: bool = False
    prototxt: str = ""


@dataclass(frozen=True, slots=True)
class TrainingEnded:
    """Training is over, or was interrupted and can go on from a snapshot."""

    iteration: int
    interrupted: bool
    snapshot: str


TrainingEvent = TrainingStarted | Stepped | StepShown | NetTested | SnapshotWritten | TrainingEnded | Warned
TrainingListener = Callable[[TrainingEvent], None]


def silent_training(event: TrainingEvent) -> None:
    """The listener of library code."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a training came to.

    Attributes:
        solver, net: the solver's file, the net's name.
        options: the flags that matter, as text.
        iterations: how many there were, those before a snapshot that it went on from with them.
        first: the iteration that ``losses`` begin with: not 0 where a snapshot did not have them.
        losses: of each iteration.
        rates: the learning rate of each.
        tests: the nets that were scored.
        weights: the weights file that was written last, or "".
        state: the snapshot that belongs to it, or "".
        prototxt: with learned formats, the net that has them; or "".
        interrupted: whether it was stopped before the end.
        seconds: the time of this run.
        warnings: what was warned of.
        provenance: how it came about.
    """

    solver: str
    net: str
    options: dict[str, str]
    iterations: int
    first: int
    losses: tuple[float, ...]
    rates: tuple[float, ...]
    tests: tuple[NetTested, ...]
    weights: str = ""
    state: str = ""
    prototxt: str = ""
    interrupted: bool = False
    seconds: float = 0.0
    warnings: tuple[str, ...] = field(default=())
    provenance: Provenance | None = None


def training_lines(event: TrainingEvent) -> Iterator[LogLine]:
    """Caffe's log lines (solver.cpp, sgd_solver.cpp), where it has some."""
    match event:
        case TrainingStarted(net, policy, layers, weights, resumed, iteration, _):
            yield LogLine(f"Solving {net}", 279, file=_SOLVER)
            yield LogLine(f"Learning Rate Policy: {policy}", 280, file=_SOLVER)
            yield LogLine(f"{weights} weights are trained; {layers} layers have formats.")
            if resumed:
                yield LogLine(f"Restoring previous solver status from {resumed}", 285, file=_SOLVER)
                yield LogLine(f"Going on with iteration {iteration}.")
        case StepShown(iteration, loss, _, _, _, _, True):
            yield LogLine(f"Iteration {iteration}, loss = {number(loss)}", 310, file=_SOLVER)
        case StepShown(iteration, loss, rate, outputs, seconds, steps):
            speed = f"({number(steps / max(seconds, 1e-9))} iter/s, {number(seconds)}s/{steps} iters)"
            yield LogLine(f"Iteration {iteration} {speed}, loss = {number(loss)}", 218, file=_SOLVER)
            for place, text in enumerate(_texts(outputs)):
                yield LogLine(f"    Train net output #{place}: {text}", 237, file=_SOLVER)
            yield LogLine(f"Iteration {iteration}, lr = {number(rate)}", 105, file=_SGD)
        case NetTested(iteration, place, outputs):
            yield LogLine(f"Iteration {iteration}, Testing net (#{place})", 330, file=_SOLVER)
            for output, text in enumerate(_texts(outputs)):
                yield LogLine(f"    Test net output #{output}: {text}", 397, file=_SOLVER)
        case SnapshotWritten(_, weights_file, state, hdf5, prototxt):
            kind = "HDF5" if hdf5 else "binary proto"
            yield LogLine(f"Snapshotting to {kind} file {weights_file}", 457 if hdf5 else 447, file=_SOLVER)
            yield LogLine(f"Snapshotting solver state to {kind} file {state}", 283 if hdf5 else 273, file=_SGD)
            if prototxt:
                yield LogLine(f"Learned formats in {prototxt}")
        case TrainingEnded(iteration, True, snapshot):
            saved = f"go on with --snapshot {snapshot}" if snapshot else "no snapshot was written"
            yield LogLine(f"Optimization stopped early, at iteration {iteration}: {saved}", 295, file=_SOLVER)
        case Stepped():
            return
        case TrainingEnded():
            yield LogLine("Optimization Done.", 315, file=_SOLVER)
        case Warned():
            yield from event_lines(event)


def plain_training_lines(event: TrainingEvent) -> Iterator[LogLine]:
    """Short lines for reading."""
    match event:
        case StepShown(iteration, loss, rate, _, _, _, last):
            yield LogLine(f"{iteration}: loss {number(loss)}" + ("" if last else f", rate {number(rate)}"))
        case NetTested(iteration, place, outputs):
            means = [f"{output.blob} {' '.join(map(number, output.values))}" for output in outputs]
            yield LogLine(f"{iteration}: test {place}: {', '.join(means)}")
        case SnapshotWritten(iteration, weights, _, _, _):
            yield LogLine(f"{iteration}: wrote {weights}")
        case _:
            for line in training_lines(event):
                yield LogLine(line.text.strip(), severity=line.severity)


def _texts(outputs: tuple[Output, ...]) -> list[str]:
    return [text for output in outputs for text in output_texts(output)]


def training_to_json(training: Training, version: str) -> dict[str, Any]:
    """The report as JSON values (docs/finetune.md)."""
    return {
        "schema": SCHEMA_VERSION,
        "tool": "ristretto",
        "version": version,
        "solver": training.solver,
        "net": training.net,
        "options": training.options,
        "iterations": training.iterations,
        "first": training.first,
        "losses": [_finite(loss) for loss in training.losses],
        "rates": list(training.rates),
        "tests": [score_to_json(test) for test in training.tests],
        "weights": training.weights,
        "state": training.state,
        "prototxt": training.prototxt,
        "interrupted": training.interrupted,
        "seconds": round(training.seconds, 3),
        "warnings": list(training.warnings),
        **({} if training.provenance is None else {"provenance": provenance_to_json(training.provenance)}),
    }


def score_to_json(test: NetTested) -> dict[str, Any]:
    """A score as JSON values."""
    outputs = {output.blob: [_finite(value) for value in output.values] for output in test.outputs}
    weights = {output.blob: output.loss_weight for output in test.outputs if output.loss_weight}
    return {"iteration": test.iteration, "net": test.number, "outputs": outputs, "loss_weights": weights}


def score_from_json(data: dict[str, Any]) -> NetTested:
    """The reverse of ``score_to_json``."""
    weights = data["loss_weights"]
    outputs = (
        Output(blob, tuple(math.nan if value is None else float(value) for value in values), weights.get(blob, 0.0))
        for blob, values in data["outputs"].items()
    )
    return NetTested(int(data["iteration"]), int(data["net"]), tuple(outputs))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

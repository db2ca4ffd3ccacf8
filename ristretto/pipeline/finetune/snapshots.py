"""Snapshots of a training: Caffe's two files, and beside them what Caffe has no field for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ristretto.atomic import atomic_together, atomic_write_bytes, atomic_write_text
from ristretto.caffe.confined import check_named, confined_to
from ristretto.caffe.solver import SolverConfig
from ristretto.caffe.solver_state import (
    SolverState,
    read_solver_state,
    write_caffemodel_hdf5,
    write_solver_state,
)
from ristretto.caffe.weights import write_caffemodel
from ristretto.decide.plan import QuantPlan
from ristretto.dialects.prototxt import write_plan
from ristretto.errors import FormatError, UsageError, WeightsError
from ristretto.finetune.rates import current_step
from ristretto.pipeline.files import read_json
from ristretto.pipeline.finetune.opened import Opened
from ristretto.report.training import NetTested, SnapshotWritten, score_from_json, score_to_json

_WITHOUT = "remove it: the snapshot alone is enough to go on"

_Thresholds = Mapping[str, list[list[float]]]
"""The state of learned formats, as ``Thresholds.state`` gives it."""

_STATES = (".solverstate", ".solverstate.h5")


@dataclass
class History:
    """What a training has come through, from iteration ``first`` on.

    Attributes:
        first: the iteration of the first loss.
        losses, rates: of each iteration.
        tests: the scores.
        options: the flags that decide its course.
    """

    first: int = 0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    tests: list[NetTested] = field(default_factory=list)
    options: Mapping[str, str] = field(default_factory=dict)

    def tested(self, iteration: int, number: int) -> bool:
        """Whether a net was scored at an iteration."""
        return any((test.iteration, test.number) == (iteration, number) for test in self.tests)


def last_snapshot(solver: SolverConfig) -> Path | None:
    """The snapshot of the solver's prefix that is furthest on, or None."""
    prefix = Path(solver.snapshot_prefix)
    pattern = re.compile(re.escape(prefix.name) + r"_iter_(\d+)\.solverstate(\.h5)?")
    found = [
        (int(match[1]), path)
        for path in (prefix.parent.iterdir() if prefix.parent.is_dir() else ())
        if (match := pattern.fullmatch(path.name))
    ]
    return max(found)[1] if found else None


def open_snapshot(path: Path, *, untrusted: bool = False) -> tuple[SolverState, Path]:
    """A snapshot, and the weights file that goes with it: where it says, or beside it.

    Raises:
        RistrettoError: one of them cannot be read.
    """
    state = read_solver_state(path)
    named = Path(state.learned_net)
    beside = path.with_name(named.name)
    if not named.exists() and not beside.exists():
        what = f"the snapshot's weights '{named}' are not there"
        raise WeightsError(what, file=str(path), cure=f"put them beside it, as {beside.name}")
    # Beside it, if both are there: a snapshot that was copied belongs to the copy.
    found = beside if beside.exists() else named
    check_named(found, "the weights file", path, confined_to(untrusted, path))
    return state, found


def restore(opened: Opened, state: SolverState, path: Path, options: Mapping[str, str]) -> tuple[History, list[str]]:
    """Take up a snapshot, and what has happened before it.

    Returns:
        the history, and warnings.

    Raises:
        WeightsError: it is none of this net and solver.
    """
    unfit = opened.trainer.restore(state.iteration, state.history)
    if unfit:
        cure = "go on with the net and the solver type that it was made with"
        raise WeightsError(f"the snapshot does not fit: {unfit}", file=str(path), cure=cure)
    data = _read_beside(_beside(path), state.iteration)
    if data is None:
        warnings = []
        if opened.thresholds is not None:
            warnings.append("the snapshot has no learned formats: they are learned from those of the prototxt on")
        return History(state.iteration, options=options), warnings
    before, thresholds = data
    warnings = [
        f"the snapshot was made with {name} {before.options.get(name)}, training goes on with {value}"
        for name, value in options.items()
        if before.options.get(name) != value
    ]
    history = replace(before, options=options)
    if opened.thresholds is not None and not opened.thresholds.restore(thresholds):
        warnings.append("the snapshot has no formats of these layers: they are learned from those of the prototxt on")
    return history, warnings


def _beside(state: Path) -> Path:
    name = state.name.removesuffix(".h5").removesuffix(".solverstate")
    return state.with_name(f"{name}.training.json")


def _read_beside(path: Path, iteration: int) -> tuple[History, _Thresholds] | None:
    """What was written beside a snapshot; None where there is nothing, as with Caffe's own."""
    if not path.exists():
        return None
    try:
        return training_of(read_json(path, "history of the training"), str(path), iteration)
    except FormatError as error:
        raise UsageError(f"damaged: {error.what}", file=str(path), cure=_WITHOUT) from error


def training_of(data: Any, file: str, iteration: int) -> tuple[History, _Thresholds]:
    """What a training has come through, in a parsed file, and the state of its learned formats.

    Raises:
        UsageError: it is damaged, or of another iteration.
    """
    try:
        first, losses = int(data["first"]), [float(loss) for loss in data["losses"]]
        if data["iteration"] != iteration or len(losses) != iteration - first:
            raise UsageError("damaged: it belongs to another snapshot", file=file, cure=_WITHOUT)
        tests = [score_from_json(test) for test in data["tests"]]
        rates, options = [float(rate) for rate in data["rates"]], dict(data["options"])
        learned = data.get("thresholds", {}).items()
        thresholds = {name: [list(map(float, row)) for row in rows] for name, rows in learned}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"damaged: {type(error).__name__} {error}"
        raise UsageError(what, file=file, cure=_WITHOUT) from error
    return History(first, losses, rates, tests, options), thresholds


def write_snapshot(opened: Opened, history: History) -> SnapshotWritten:
    """Write a snapshot. The state comes last: where there is one, all that belongs to it is there and whole.

    Raises:
        UsageError: it cannot be written.
    """
    with atomic_together():
        return _written(opened, history)


def _written(opened: Opened, history: History) -> SnapshotWritten:
    solver, trainer = opened.solver, opened.trainer
    stem = f"{solver.snapshot_prefix}_iter_{trainer.iteration}"
    suffix = ".h5" if solver.hdf5 else ""
    weights, state = f"{stem}.caffemodel{suffix}", f"{stem}.solverstate{suffix}"
    if solver.hdf5:
        write_caffemodel_hdf5(Path(weights), [layer for layer in opened.weights().layers if layer.blobs])
    else:
        write_caffemodel(Path(weights), opened.net.name, opened.weights().layers)
    prototxt = ""
    if opened.thresholds is not None:
        prototxt = f"{stem}.prototxt"
        atomic_write_bytes(Path(prototxt), write_plan(opened.document, QuantPlan(opened.formats())).to_bytes())
    _write_beside(_beside(Path(state)), opened, history)
    step = current_step(solver.rate, max(trainer.iteration - 1, 0))
    arrays: Sequence[Any] = trainer.arrays()
    write_solver_state(Path(state), SolverState(trainer.iteration, weights, step, tuple(arrays)), hdf5=solver.hdf5)
    return SnapshotWritten(trainer.iteration, weights, state, solver.hdf5, prototxt)


def _write_beside(path: Path, opened: Opened, history: History) -> None:
    data = {
        "schema": 1,
        "iteration": opened.trainer.iteration,
        "options": dict(history.options),
        "first": history.first,
        "losses": history.losses,
        "rates": history.rates,
        "tests": [score_to_json(test) for test in history.tests],
        **({} if opened.thresholds is None else {"thresholds": opened.thresholds.state()}),
    }
    atomic_write_text(path, json.dumps(data, allow_nan=False) + "\n")


def files_to_replace(solver: SolverConfig, iteration: int) -> list[Path]:
    """Files of snapshots that are there already and that a training from an iteration on writes again."""
    prefix = Path(solver.snapshot_prefix)
    kinds = r"(caffemodel|solverstate|training\.json|prototxt)(\.h5)?"
    pattern = re.compile(rf"{re.escape(prefix.name)}_iter_(\d+)\.{kinds}")
    found = []
    for path in sorted(prefix.parent.iterdir()) if prefix.parent.is_dir() else ():
        match = pattern.fullmatch(path.name)
        number = int(match[1]) if match else 0
        due = number == solver.max_iter or (solver.snapshot > 0 and number % solver.snapshot == 0)
        if iteration < number <= solver.max_iter and due:
            found.append(path)
    return found


def snapshot_files(solver: SolverConfig) -> tuple[Path, ...]:
    """A file of each folder that snapshots are written to: to find out beforehand whether that is possible."""
    return (Path(f"{solver.snapshot_prefix}_iter_{solver.max_iter}{_STATES[solver.hdf5]}"),)

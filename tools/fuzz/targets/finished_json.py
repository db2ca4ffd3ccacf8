"""The scores that a stopped job has left, and the state of a training beside a snapshot."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

import numpy as np
from json_values import replaced
from text_seeds import JSON_WORDS

from ristretto.errors import RistrettoError
from ristretto.pipeline.files import parse_json
from ristretto.pipeline.finetune.snapshots import training_of
from ristretto.pipeline.finished import scores_of
from ristretto.report.events import BatchDone, Output, PassDone, PassStarted
from ristretto.report.finished import FinishedScore, finished_to_json
from ristretto.report.model import Answers, Scored

_OUTPUT = Output("accuracy", (0.5, 0.25), 1.0)
_SCORED = Scored(
    0.5, {"accuracy": (0.5,)}, 10, 2, 0.125, np.asarray([True, False] * 5), Answers(10, 5, 0, 1, 10, 10, 3, 2)
)
_EVENTS = (PassStarted("test", 2), BatchDone(0, (_OUTPUT,)), PassDone("test", 0.5, (_OUTPUT,)))
_JOB = {"flags": {"model": "m"}, "versions": {"ristretto": "1"}, "outputs": ["report"], "files": []}


SCORES = json.dumps(
    {"schema": 1, "job": _JOB, "scores": [finished_to_json(FinishedScore("baseline", "0123", _SCORED, _EVENTS))]}
).encode()

TRAINING = json.dumps(
    {
        "schema": 1,
        "iteration": 2,
        "options": {"a": "b"},
        "first": 0,
        "losses": [1.5, 2],
        "rates": [0.1, 0.1],
        "tests": [{"iteration": 0, "net": 0, "outputs": {"a": [1.0, None]}, "loss_weights": {"a": 1.0}}],
        "thresholds": {"in conv1": [[1.0], [0.0], [0.0]]},
    }
).encode()


def seeds() -> Iterable[bytes]:
    yield from (SCORES, TRAINING, b"\0\0\0\5")


def words() -> Iterable[str]:
    return (*JSON_WORDS, '"scores"', '"job"', '"right"', '"bits"', '"images"', '"events"', '"losses"', '"tests"')


def one_input(data: bytes) -> None:
    with contextlib.suppress(RistrettoError):
        scores_of(parse_json(replaced(SCORES, data), "file.scores", "scores"), "file.scores", _JOB)
    with contextlib.suppress(RistrettoError):
        training_of(parse_json(replaced(TRAINING, data), "file.json", "history"), "file.json", 2)

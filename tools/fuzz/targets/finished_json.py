"""The scores that a stopped job has left, and the state of a training beside a snapshot."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from json_values import replaced
from text_seeds import JSON_WORDS

from ristretto.errors import RistrettoError
from ristretto.pipeline.files import parse_json
from ristretto.pipeline.finetune.snapshots import training_of
from ristretto.pipeline.finished import SCHEMA_VERSION, scores_of, sealed
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
    {
        "schema": SCHEMA_VERSION,
        "job": _JOB,
        "scores": [finished_to_json(FinishedScore("baseline", "0123", _SCORED, _EVENTS))],
    }
).encode()
"""What the lines of a file say, in one value: the target makes lines with digests of it."""

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


def lines_of(value: Any) -> bytes:
    """The file that says a value, or what became of it."""
    said = value if isinstance(value, dict) else {}
    header = {"schema": said.get("schema"), "tool": "ristretto", "job": said.get("job")}
    scores = said.get("scores")
    return sealed([json.dumps(each) for each in (header, *(scores if isinstance(scores, list) else [scores]))])[0]


LINES = lines_of(json.loads(SCORES))


def seeds() -> Iterable[bytes]:
    yield from (SCORES, TRAINING, b"\0\0\0\5", LINES)


def words() -> Iterable[str]:
    return (*JSON_WORDS, '"scores"', '"job"', '"right"', '"bits"', '"images"', '"events"', '"losses"', '"tests"')


def one_input(data: bytes) -> None:
    with contextlib.suppress(RistrettoError):
        scores_of(lines_of(parse_json(replaced(SCORES, data), "file.scores", "scores")), "file.scores", _JOB)
    with contextlib.suppress(RistrettoError):
        scores_of(data, "file.scores", _JOB)
    with contextlib.suppress(RistrettoError):
        training_of(parse_json(replaced(TRAINING, data), "file.json", "history"), "file.json", 2)

"""The finished scores of a job, kept beside its result until that is written; ``--resume`` goes on from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ristretto.atomic import atomic_write_text
from ristretto.decide.plan import QuantPlan
from ristretto.decide.plan_file import layer_to_json
from ristretto.errors import FormatError, UsageError
from ristretto.pipeline.files import read_json
from ristretto.report.events import Event, Listener, Warned, silent
from ristretto.report.finished import FinishedScore, finished_from_json, finished_to_json
from ristretto.report.model import Scored

SCHEMA_VERSION = 1


def scores_file(result: Path) -> Path:
    """Where the finished scores of a job are kept, given where its result goes."""
    return result.with_name(f"{result.name}.scores")


@dataclass
class FinishedScores:
    """The scores that a job has so far, in order. A job that begins anew asks for the same ones in the same order.

    Attributes:
        file: where they are kept; None for nowhere.
        job: what tells the job from others (``report.provenance``).
        scores: those that are known.
        tell: hears if they cannot be kept; that says nothing of the result, so it is no part of the report.
    """

    file: Path | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    scores: list[FinishedScore] = field(default_factory=list)
    tell: Listener = silent
    _asked: int = 0

    def score(self, purpose: str, plan: QuantPlan, run: Callable[[Listener], Scored], listener: Listener) -> Scored:
        """The next score: the one that is known, told as if it were found now, or what a pass gives.

        Args:
            purpose: what the pass is for.
            plan: the formats.
            run: runs the pass.
            listener: hears what happens.
        """
        digest, place = _digest(plan), self._asked
        self._asked += 1
        if place < len(self.scores) and (self.scores[place].purpose, self.scores[place].plan) == (purpose, digest):
            for event in self.scores[place].events:
                listener(event)
            return self.scores[place].scored
        events: list[Event] = []

        def hear(event: Event) -> None:
            events.append(event)
            listener(event)

        scored = run(hear)
        if self.file is not None:
            self.scores[place:] = [FinishedScore(purpose, digest, scored, tuple(events))]
            self._keep(self.file)
        return scored

    def _keep(self, file: Path) -> None:
        """Write all scores; where that fails the job goes on, since its result may still find room."""
        data = {
            "schema": SCHEMA_VERSION,
            "tool": "ristretto",
            "job": self.job,
            "scores": list(map(finished_to_json, self.scores)),
        }
        try:
            atomic_write_text(file, json.dumps(data, allow_nan=False) + "\n")
        except UsageError as error:
            self.file = None
            self.tell(Warned(f"finished scores are not kept, so --resume will begin anew: {error.what}"))

    def remove(self) -> None:
        """The job is done; what cannot be removed does no harm."""
        if self.file is not None:
            with suppress(OSError):
                self.file.unlink(missing_ok=True)


def read_finished(file: Path, job: Mapping[str, Any], tell: Listener = silent) -> FinishedScores:
    """The scores that an earlier run of a job has left; none where it left none.

    Raises:
        UsageError: they are another job's.
        FormatError: the file is damaged.
    """
    if not file.exists():
        return FinishedScores(file, job, tell=tell)
    return FinishedScores(file, job, scores_of(read_json(file, "file of finished scores"), str(file), job), tell)


def scores_of(data: Any, file: str, job: Mapping[str, Any]) -> list[FinishedScore]:
    """The scores in a parsed file; see ``read_finished``."""
    try:
        if data["schema"] != SCHEMA_VERSION:
            raise ValueError("another schema")
        scores = list(map(finished_from_json, data["scores"]))
        other = next(_differences(data["job"], json.loads(json.dumps(job))), None)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        cure = "run the job without --resume"
        raise FormatError("these are no finished scores of a job", file=file, cure=cure) from error
    if other is not None:
        cure = "give what that job was given, or run this one without --resume"
        raise UsageError(f"these scores are another job's: {other}", file=file, cure=cure)
    return scores


def _digest(plan: QuantPlan) -> str:
    """A digest of a plan's formats."""
    text = json.dumps({name: layer_to_json(formats) for name, formats in plan.layers.items()}, sort_keys=True)
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What tells two jobs apart, in words; where their files lie does not."""
    paths = {file["path"] for job in (before, now) for file in job["files"]}
    for name in dict.fromkeys([*before["flags"], *now["flags"]]):
        first, second = before["flags"].get(name), now["flags"].get(name)
        if first != second and not all(word in paths for word in (*_words(first), *_words(second))):
            yield f"its --{name} was {first}, here it is {second}"
    for name, version in now["versions"].items():
        if before["versions"].get(name) != version:
            yield f"it ran with {name} {before['versions'].get(name)}, here it is {version}"
    if before["outputs"] != now["outputs"]:
        yield f"it was to write {', '.join(before['outputs'])}, this one {', '.join(now['outputs'])}"
    contents = [[_content(file) for file in job["files"]] for job in (before, now)]
    for content, file in zip(contents[1], now["files"], strict=True):
        if content not in contents[0]:
            yield f"{file['path']} is not the file that it read"
    if len(contents[0]) != len(contents[1]):
        yield "it read other files"


def _content(file: Mapping[str, Any]) -> tuple[Any, ...]:
    return file["role"], file["bytes"], file.get("sha256", file.get("sha256_of_samples"))


def _words(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]

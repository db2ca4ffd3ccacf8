"""The finished scores of a job, kept beside its result until that is written; ``--resume`` goes on from them.

The file has a line for the job and one for each score, so that a score costs no more than its own line. Each begins
with a digest of itself and of the lines before it: what was damaged or edited is told from what a killed process left,
which is a last line without an end.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ristretto.atomic import atomic_write_bytes, is_device
from ristretto.caffe.limits import JSON_MB, limit, to_raise
from ristretto.decide.plan import QuantPlan
from ristretto.decide.plan_file import layer_to_json
from ristretto.errors import FormatError, UsageError
from ristretto.inputs import open_input
from ristretto.pipeline.files import parse_json
from ristretto.report.events import Event, Listener, Warned, silent
from ristretto.report.finished import FinishedScore, finished_from_json, finished_to_json
from ristretto.report.model import Scored

SCHEMA_VERSION = 2

_MB = 1 << 20

_WHAT = "file of finished scores"

_OURS = re.compile(rb'([0-9a-f]{64} )?\{"schema": \d+, "tool": "ristretto", "job": ')
"""How such a file begins, in its first form too, which had no digests."""

_OF_THE_SYSTEM = (Path("/dev"), Path("/proc"))


def scores_file(result: Path) -> Path:
    """Where the finished scores of a job are kept, given where its result goes."""
    return result.with_name(f"{result.name}.scores")


def keeps_scores(result: Path) -> bool:
    """Whether scores are kept beside a result: not where that is a device, such as /dev/null or /dev/stdout."""
    whole = Path(os.path.abspath(result))  # noqa: PTH100  (resolving would follow /dev/stdout to a file)
    return not is_device(result) and not any(place in whole.parents for place in _OF_THE_SYSTEM)


def check_scores_file(file: Path) -> None:
    """Refuse to replace a file that is no file of finished scores, and to remove it at the end.

    Raises:
        UsageError: such a file is there.
    """
    try:
        there = file.is_file()
    except OSError:  # as with a name that is too long: nothing can be kept then
        return
    if there and not _is_ours(file):
        what = "the job keeps its finished scores in this file, and what is there now is none of its own"
        raise UsageError(what, file=str(file), cure="move it away, or give the result another name")


def _is_ours(file: Path) -> bool:
    """Whether there is a file that some job has kept its scores in."""
    try:
        with open_input(file, noted=False) as opened:
            return _OURS.match(opened.read(200)) is not None
    except OSError:
        return False


@dataclass
class FinishedScores:
    """The scores that a job has so far, in order. A job that begins anew asks for the same ones in the same order.

    Attributes:
        file: where they are kept; None for nowhere.
        job: what tells the job from others (``report.provenance``).
        scores: those that are known.
        tell: hears if they cannot be kept; that says nothing of the result, so it is no part of the report.
        kept: how many of them are in the file.
    """

    file: Path | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    scores: list[FinishedScore] = field(default_factory=list)
    tell: Listener = silent
    kept: int = 0
    _asked: int = 0
    _seal: str = ""
    _written: tuple[int, ...] = ()
    _given_up: bool = False

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
            if not self._given_up:
                self._keep(self.file)
        return scored

    def _keep(self, file: Path) -> None:
        """Keep the last score; where that fails the job goes on, since its result may still find room.

        The first one that a run finds is written with all before it, in place of what an earlier run has left.
        """
        adds = self._written != () and self.kept == len(self.scores) - 1 and _stamp(file) == self._written
        texts = [json.dumps(finished_to_json(each), allow_nan=False) for each in self.scores[-1 if adds else 0 :]]
        if not adds:
            texts.insert(0, json.dumps({"schema": SCHEMA_VERSION, "tool": "ristretto", "job": self.job}))
        data, seal = sealed(texts, self._seal if adds else "")
        try:
            if len(data) + (self._written[-1] if adds else 0) > limit(JSON_MB) * _MB:
                cure = to_raise(JSON_MB)
                raise UsageError(f"they would take more than {limit(JSON_MB)} MB, and could not be read again; {cure}")
            if adds:
                _append(file, data)
            else:
                atomic_write_bytes(file, data)
        except UsageError as error:
            self._give_up(file, error.what)
            return
        except OSError as error:  # as with a name that is too long
            self._give_up(file, error.strerror or str(error))
            return
        self.kept, self._seal, self._written = len(self.scores), seal, _stamp(file)

    def _give_up(self, file: Path, why: str) -> None:
        """Keep no more of them; what is in the file stays of use."""
        self._given_up = True
        if self.kept:
            what = f"no more finished scores are kept, so --resume will go on from the first {self.kept}"
        elif _is_ours(file):
            what = f"finished scores are not kept; {file} has those of an earlier run"
        else:
            what = "finished scores are not kept, so --resume will begin anew"
        self.tell(Warned(f"{what}: {why}"))

    def remove(self) -> None:
        """The job is done; what cannot be removed does no harm, and what is another's stays."""
        if self.file is not None and _is_ours(self.file):
            with suppress(OSError):
                self.file.unlink(missing_ok=True)


def sealed(texts: Iterable[str], seal: str = "") -> tuple[bytes, str]:
    """Lines with their digests, and the last digest.

    Args:
        texts: the lines.
        seal: the digest of the line before them.
    """
    lines = []
    for text in texts:
        seal = _seal_of(text, seal)
        lines.append(f"{seal} {text}\n")
    return "".join(lines).encode(), seal


def _seal_of(text: str, before: str) -> str:
    return sha256(f"{before} {text}".encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(file: Path) -> tuple[int, ...]:
    """Which file it is, and its length last; () if there is none."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size


def _append(file: Path, data: bytes) -> None:
    """Add to a file and bring it to the disk.

    Raises:
        UsageError: it cannot be written; the line has no end then.
    """
    try:
        with file.open("ab") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise UsageError(f"cannot write: {error.strerror or error}", file=str(file)) from error


def read_finished(file: Path, job: Mapping[str, Any], tell: Listener = silent) -> FinishedScores:
    """The scores that an earlier run of a job has left; none where it left none.

    Raises:
        UsageError: they are another job's, or the file cannot be read.
        FormatError: the file is damaged.
    """
    most = limit(JSON_MB) * _MB
    try:
        if not file.exists():
            return FinishedScores(file, job, tell=tell)
        with open_input(file, noted=False) as opened:  # not noted: the job writes it again
            data = opened.read(most + 1)
    except OSError as error:
        raise UsageError(f"cannot read the {_WHAT}: {error.strerror or error}", file=str(file)) from error
    if len(data) > most:
        raise UsageError(f"this {_WHAT} is larger than {limit(JSON_MB)} MB", file=str(file), cure=to_raise(JSON_MB))
    scores = scores_of(data, str(file), job)
    return FinishedScores(file, job, scores, tell, len(scores))


def scores_of(data: bytes, file: str, job: Mapping[str, Any]) -> list[FinishedScore]:
    """The scores in the content of a file; see ``read_finished``."""
    texts = _texts(data, file)
    cure = "run the job without --resume"
    try:
        header = parse_json(texts[0].encode(), file, _WHAT)
        if header["schema"] != SCHEMA_VERSION:
            raise ValueError("another schema")
        other = next(_differences(header["job"], json.loads(json.dumps(job))), None)
        # The scores of another version may lack what today's have.
        scores = [finished_from_json(parse_json(text.encode(), file, _WHAT)) for text in texts[1:] if other is None]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError("these are no finished scores of a job", file=file, cure=cure) from error
    if other is not None:
        cure = "give what that job was given, or run this one without --resume"
        raise UsageError(f"these scores are another job's: {other}", file=file, cure=cure)
    return scores


def _texts(data: bytes, file: str) -> list[str]:
    """The lines without their digests, which are right; without the last one where it was not written to its end.

    Raises:
        FormatError: a digest is wrong.
    """
    if not _OURS.match(data):
        raise FormatError("these are no finished scores of a job", file=file, cure="move the file away")
    if data.startswith(b"{"):
        cure = "run the job without --resume"
        raise FormatError("these finished scores are of another version of ristretto", file=file, cure=cure)
    *lines, _ = data.split(b"\n")
    if lines and b"\0" in lines[-1]:  # a power cut can leave room that nothing was written into
        lines.pop()
    texts, seal = [], ""
    for number, line in enumerate(lines, 1):
        said, _, text = line.decode("utf-8", "surrogateescape").partition(" ")
        seal = _seal_of(text, seal)
        if said != seal:
            what = "these finished scores are damaged, or were edited"
            raise FormatError(what, file=file, line=number, cure="delete the file to begin anew")
        texts.append(text)
    return texts


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

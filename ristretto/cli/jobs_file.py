"""The file of ``ristretto batch``: YAML whose every value keeps its line, and the jobs that its matrices stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import click
import yaml

from ristretto.cli.jobs_flags import (
    MOST_VALUES,
    PAIRS,
    Allowance,
    Job,
    Mistake,
    Value,
    check_apart,
    labels,
    made_job,
    nearest,
    parameters_of,
)
from ristretto.errors import UsageError
from ristretto.pipeline.files import read_yaml_text
from ristretto.pipeline.untrusted import Bounds

COMMANDS = ("quantize", "test")

MOST_JOBS = 10_000

_OWN_KEYS = ("name", "command", "matrix")

_NULL = "tag:yaml.org,2002:null"

Check = Callable[[Mapping[str, Any]], None]
"""Refuses flags of a command that contradict each other: gets them by name, as click made them."""


@dataclass(frozen=True, slots=True)
class JobsFile:
    """What a file asks for.

    Attributes:
        root: the folder that relative paths are relative to, and where commands run.
        jobs: in the order of the file.
    """

    root: Path
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A job before its matrix is expanded.

    Attributes:
        flags: their values.
        matrix: by flag the values that it takes one after the other.
    """

    name: str
    command: str
    line: int
    flags: dict[str, Value] = field(default_factory=dict)
    matrix: dict[str, tuple[Value, ...]] = field(default_factory=dict)


def read_jobs(
    path: Path,
    commands: Mapping[str, click.Command],
    output: Path,
    checks: Mapping[str, Check] | None = None,
    *,
    untrusted: bool = False,
) -> JobsFile:
    """Read and check a file of jobs.

    Args:
        path: the file; JSON is YAML too.
        commands: the commands by name, whose own parameters say what flags there are and what values they take.
        output: the folder that gets a folder for each job.
        checks: by command what else is to be looked at.
        untrusted: whether the file must name no code and no machines, and no paths but those in its folder and in
            ``output``; every job then gets the same flag.

    Raises:
        UsageError: it cannot be read, or one of its jobs could not run; with file and line.
    """
    try:
        bounds = Bounds.of_jobs(path, output) if untrusted else None
        return _Reader(commands, output, checks or {}, bounds).read(_composed(path))
    except Mistake as error:
        raise UsageError(error.what, file=str(path), line=error.line, cure=error.cure) from error


def _composed(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(read_yaml_text(path), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Mistake(f"cannot read the jobs: {reason}") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it is nested too deeply"
        raise Mistake(f"this is no YAML: {problem}", mark.line + 1 if mark else 0) from error


class _Reader:
    def __init__(
        self, commands: Mapping[str, click.Command], output: Path, checks: Mapping[str, Check], bounds: Bounds | None
    ) -> None:
        self.commands = commands
        self.output = output
        self.checks = checks
        self.bounds = bounds
        self.read_values, self.job_values = Allowance(), Allowance()

    def read(self, node: yaml.Node | None) -> JobsFile:
        top = _mapping(node, "the file")
        _known(top, ("root", "defaults", "jobs"), "the file")
        root = Path(self.text(*top["root"])) if "root" in top else Path()
        if not root.is_dir():
            raise Mistake(f"root: there is no folder {root}", top["root"][1])
        if self.bounds is not None:
            if "root" in top:
                self._check_paths([root], top["root"][1])
            self.bounds = replace(self.bounds, root=root)
        defaults = self.defaults(*top["defaults"]) if "defaults" in top else None
        if "jobs" not in top or not isinstance(top["jobs"][0], yaml.SequenceNode) or not top["jobs"][0].value:
            raise Mistake("there are no jobs", cure="list them under jobs:")
        jobs: list[Job] = []
        for number, item in enumerate(top["jobs"][0].value, start=1):
            line = item.start_mark.line + 1
            entry = self.split(_mapping(item, f"job {number}"), line, defaults)
            for job in self.expanded(entry, number):
                jobs.append(job)
                if len(jobs) > MOST_JOBS:
                    raise Mistake(f"these are more than {MOST_JOBS} jobs", line)
        check_apart(jobs, root)
        return JobsFile(root, tuple(jobs))

    def defaults(self, node: yaml.Node, line: int) -> _Entry:
        """What holds for every job; a flag that only one of the commands has is passed over by the other."""
        entry = self.split(_mapping(node, "defaults"), line)
        names = sorted({name for command in self.commands.values() for name in parameters_of(command)})
        for key, at in [(key, value.line) for key, value in entry.flags.items()] + [
            (key, values[0].line) for key, values in entry.matrix.items()
        ]:
            if key not in names:
                raise Mistake(f"no job has a flag '{key}'", at, nearest(key, names))
        if entry.name:
            raise Mistake("'name' is of one job", line, "leave it out of the defaults")
        return entry

    def split(self, entries: dict[str, tuple[yaml.Node, int]], line: int, defaults: _Entry | None = None) -> _Entry:
        """The entries of a job on top of the defaults."""
        given = {key: self.text(*entries[key]) for key in ("name", "command") if key in entries}
        command = given.get("command", defaults.command if defaults else "quantize")
        if command not in self.commands:
            cure = f"use one of {', '.join(self.commands)}"
            raise Mistake(f"there is no job '{command}'", entries["command"][1], cure)
        flags = {key: self.value(*entry) for key, entry in entries.items() if key not in _OWN_KEYS}
        matrix = self.matrix(entries["matrix"][0]) if "matrix" in entries else {}
        twice = sorted(flags.keys() & matrix.keys())
        if twice:
            raise Mistake(f"'{twice[0]}' has a value and stands in the matrix too", matrix[twice[0]][0].line)
        if defaults is not None:
            known = parameters_of(self.commands[command])
            own = flags.keys() | matrix.keys()
            flags = {key: value for key, value in defaults.flags.items() if key in known and key not in own} | flags
            general = {key: values for key, values in defaults.matrix.items() if key in known and key not in own}
            matrix = general | matrix
        return _Entry(given.get("name", ""), command, line, flags, matrix)

    def text(self, node: yaml.Node, line: int) -> str:
        """The text of one value."""
        return self.read_values.take(_text(node, line), line)

    def value(self, node: yaml.Node, line: int) -> Value:
        """A value as it is written: 10.10 is no number here, and stays what it is. null leaves the flag out."""
        if not isinstance(node, yaml.SequenceNode):
            return Value(() if node.tag == _NULL else (self.text(node, line),), line)
        if len(node.value) > MOST_VALUES:
            raise Mistake(f"a list has {len(node.value)} values", line, f"{MOST_VALUES} are allowed")
        return Value(tuple(self.text(item, item.start_mark.line + 1) for item in node.value), line)

    def matrix(self, node: yaml.Node) -> dict[str, tuple[Value, ...]]:
        """The values of each flag of a matrix."""
        matrix = {}
        for key, (values, line) in _mapping(node, "matrix").items():
            if not isinstance(values, yaml.SequenceNode) or not values.value:
                raise Mistake(f"matrix: '{key}' is no list of values", line)
            if len(values.value) > MOST_JOBS:
                raise Mistake(f"these are more than {MOST_JOBS} jobs", line)
            matrix[key] = tuple(self.value(item, item.start_mark.line + 1) for item in values.value)
            seen: set[tuple[str, ...]] = set()
            for value in matrix[key]:
                if value.texts in seen:
                    raise Mistake(f"matrix: '{key}' has {', '.join(value.texts) or 'null'} twice", value.line)
                seen.add(value.texts)
        return matrix

    def expanded(self, entry: _Entry, number: int) -> Iterator[Job]:
        """The jobs of a matrix, one for each combination of its values."""
        names = list(entry.matrix)
        words = {key: dict(zip(values, labels(values), strict=True)) for key, values in entry.matrix.items()}
        model = entry.flags.get("model")
        stem = entry.name or (Path(model.texts[0]).stem if model and model.texts else f"job{number}")
        command = self.commands[entry.command]
        for combination in product(*entry.matrix.values()):
            chosen = dict(zip(names, combination, strict=True))
            parts = [stem, *(f"{key}-{words[key][value]}" for key, value in chosen.items())]
            job = made_job(
                parts,
                entry.command,
                command,
                {**entry.flags, **chosen, **self._own_flags(entry.line)},
                self.output,
                entry.line,
                partial(self._check, entry.command),
                self.job_values,
            )
            self._check_paths([*job.inputs, *job.outputs], entry.line)
            yield job

    def _own_flags(self, line: int) -> dict[str, Value]:
        return {} if self.bounds is None else {"untrusted": Value(("true",), line)}

    def _check_paths(self, paths: Iterable[Path], line: int) -> None:
        if self.bounds is not None:
            try:
                self.bounds.check_paths(paths)
            except UsageError as error:
                raise Mistake(error.what, line, error.cure) from error

    def _check(self, command: str, flags: Mapping[str, Any]) -> None:
        if self.bounds is not None:
            pairs = [Path(side) for text in flags.get(PAIRS, ()) for side in text.split("=", 1)]
            self.bounds.check_flags({**flags, PAIRS: pairs})
        check = self.checks.get(command)
        if check is not None:
            check(flags)


def _mapping(node: yaml.Node | None, what: str) -> dict[str, tuple[yaml.Node, int]]:
    """The entries of a mapping by key, each with its line."""
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node is not None else 0
        raise Mistake(f"{what} is no mapping of names to values", line)
    entries: dict[str, tuple[yaml.Node, int]] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise Mistake("a key is no word", line)
        name = key.value.replace("-", "_")
        if name in entries:
            raise Mistake(f"'{key.value}' stands here twice", line)
        entries[name] = value, line
    return entries


def _known(entries: Mapping[str, tuple[yaml.Node, int]], names: Sequence[str], what: str) -> None:
    for name, (_, line) in entries.items():
        if name not in names:
            raise Mistake(f"{what} has no '{name}'", line, nearest(name, names))


def _text(node: yaml.Node, line: int) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
        raise Mistake("expected one value", line)
    try:
        # JSON spells characters beyond the first 65536 as two; YAML leaves them so.
        text = str(node.value).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise Mistake("half of a character is no text", line) from None
    if "\0" in text:
        raise Mistake("a value may not hold NUL", line)
    return text

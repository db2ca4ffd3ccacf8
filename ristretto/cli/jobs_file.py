"""The jobs of ``ristretto batch``: a YAML file whose flags are those of the commands, checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from pathlib import Path

import click
import yaml

from ristretto.errors import UsageError

COMMANDS = ("quantize", "test")

MOST_JOBS = 10_000

_OWN_KEYS = ("name", "command", "matrix")

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Value:
    """The values of a flag as they stand in the file, and in which line."""

    texts: tuple[str, ...]
    line: int
    listed: bool = False


Flags = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Job:
    """One command.

    Attributes:
        name: names its folder.
        command: "quantize" or "test".
        arguments: its command line, less what ``batch`` adds.
        inputs: the files that it is given.
        line: where in the file it stands.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    inputs: tuple[Path, ...]
    line: int


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
    """A job before its matrix is expanded."""

    name: str
    command: str
    line: int
    flags: dict[str, Value] = field(default_factory=dict)
    matrix: dict[str, Value] = field(default_factory=dict)


def read_jobs(path: Path, commands: Mapping[str, click.Command]) -> JobsFile:
    """Read and check a file of jobs.

    Args:
        path: the file; JSON is YAML too.
        commands: the commands by name, whose own parameters say what flags there are and what values they take.

    Raises:
        UsageError: it cannot be read, or one of its jobs could not run; with file and line.
    """
    return _Reader(path, commands).read()


class _Reader:
    def __init__(self, path: Path, commands: Mapping[str, click.Command]) -> None:
        self.path = path
        self.commands = commands

    def error(self, what: str, line: int = 0, cure: str = "") -> UsageError:
        return UsageError(what, file=str(self.path), line=line, cure=cure)

    def read(self) -> JobsFile:
        try:
            node = yaml.compose(self.path.read_text(encoding="utf-8"), yaml.SafeLoader)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise self.error(f"cannot read the jobs: {reason}") from error
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "it is nested too deeply"
            raise self.error(f"this is no YAML: {problem}", mark.line + 1 if mark else 0) from error
        top = self.mapping(node, "the file")
        self.known(top, ("root", "defaults", "jobs"), "the file")
        root = Path(self.text(*top["root"])) if "root" in top else Path()
        if not root.is_dir():
            raise self.error(f"root: there is no folder {root}", top["root"][0].start_mark.line + 1)
        defaults = self.defaults(*top["defaults"]) if "defaults" in top else None
        if "jobs" not in top or not isinstance(top["jobs"][0], yaml.SequenceNode) or not top["jobs"][0].value:
            raise self.error("there are no jobs", cure="list them under jobs:")
        jobs: list[Job] = []
        for number, item in enumerate(top["jobs"][0].value, start=1):
            line = item.start_mark.line + 1
            entry = self.split(self.mapping(item, f"job {number}"), line, defaults)
            for job in self.expanded(entry, number):
                jobs.append(job)
                if len(jobs) > MOST_JOBS:
                    raise self.error(f"these are more than {MOST_JOBS} jobs", line)
        self.apart(jobs)
        return JobsFile(root, tuple(jobs))

    def mapping(self, node: yaml.Node | None, what: str) -> dict[str, tuple[yaml.Node, int]]:
        """The entries of a mapping by key, each with its line."""
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1 if node is not None else 0
            raise self.error(f"{what} is no mapping of names to values", line)
        entries: dict[str, tuple[yaml.Node, int]] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise self.error("a key is no word", line)
            name = key.value.replace("-", "_")
            if name in entries:
                raise self.error(f"'{key.value}' stands here twice", line)
            entries[name] = value, line
        return entries

    def known(self, entries: Mapping[str, tuple[yaml.Node, int]], names: Sequence[str], what: str) -> None:
        for name, (_, line) in entries.items():
            if name not in names:
                raise self.error(f"{what} has no '{name}'", line, _nearest(name, names))

    def text(self, node: yaml.Node, line: int) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.error("expected one value", line)
        return str(node.value)

    def value(self, node: yaml.Node, line: int) -> Value:
        """A value as it is written: 10.10 is no number here, and stays what it is."""
        if isinstance(node, yaml.SequenceNode):
            return Value(tuple(self.text(item, item.start_mark.line + 1) for item in node.value), line, listed=True)
        return Value((self.text(node, line),), line)

    def defaults(self, node: yaml.Node, line: int) -> _Entry:
        """What holds for every job; a flag that only one of the commands has is passed over by the other."""
        entry = self.split(self.mapping(node, "defaults"), line)
        names = sorted({name for command in self.commands.values() for name in _parameters(command)})
        for key, value in {**entry.flags, **entry.matrix}.items():
            if key not in names:
                raise self.error(f"no job has a flag '{key}'", value.line, _nearest(key, names))
        return entry

    def split(self, entries: dict[str, tuple[yaml.Node, int]], line: int, defaults: _Entry | None = None) -> _Entry:
        """The entries of a job on top of the defaults."""
        given = {key: self.text(*entries[key]) for key in ("name", "command") if key in entries}
        command = given.get("command", defaults.command if defaults else "quantize")
        if command not in self.commands:
            cure = f"use one of {', '.join(self.commands)}"
            raise self.error(f"there is no job '{command}'", entries["command"][1], cure)
        flags = {key: self.value(*entry) for key, entry in entries.items() if key not in _OWN_KEYS}
        matrix = {}
        if "matrix" in entries:
            for key, entry in self.mapping(entries["matrix"][0], "matrix").items():
                matrix[key] = self.value(*entry)
                if not matrix[key].listed or not matrix[key].texts:
                    raise self.error(f"matrix: '{key}' is no list of values", entry[1])
        if defaults is not None:
            known = _parameters(self.commands[command])
            general = {key: value for key, value in defaults.flags.items() if key in known and key not in matrix}
            matrix = {
                key: value for key, value in defaults.matrix.items() if key in known and key not in flags
            } | matrix
            flags = {key: value for key, value in general.items() if key not in matrix} | flags
        twice = sorted(flags.keys() & matrix.keys())
        if twice:
            raise self.error(f"'{twice[0]}' has a value and stands in the matrix too", matrix[twice[0]].line)
        return _Entry(given.get("name", ""), command, line, flags, matrix)

    def expanded(self, entry: _Entry, number: int) -> Iterator[Job]:
        """The jobs of a matrix, one for each combination of its values."""
        names = list(entry.matrix)
        for chosen in product(*(entry.matrix[name].texts for name in names)):
            values = {name: Value((text,), entry.matrix[name].line) for name, text in zip(names, chosen, strict=True)}
            yield self.job(entry, {**entry.flags, **values}, dict(zip(names, chosen, strict=True)), number)

    def job(self, entry: _Entry, flags: Flags, chosen: Mapping[str, str], number: int) -> Job:
        command = self.commands[entry.command]
        parameters = _parameters(command)
        model = flags.get("model")
        stem = entry.name or (Path(model.texts[0]).stem if model and model.texts else f"job{number}")
        name = "_".join([_word(stem), *(f"{_word(key)}-{_word(Path(text).name)}" for key, text in chosen.items())])
        arguments: list[str] = []
        inputs: list[Path] = []
        for key, value in flags.items():
            parameter = parameters.get(key)
            if parameter is None or key in ("debug", "help"):
                raise self.error(
                    f"ristretto {entry.command} has no flag '{key}'", value.line, _nearest(key, list(parameters))
                )
            if key in PLACED:
                what = f"'{key}' is placed by batch, in the folder of the job"
                raise self.error(what, value.line, "leave it out; --output says where the folders go")
            texts = tuple(text.replace("{name}", name) for text in value.texts)
            arguments += self.words(parameter, texts, value)
            if _is_file(parameter):
                inputs += [Path(part) for text in texts for part in text.split(",") if part]
        self.check(entry, command, arguments, flags)
        return Job(name, entry.command, tuple(arguments), tuple(inputs), entry.line)

    def words(self, parameter: click.Option, texts: tuple[str, ...], value: Value) -> list[str]:
        """A flag as words of a command line."""
        flag = parameter.opts[0]
        if parameter.is_flag:
            word = texts[0].lower() if len(texts) == 1 else ""
            if word not in _YES + _NO:
                raise self.error(f"'{parameter.name}' is true or false", value.line)
            off = parameter.secondary_opts[:1]
            return [flag] if word in _YES else list(off)
        if parameter.multiple:
            return [word for text in texts for word in (flag, text)]
        return [f"{flag}={','.join(texts)}"]

    def check(self, entry: _Entry, command: click.Command, arguments: list[str], flags: Flags) -> None:
        """Let the command itself look at its words."""
        placed = [word for pair in placed_flags(entry.command, Path("out")) for word in pair]
        try:
            command.make_context(entry.command, [*arguments, *placed])
        except click.ClickException as error:
            blamed = getattr(getattr(error, "param", None), "name", None)
            line = flags[blamed].line if isinstance(blamed, str) and blamed in flags else entry.line
            raise self.error(" ".join(error.format_message().split()).rstrip("."), line) from error

    def apart(self, jobs: Sequence[Job]) -> None:
        seen: dict[str, int] = {}
        for job in jobs:
            if job.name.lower() in seen:
                what = f"two jobs have the name '{job.name}', the other is in line {seen[job.name.lower()]}"
                raise self.error(what, job.line, "give them a name each")
            seen[job.name.lower()] = job.line


PLACED = ("model_quantized", "report")
"""Flags whose files go into the folder of the job."""


def placed_flags(command: str, folder: Path) -> list[tuple[str, str]]:
    """The flags that ``batch`` adds."""
    flags = [("--report", str(folder / "report.json"))]
    if command == "quantize":
        flags.append(("--model_quantized", str(folder / "quantized.prototxt")))
    return flags


def _parameters(command: click.Command) -> dict[str, click.Option]:
    """The flags of a command by name."""
    return {item.name: item for item in command.params if isinstance(item, click.Option) and item.name}


def _is_file(parameter: click.Option) -> bool:
    """Whether a flag may name a file that is read."""
    kind = type(parameter.type).__name__
    return kind in ("Path", "WeightsType")


def _word(text: str) -> str:
    """A text as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-.") or "x"


def _nearest(name: str, names: Sequence[str]) -> str:
    found = get_close_matches(name, names, 1)
    return f"did you mean '{found[0]}'?" if found else ""

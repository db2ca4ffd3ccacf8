"""One job of ``ristretto batch``: flags by name made the words of a command line, which the command itself checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

import click

from ristretto.cli.gflags import GlogFlags
from ristretto.cli.options import OutputPath, WeightsType
from ristretto.cli.output_flags import output_of
from ristretto.errors import RistrettoError

PLACED = {"report": "report.json", "model_quantized": "quantized.prototxt"}
"""What goes into the folder of a job, by the flag that says so, where no other place is given."""

PAIRS = "also"
"""The flag whose values are IN=OUT."""

LONGEST_NAME = 120
"""Bytes of a job's name; file systems take 255."""

_MOST_BYTES, _OVERHEAD = 128 << 20, 64
"""Of all values, and of each beside its characters: what ten thousand jobs of fifty flags each may need."""

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


LONGEST_VALUE = 4096
"""Characters of a value in a file of jobs, as of a path (PATH_MAX)."""

MOST_VALUES = 10_000
"""Values of one flag, as a net has layers."""


class Mistake(Exception):  # noqa: N818 - leaves as a UsageError, with the file
    """What is wrong with a file of jobs, and in which line; 0 for none."""

    def __init__(self, what: str, line: int = 0, cure: str = "") -> None:
        super().__init__(what)
        self.what, self.line, self.cure = what, line, cure


@dataclass(frozen=True, slots=True)
class Value:
    """The values of a flag as they stand in the file, and in which line; without any the flag is left out."""

    texts: tuple[str, ...]
    line: int


class Allowance:
    """How much the values of a file may take: aliases and matrices multiply them."""

    def __init__(self) -> None:
        self._left = _MOST_BYTES

    def take(self, text: str, line: int) -> str:
        """The same text, if it is not too long, and not too much together with those before.

        Raises:
            Mistake: it is.
        """
        if len(text) > LONGEST_VALUE:
            raise Mistake(f"a value has more than {LONGEST_VALUE} characters", line, "a list is written [a, b]")
        self._left -= len(text) + _OVERHEAD
        if self._left < 0:
            what = "the values of this file, all aliases and jobs written out, are too many"
            raise Mistake(what, line, "make files of fewer jobs")
        return text


@dataclass(frozen=True, slots=True)
class Job:
    """One command. Paths are relative to the root, those of ``placed`` absolute.

    Attributes:
        name: names its folder.
        command: "quantize" or "test".
        arguments: its command line as the file asks for it.
        placed: the words for what goes into its folder.
        report: where its report goes.
        inputs, outputs: the files that it is given, and that it writes, its report among them.
        line: where in the file it stands.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    placed: tuple[str, ...]
    report: Path
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    line: int


def made_job(
    parts: Sequence[str],
    command_name: str,
    command: click.Command,
    flags: Mapping[str, Value],
    output: Path,
    line: int,
    check: Callable[[Mapping[str, Any]], None] | None,
    allowance: Allowance,
) -> Job:
    """A job from its flags.

    Args:
        parts: what its name is made of.
        command_name: what it runs.
        command: the same as click knows it.
        flags: by the names of the command's parameters.
        output: the folder that gets its folder.
        line: where it stands.
        check: looks for flags that contradict each other.
        allowance: what its values are taken from.

    Raises:
        Mistake: the command has no such flag, or would refuse its value.
    """
    parameters = parameters_of(command)
    name = _short("_".join(map(_word, parts)).lstrip("-") or "job")
    folder = (output / name).resolve()
    arguments: list[str] = []
    inputs: list[Path] = []
    written: dict[str, Path] = {}
    also: list[Path] = []
    for key, value in flags.items():
        parameter = parameters.get(key)
        if parameter is None:
            cure = nearest(key, list(parameters))
            raise Mistake(f"ristretto {command_name} has no flag '{key}'", value.line, cure)
        if not value.texts:
            continue
        texts = tuple(
            allowance.take(text.replace("{name}", name).replace("{folder}", str(folder)), value.line)
            for text in value.texts
        )
        arguments += _words(parameter, texts, value)
        if isinstance(parameter.type, OutputPath):
            written[key] = Path(texts[-1])
        elif key == PAIRS:
            pairs = [text.partition("=") for text in texts]
            inputs += [Path(source) for source, _, _ in pairs]
            also += [Path(target) for _, _, target in pairs]
        elif isinstance(parameter.type, (click.Path, WeightsType)):
            inputs += [Path(part) for text in texts for part in text.split(",") if part]
    own = {key: folder / file for key, file in PLACED.items() if key in parameters and key not in written}
    placed = tuple(word for key, path in own.items() for word in (parameters[key].opts[0], str(path)))
    written = own | written
    _check(command_name, command, [*arguments, *placed], flags, line, check)
    files = (*written.values(), *also)
    return Job(name, command_name, tuple(arguments), placed, written["report"], tuple(inputs), files, line)


def check_apart(jobs: Iterable[Job], root: Path) -> None:
    """Refuse two jobs of one name, or that write the same file.

    Raises:
        Mistake: there are such.
    """
    names: dict[str, Job] = {}
    files: dict[Path, Job] = {}
    for job in jobs:
        other = names.setdefault(job.name.lower(), job)  # not every file system tells capitals from small letters
        if other is not job:
            what = f"two jobs have the name '{job.name}', the other is in line {other.line}"
            raise Mistake(what, job.line, "give them a name each")
        for path in job.outputs:
            other = files.setdefault((root / path).resolve(), job)
            if other is not job:
                what = f"the jobs '{other.name}' and '{job.name}' would both write {path}"
                raise Mistake(what, job.line, "say {name} or {folder} in the path")


def parameters_of(command: click.Command) -> dict[str, click.Option]:
    """The flags of a command by name."""
    return {item.name: item for item in command.params if isinstance(item, click.Option) and item.name}


def labels(values: Sequence[Value]) -> list[str]:
    """A word for each value of a matrix, all of them different: of paths no more than tells them apart.

    What is longer than a name may be tells no more: then a number does.
    """
    paths = [PurePath(",".join(value.texts)[-LONGEST_VALUE:] or "null").parts for value in values]
    for count in range(1, max(map(len, paths)) + 1):
        found = [_short(_word("-".join(parts[-count:]))) for parts in paths]
        if len({word.lower() for word in found}) == len(found):
            return found
        if max(map(len, found)) > LONGEST_NAME:
            break
    return [f"{number}-{word}" for number, word in enumerate(found, start=1)]


def nearest(name: str, names: Sequence[str]) -> str:
    """The cure for a misspelt name."""
    found = get_close_matches(name, names, 1)
    return f"did you mean '{found[0]}'?" if found else ""


def _words(parameter: click.Option, texts: tuple[str, ...], value: Value) -> list[str]:
    """A flag as words of a command line."""
    flag = parameter.opts[0]
    if parameter.is_flag:
        word = texts[0].lower() if len(texts) == 1 else ""
        if word not in _YES + _NO:
            raise Mistake(f"'{parameter.name}' is true or false", value.line)
        return [flag] if word in _YES else list(parameter.secondary_opts[:1])
    if parameter.multiple:
        return [word for text in texts for word in (flag, text)]
    return [f"{flag}={','.join(texts)}"]


def _check(
    name: str,
    command: click.Command,
    words: list[str],
    flags: Mapping[str, Value],
    line: int,
    check: Callable[[Mapping[str, Any]], None] | None,
) -> None:
    """Let the command itself look at its words."""

    def look() -> None:
        with output_of(GlogFlags()), command.make_context(name, list(words)) as context:
            if check is not None:
                check(context.params)

    try:
        copy_context().run(look)  # what a job logs is not what we do
    except click.ClickException as error:
        blamed = getattr(getattr(error, "param", None), "name", None)
        at = flags[blamed].line if isinstance(blamed, str) and blamed in flags else line
        raise Mistake(" ".join(error.format_message().split()).rstrip("."), at) from error
    except RistrettoError as error:
        named = [flags[word].line for word in re.findall(r"--(\w+)", error.what) if word in flags]
        raise Mistake(str(error) if error.file else error.what, (named or [line])[0], error.cure) from error


def _short(name: str) -> str:
    """A name that file systems take, and still another for each."""
    if len(name.encode()) <= LONGEST_NAME:
        return name
    start = name.encode()[:LONGEST_NAME].decode(errors="ignore")
    return f"{start}-{sha256(name.encode()).hexdigest()[:8]}"


def _word(text: str) -> str:
    """A text as part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "-", text).strip(".") or "x"

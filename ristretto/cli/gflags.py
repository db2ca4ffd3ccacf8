"""Habits of Caffe's users: gflags' way to write flags, and glog's own flags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ristretto.errors import UsageError

SWITCHES = frozenset(
    {
        "alsologtostderr", "colorlogtostderr", "colorlogtostdout", "drop_log_memory", "log_prefix", "log_utc_time",
        "log_year_in_prefix", "logtostderr", "logtostdout", "stop_logging_if_full_disk", "symbolize_stacktrace",
        "timestamp_in_logfile_name",
    }
)  # fmt: skip
"""glog's flags that are true or false."""

WITH_VALUE = frozenset(
    {
        "alsologtoemail", "log_backtrace_at", "log_dir", "log_link", "logbuflevel", "logbufsecs", "logcleansecs",
        "logemaillevel", "logfile_mode", "logmailer", "max_log_size", "minloglevel", "stderrthreshold", "v", "vmodule",
    }
)  # fmt: skip
"""glog's flags that take a value."""

_FALSE = frozenset({"0", "f", "false", "n", "no"})
_TRUE = frozenset({"1", "t", "true", "y", "yes"})


@dataclass(frozen=True, slots=True)
class GlogFlags:
    """What glog's flags ask for, as far as it has an effect here: all that is logged goes to stderr.

    Attributes:
        minloglevel: the least severity that is logged: 0 all, 1 warnings and errors, 2 errors.
        v: how much more is told than usual.
        prefix: whether lines begin with severity, time and place.
    """

    minloglevel: int = 0
    v: int = 0
    prefix: bool = True


def gflags_to_click(arguments: Sequence[str]) -> list[str]:
    """Rewrite gflags' single dash to two; click takes underscores and dashes in flag names for the same."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return [re.sub(r"^-(?=[A-Za-z][\w-])", "--", word) for word in words[:end]] + words[end:]


def switches_to_click(arguments: Sequence[str], switches: Mapping[str, tuple[str, str]]) -> list[str]:
    """Rewrite gflags' ``--name=true``, ``--name=false`` and ``--noname`` to flags without a value.

    Args:
        arguments: the words that follow a command's name.
        switches: by name, with underscores, the word that says yes and the one that says no; "" where leaving the
            other one out says so.

    Raises:
        UsageError: a switch has a value that is neither true nor false.
    """
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    rest: list[str] = []
    for word in words[:end]:
        match = re.match(r"--([A-Za-z][\w-]*)(?:=(.*))?$", word, re.DOTALL)
        name, value = (match[1].replace("-", "_"), match[2]) if match else ("", None)
        negated = name.removeprefix("no")
        if value is not None and name in switches:
            if value.lower() not in _TRUE | _FALSE:
                raise UsageError(f"--{name} cannot be '{value}'", cure="it is true or false")
            yes, no = switches[name]
            said = value.lower() in _TRUE
        elif value is None and name not in switches and f"no_{negated}" in switches:
            (yes, no), said = switches[f"no_{negated}"], True
        elif value is None and name not in switches and name != negated and negated in switches:
            (yes, no), said = switches[negated], False
        else:
            rest.append(word)
            continue
        if not said and not no:
            rest = [each for each in rest if each.replace("-", "_") != yes.replace("-", "_")]
        else:
            rest.append(yes if said else no)
    return rest + words[end:]


def take_glog_flags(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], GlogFlags]:
    """Take glog's flags out of a command line.

    Args:
        arguments: the words of the command line.
        environment: variables such as GLOG_minloglevel stand for flags that are not given, as glog takes them.

    Returns:
        the other words, and what the flags ask for.

    Raises:
        UsageError: a flag lacks its value, or has one that it cannot have.
    """
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    rest, given = [], {}
    queue = iter(words[:end])
    for word in queue:
        match = re.match(r"--?([A-Za-z][\w-]*)(?:=(.*))?$", word, re.DOTALL)
        name, value = (match[1].replace("-", "_"), match[2]) if match else ("", None)
        if name in SWITCHES:
            given[name] = "true" if value is None else value
        elif value is None and name.removeprefix("no") in SWITCHES:
            given[name.removeprefix("no")] = "false"
        elif name in WITH_VALUE:
            value = next(queue, None) if value is None else value
            if value is None:
                raise UsageError(f"--{name} needs a value", cure=f"write --{name}=VALUE")
            given[name] = value
        else:
            rest.append(word)
    for name in given.keys() & SWITCHES:
        if given[name].lower() not in _TRUE | _FALSE:
            raise UsageError(f"--{name} cannot be '{given[name]}'", cure="it is true or false")
    flags = GlogFlags(
        _level("minloglevel", given, environment),
        _level("v", given, environment),
        given.get("log_prefix", "true").lower() in _TRUE,
    )
    return rest + words[end:], flags


def _level(name: str, given: Mapping[str, str], environment: Mapping[str, str]) -> int:
    text = given.get(name)
    if text is None:  # glog passes over a variable that makes no sense
        text = environment.get(f"GLOG_{name}", "")
        return int(text) if re.fullmatch(r"-?\d+", text) else 0
    if not re.fullmatch(r"-?\d+", text):
        raise UsageError(f"--{name} cannot be '{text}'", cure="it is a whole number")
    return int(text)

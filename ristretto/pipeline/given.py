"""Options as a caller gives them, in Python or on the command line, made into what their fields say."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from ristretto.bounds import PARTS, WHOLE
from ristretto.errors import UsageError


class _Unfit(Exception):  # noqa: N818 - never leaves this module
    """A value that does not suit a type; the text says what would."""


def coerce(options: Any) -> None:
    """Make the fields of a frozen dataclass what their annotations say: to be called when it is made.

    Words become the choices they stand for, strings paths, lists tuples, and a single path or word where several may be
    given a tuple of one.

    Raises:
        UsageError: a value cannot be what its field says, or lies out of its bounds (``ristretto.bounds``).
    """
    for name, hint in _hints(cast(Hashable, type(options))).items():
        value = getattr(options, name)
        fit = fitted(name, hint, value)
        if fit is not value:
            object.__setattr__(options, name, fit)


def fitted(name: str, hint: Any, value: Any) -> Any:
    """A value as what a type says.

    Raises:
        UsageError: it cannot be that, or lies out of the bounds of the option of that name.
    """
    try:
        fit = _fit(hint, value)
        _check_bounds(name, fit)
    except _Unfit as error:
        raise UsageError(f"{name} cannot be {value!r}", cure=f"use {error}") from None
    return fit


def _check_bounds(name: str, value: Any) -> None:
    least, greatest = {**WHOLE, **PARTS}.get(name, (-math.inf, math.inf))
    if isinstance(value, (int, float)) and not least <= value <= greatest:
        raise _Unfit(f"a number from {least} to {greatest}")


def check_names(given: Mapping[str, object], known: Iterable[str], function: str) -> None:
    """Refuse keyword arguments that a function does not have.

    Raises:
        UsageError: one is unknown; the nearest that is known is named.
    """
    names = tuple(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name.replace("-", "_"), names, n=1)
            cure = f"is '{near[0]}' meant?" if near else f"its options are {', '.join(names)}"
            raise UsageError(f"{function} has no option '{name}'", cure=cure)


def option_names(kind: type) -> tuple[str, ...]:
    """The names of a dataclass's fields."""
    return tuple(field.name for field in fields(kind))


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _fit(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _fit_one_of(get_args(hint), value)
    if origin is Literal:
        if isinstance(value, Hashable) and value in get_args(hint):
            return value
        raise _Unfit(", ".join(map(str, get_args(hint))))
    if origin is tuple:
        return _fit_tuple(get_args(hint), value)
    if hint is NoneType:
        if value is None:
            return None
        raise _Unfit("None")
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except (TypeError, ValueError):
            raise _Unfit(", ".join(str(choice.value) for choice in hint)) from None
    return _fit_plain(hint, value)


def _fit_one_of(hints: tuple[Any, ...], value: Any) -> Any:
    reasons = []
    for hint in hints:
        try:
            return _fit(hint, value)
        except _Unfit as error:  # noqa: PERF203 - two or three at most
            reasons.append(str(error))
    raise _Unfit(" or ".join(reasons))


def _fit_tuple(hints: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if hints[-1] is not Ellipsis:
        if not isinstance(value, (list, tuple)) or len(value) != len(hints):
            raise _Unfit(f"a tuple of {len(hints)}")
        return tuple(map(_fit, hints, value))
    if isinstance(value, (str, Path)) and hints[0] in (str, Path):
        value = (value,)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _Unfit("a list")
    return tuple(_fit(hints[0], item) for item in value)


_NOUNS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", Path: "a path"}


def _fit_plain(hint: Any, value: Any) -> Any:
    """A value of a class. Numbers of numpy's are numbers; True is none."""
    if hint not in _NOUNS:
        if isinstance(value, hint):
            return value
        raise _Unfit(f"an object of class {hint.__name__}")
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is str and isinstance(value, (Path, int)) and not isinstance(value, bool):  # gpu=0
        return str(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    if hint in (int, float) and not isinstance(value, bool):
        if hint is float and isinstance(value, float):
            if math.isfinite(value):
                return value
            raise _Unfit("a finite number")
        try:
            return operator.index(value) if hint is int else float(operator.index(value))
        except TypeError:
            pass
    raise _Unfit(_NOUNS[hint])

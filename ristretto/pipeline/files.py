"""Jobs on files alone: writing formats into a prototxt, upgrading old nets."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ristretto.atomic import atomic_together, atomic_write_bytes, check_outputs, one_job
from ristretto.caffe.limits import JSON_MB, YAML_MB, read_at_most
from ristretto.caffe.net import read_prototxt
from ristretto.caffe.upgrade import (
    upgrade_batch_norm,
    upgrade_binary,
    upgrade_inputs,
    upgrade_net,
    upgrade_solver,
)
from ristretto.decide.plan import QuantPlan
from ristretto.decide.plan_file import plan_from_json
from ristretto.dialects.fields import Dialect
from ristretto.dialects.prototxt import convert_plan, planned_layers, write_plan
from ristretto.dialects.registry import Source, detect
from ristretto.errors import FormatError, UsageError
from ristretto.inputs import read_input
from ristretto.pipeline.plugins import load_plugins

_DEPTH = 64
"""How deep JSON may be nested; a report's is 8."""

_DIGITS = 30
"""Digits of a whole number: more than 2**64 has."""


def read_yaml_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read, or is not UTF-8.
        UsageError: it is larger than the limit.
    """
    return read_at_most(path, YAML_MB, "file").decode("utf-8")


def read_plan_file(path: Path) -> QuantPlan:
    """Read a report or a formats file.

    Raises:
        UsageError: it cannot be read.
        FormatError: it is no JSON, or holds no formats.
    """
    return plan_from_json(read_json(path, "formats"), str(path))


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file none of whose objects has a key twice.

    Args:
        path: the file.
        what: what it holds, for errors.

    Raises:
        UsageError: it cannot be read.
        FormatError: it is no JSON.
    """
    try:
        data = read_at_most(path, JSON_MB, what)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the {what}: {reason}", file=str(path)) from error
    return parse_json(data, str(path), what)


def parse_json(data: bytes, file: str, what: str) -> Any:
    """The content of a JSON file; see ``read_json``."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite_number,
            parse_int=_whole_number,
        )
        _check_depth(value)
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the {what}: it is not text", file=file) from error
    except FormatError as error:
        raise FormatError(error.what, file=file, cure=error.cure) from error
    except RecursionError as error:
        raise _too_deep(file) from error
    except json.JSONDecodeError as error:
        raise FormatError("this is no JSON", file=file, line=error.lineno, column=error.colno) from error
    return value


def _no_constant(word: str) -> float:
    """NaN and infinity, which Python reads and JSON does not have."""
    raise FormatError(f"{word} is no number in JSON", cure="write a number, or null where there is none")


def _finite_number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise FormatError(f"{text[:40]} is too large a number", cure="write one that float64 can hold")
    return value


def _whole_number(text: str) -> int:
    if len(text) > _DIGITS:
        raise FormatError(f"{text[:_DIGITS]}... is too large a number", cure=f"{_DIGITS} digits are enough")
    return int(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose keys is given twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise FormatError(f"'{twice}' is given twice", cure="keep one of them")
    return found


def _check_depth(value: Any) -> None:
    """Refuse what is nested so deep that those who walk through it would run out of stack."""
    level = [value]
    for _ in range(_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    if level:
        raise _too_deep("")


def _too_deep(file: str) -> FormatError:
    return FormatError("this JSON is nested too deep", file=file, cure=f"no file of ours is more than {_DEPTH} deep")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a plan.

    Attributes:
        layers: names of the layers whose formats were written.
        missing: names of those that the prototxt lacks.
    """

    layers: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What was done to a net and to its weights, in words; "" for weights that were not given."""

    model: str
    weights: str = ""


@one_job()
def apply(
    model: Path,
    formats: Path | QuantPlan,
    output: Path,
    dialect: Dialect = "extended",
    plugins: tuple[str, ...] = (),
    *,
    nearest: bool = False,
) -> Applied:
    """Write chosen formats into any prototxt; nothing but the planned layers changes.

    Args:
        model: the prototxt.
        formats: a report, a file of formats, or the formats themselves.
        output: where to write the new prototxt.
        dialect: the reader that it is written for.
        plugins: modules that teach layer types (docs/plugins.md).
        nearest: whether to write the nearest setting where the dialect cannot say one.

    Raises:
        RistrettoError: a user's mistake.
    """
    check_outputs([output], [model] if isinstance(formats, QuantPlan) else [model, formats])
    load_plugins(plugins)
    document = read_prototxt(model)
    plan = formats if isinstance(formats, QuantPlan) else read_plan_file(formats)
    if plan.layers:
        document = upgrade_net(document)  # V0 and V1 nets have no field for formats
    present = planned_layers(document, plan)
    if plan.layers and not present:
        cure = "are the formats those of this net?"
        raise FormatError("none of the layers of the formats file is in this prototxt", file=str(model), cure=cure)
    atomic_write_bytes(output, write_plan(document, plan, dialect, nearest=nearest).to_bytes())
    layers = tuple(name for name in plan.layers if name in present)
    return Applied(layers, tuple(name for name in plan.layers if name not in present))


@dataclass(frozen=True, slots=True)
class Redone:
    """A quantized prototxt in another dialect.

    Attributes:
        source: the dialect that it was in.
        layers: how many layers have formats.
        changes: what the new dialect cannot say, and what it became, in words.
    """

    source: Dialect
    layers: int
    changes: tuple[str, ...]


@one_job()
def convert_dialect(
    model: Path,
    output: Path,
    to: Dialect,
    source: Source = "auto",
    *,
    nearest: bool = False,
    plugins: tuple[str, ...] = (),
) -> Redone:
    """Write a quantized prototxt in another dialect; all that states no formats stays as it is.

    Args:
        model: the quantized prototxt.
        output: where to write the new one.
        to: the dialect to write.
        source: the dialect to read; "auto" lets the names of the fields decide.
        nearest: whether to write the nearest setting where the dialect cannot say one.
        plugins: modules that teach layer types (docs/plugins.md).

    Raises:
        RistrettoError: a user's mistake, or something that the dialect cannot say.
    """
    check_outputs([output], [model])
    load_plugins(plugins)
    document = upgrade_net(read_prototxt(model))
    name = detect(document) if source == "auto" else source
    try:
        new, plan, changes = convert_plan(document, name, to, nearest=nearest)
    except FormatError as error:
        raise FormatError(error.what, cure=error.cure, file=str(model), layer=error.layer) from error
    if not plan.layers:
        cure = f"it was read in the dialect {name}: if it is in another, say in which with --from"
        raise FormatError("no layer of this net has number formats", file=str(model), cure=cure)
    atomic_write_bytes(output, new.to_bytes())
    return Redone(name, len(plan.layers), changes)


@one_job()
def upgrade(model: Path, output: Path, weights: Path | None = None, output_weights: Path | None = None) -> Upgraded:
    """Bring a net or a solver, and the net's weights file if given, to today's format.

    Raises:
        RistrettoError: a user's mistake.
    """
    if (weights is None) != (output_weights is None):
        raise UsageError("--weights and --output-weights go together", cure="give both, or none")
    check_outputs(filter(None, (output, output_weights)), filter(None, (model, weights)))
    document = read_prototxt(model)
    is_net = any(field.name in ("layer", "layers", "input") for field in document.root.fields)
    new = upgrade_batch_norm(upgrade_inputs(upgrade_net(document))) if is_net else upgrade_solver(document)
    data = new_weights = b""
    if weights is not None and output_weights is not None:
        try:
            data = read_input(weights)
        except OSError as error:
            what = f"cannot read the weights: {error.strerror or error}"
            raise UsageError(what, file=str(weights)) from error
        new_weights = upgrade_binary(data, str(weights))
    with atomic_together():
        if output_weights is not None:
            atomic_write_bytes(output_weights, new_weights)
        atomic_write_bytes(output, new.to_bytes())
    done = Upgraded(_done(document.to_bytes() != new.to_bytes(), "net" if is_net else "solver"))
    return done if output_weights is None else replace(done, weights=_done(data != new_weights, "weights"))


def _done(changed: bool, what: str) -> str:
    return f"{what} brought to today's format" if changed else f"{what} in today's format already, copied"

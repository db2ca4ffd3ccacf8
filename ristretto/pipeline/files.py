"""Jobs on files alone: writing formats into a prototxt, upgrading old nets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ristretto.atomic import atomic_write_bytes, check_outputs
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
from ristretto.dialects.prototxt import planned_layers, write_plan
from ristretto.errors import FormatError, UsageError
from ristretto.pipeline.plugins import load_plugins


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
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"cannot read the {what}: {reason}", file=str(path)) from error
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (json.JSONDecodeError, RecursionError) as error:
        line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
        raise FormatError("this is no JSON", file=str(path), line=line, column=column) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose keys is given twice."""
    keys = [key for key, _ in pairs]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise FormatError(f"'{twice[0]}' is given twice", cure="keep one of them")
    return dict(pairs)


def apply(
    model: Path, formats: Path, output: Path, dialect: Dialect = "extended", plugins: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Write chosen formats into any prototxt; nothing but the planned layers changes.

    Returns:
        names of planned layers that the prototxt lacks.

    Raises:
        RistrettoError: a user's mistake.
    """
    check_outputs([output], [model, formats])
    load_plugins(plugins)
    document = read_prototxt(model)
    plan = read_plan_file(formats)
    if plan.layers:
        document = upgrade_net(document)  # V0 and V1 nets have no field for formats
    present = planned_layers(document, plan)
    if plan.layers and not present:
        cure = "are the formats those of this net?"
        raise FormatError("none of the layers of the formats file is in this prototxt", file=str(model), cure=cure)
    atomic_write_bytes(output, write_plan(document, plan, dialect).to_bytes())
    return tuple(name for name in plan.layers if name not in present)


def upgrade(model: Path, output: Path, weights: Path | None = None, output_weights: Path | None = None) -> None:
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
    new_weights = b""
    if weights is not None and output_weights is not None:
        try:
            data = weights.read_bytes()
        except OSError as error:
            what = f"cannot read the weights: {error.strerror or error}"
            raise UsageError(what, file=str(weights)) from error
        new_weights = upgrade_binary(data, str(weights))
    atomic_write_bytes(output, new.to_bytes())
    if output_weights is not None:
        atomic_write_bytes(output_weights, new_weights)

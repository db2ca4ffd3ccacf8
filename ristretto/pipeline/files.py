"""Jobs on files alone: writing formats into a prototxt, upgrading old nets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ristretto.atomic import atomic_write_bytes, check_writable
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


def read_plan_file(path: Path) -> QuantPlan:
    """Read a report or a formats file.

    Raises:
        UsageError: it cannot be read.
        FormatError: it is no JSON, or holds no formats.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"cannot read the formats: {reason}", file=str(path)) from error
    try:
        data: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
        raise FormatError("this is no JSON", file=str(path), line=line, column=column) from error
    return plan_from_json(data, str(path))


def apply(model: Path, formats: Path, output: Path, dialect: Dialect = "extended") -> tuple[str, ...]:
    """Write chosen formats into any prototxt; nothing but the planned layers changes.

    Returns:
        names of planned layers that the prototxt lacks.

    Raises:
        RistrettoError: a user's mistake.
    """
    check_writable(output)
    document = read_prototxt(model)
    plan = read_plan_file(formats)
    if plan.layers:
        document = upgrade_net(document)  # V0 and V1 nets have no field for formats
    atomic_write_bytes(output, write_plan(document, plan, dialect).to_bytes())
    return tuple(name for name in plan.layers if name not in planned_layers(document, plan))


def upgrade(model: Path, output: Path, weights: Path | None = None, output_weights: Path | None = None) -> None:
    """Bring a net or a solver, and the net's weights file if given, to today's format.

    Raises:
        RistrettoError: a user's mistake.
    """
    if (weights is None) != (output_weights is None):
        raise UsageError("--weights and --output-weights go together")
    for path in filter(None, (output, output_weights)):
        check_writable(path)
    document = read_prototxt(model)
    is_net = any(field.name in ("layer", "layers", "input") for field in document.root.fields)
    new = upgrade_batch_norm(upgrade_inputs(upgrade_net(document))) if is_net else upgrade_solver(document)
    atomic_write_bytes(output, new.to_bytes())
    if weights is not None and output_weights is not None:
        try:
            data = weights.read_bytes()
        except OSError as error:
            what = f"cannot read the weights: {error.strerror or error}"
            raise UsageError(what, file=str(weights)) from error
        atomic_write_bytes(output_weights, upgrade_binary(data, str(weights)))

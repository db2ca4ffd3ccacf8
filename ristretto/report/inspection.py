"""What ``ristretto inspect`` shows, as values, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """One weight blob: its shape in the file, its range, its standard deviation, how many elements are zero."""

    shape: tuple[int, ...]
    min: float
    max: float
    std: float
    zeros: int


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer.

    Attributes:
        name, type: as in the prototxt.
        outputs: shapes of its tops; empty where shapes are not known.
        parameters: number of weights it expects; None where shapes are not known.
        macs: multiply-accumulates for one batch; None where shapes are not known.
        blobs: facts of its blobs in the weights file, if one was given.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    outputs: tuple[tuple[int, ...], ...]
    parameters: int | None
    macs: int | None
    blobs: tuple[BlobFacts, ...]


@dataclass(frozen=True, slots=True)
class NetFacts:
    """A net.

    Attributes:
        name: the net's name.
        phase: the phase looked at.
        layers: its layers in order.
        outputs: its output blobs.
        unknown_shapes: why shapes are not known, or "".
        unused_weights: layers of the weights file that the net does not have.
        warnings: signs that the net or the weights are not those that are meant.
    """

    name: str
    phase: str
    layers: tuple[LayerFacts, ...]
    outputs: tuple[str, ...]
    unknown_shapes: str
    unused_weights: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def facts_to_json(facts: NetFacts) -> dict[str, Any]:
    """The facts as JSON values."""
    return {"schema": 1, **asdict(facts)}


def render_facts(facts: NetFacts) -> str:
    """The facts as a table of plain text, one line a layer."""
    rows: list[tuple[str, ...]] = [("layer", "type", "output", "parameters", "MACs", "weights min .. max")]
    rows += [_row(layer) for layer in facts.layers]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{facts.name or 'net'}, phase {facts.phase}"]
    lines += [_line(row, widths) for row in rows]
    parameters = sum(layer.parameters or 0 for layer in facts.layers)
    macs = sum(layer.macs or 0 for layer in facts.layers)
    if facts.unknown_shapes:
        lines.append(f"shapes are not known: {facts.unknown_shapes}")
    else:
        lines.append(f"{len(facts.layers)} layers, {parameters:,} parameters, {macs:,} MACs a batch")
    lines.append(f"outputs: {', '.join(facts.outputs)}")
    if facts.unused_weights:
        lines.append(f"in the weights file and not in this net: {', '.join(facts.unused_weights)}")
    return "\n".join(lines)


def _row(layer: LayerFacts) -> tuple[str, ...]:
    shapes = " ".join("x".join(map(str, shape)) or "scalar" for shape in layer.outputs) or "?"
    ranges = ", ".join(f"{blob.min:.4g} .. {blob.max:.4g}" for blob in layer.blobs)
    parameters = f"{layer.parameters:,}" if layer.parameters else ""
    macs = f"{layer.macs:,}" if layer.macs else ""
    return layer.name, layer.type, shapes, parameters, macs, ranges


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    numeric = {3, 4}
    cells = [
        cell.rjust(width) if column in numeric else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()

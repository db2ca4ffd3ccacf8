"""What ``ristretto compare`` found out, as values, as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ristretto.decide.plan import QuantPlan
from ristretto.decide.plan_file import layer_to_json


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """One top of a layer that two nets have.

    Attributes:
        name: the layer's name.
        type: its type in the second net.
        top: the top's name in the second net.
        position: its place among the layer's tops.
        folded: the layers of the first net that are folded into it: it is compared with what the last of them makes.
        low, high: range of the top in the first net.
        input_saturated, output_saturated: shares, 0 to 1, of elements in the second net that lie at the ends of the
            layer's input and output format or beyond; None without such a format.
        own_db: SQNR of the error that the layer alone makes of the first net's values.
        so_far_db: SQNR of the error that has gathered in the second net up to here.
        fall_db: how far the latter is below the least SQNR of what the layer reads; None where there is no error.
    """

    name: str
    type: str
    top: str
    position: int
    folded: tuple[str, ...]
    low: float
    high: float
    input_saturated: float | None
    output_saturated: float | None
    own_db: float
    so_far_db: float
    fall_db: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two nets on the same images.

    Attributes:
        first, second: their prototxts.
        images: images looked at.
        plan: the formats of the second net.
        layers: the tops of all layers that both have, in the order of the second net.
        worst_own: the one with the lowest SQNR of its own error; None where no layer makes one.
        steepest_fall: the one where the gathered error grows most; None where it grows nowhere.
        only_first, only_second: layers that the other net does not have, or has with other bottoms or tops; those that
            the second has folded are not among them.
        warnings: what a user should know.
    """

    first: str
    second: str
    images: int
    plan: QuantPlan
    layers: tuple[LayerComparison, ...]
    worst_own: LayerComparison | None
    steepest_fall: LayerComparison | None
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON values (schema: docs/comparing.md)."""
    worst, steepest = comparison.worst_own, comparison.steepest_fall
    return {
        "schema": 1,
        "first": comparison.first,
        "second": comparison.second,
        "images": comparison.images,
        "layers": [_layer(layer, comparison.plan) for layer in comparison.layers],
        "worst_own": None if worst is None else {"name": worst.name, "top": worst.top},
        "steepest_fall": None if steepest is None else {"name": steepest.name, "top": steepest.top},
        "only_first": list(comparison.only_first),
        "only_second": list(comparison.only_second),
        "warnings": list(comparison.warnings),
    }


def _layer(layer: LayerComparison, plan: QuantPlan) -> dict[str, Any]:
    formats = plan.layers.get(layer.name)
    return {
        "name": layer.name,
        "type": layer.type,
        "top": layer.top,
        "position": layer.position,
        "folded": list(layer.folded),
        "formats": None if formats is None else layer_to_json(formats),
        "range": [_number(layer.low), _number(layer.high)],
        "input_saturated": layer.input_saturated,
        "output_saturated": layer.output_saturated,
        "own_db": _number(layer.own_db),
        "so_far_db": _number(layer.so_far_db),
        "fall_db": None if layer.fall_db is None else _number(layer.fall_db),
    }


def _number(value: float) -> float | str | None:
    """A number that JSON can say; infinities, which are results here, become words that ``float`` reads."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


_COLUMNS = ("layer", "type", "in", "out", "weights", "min .. max", "in sat %", "out sat %", "own dB", "so far dB")
_NUMERIC = frozenset({6, 7, 8, 9})


def render_comparison(comparison: Comparison) -> str:
    """The comparison as a table of plain text, one line a layer, and what follows from it."""
    several = frozenset(layer.name for layer in comparison.layers if layer.position)
    rows = [_COLUMNS, *(_row(layer, comparison.plan, several) for layer in comparison.layers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{comparison.second} against {comparison.first}, {comparison.images} images"]
    lines += [_line(row, widths) for row in rows]
    folded = sum(len(layer.folded) for layer in comparison.layers)
    if folded:
        lines.append(f"{folded} layers of the first net are folded into those before them")
    for title, names in (("first", comparison.only_first), ("second", comparison.only_second)):
        if names:
            lines.append(f"only in the {title} net: {', '.join(names)}")
    lines.append(_conclusion(comparison))
    return "\n".join(lines)


def _row(layer: LayerComparison, plan: QuantPlan, several: Collection[str]) -> tuple[str, ...]:
    """A layer's cells; those of layers with several tops tell which."""
    formats = plan.layers.get(layer.name)
    given = (None, None, None) if formats is None else (formats.input, formats.output, formats.params)
    return (
        f"{layer.name}[{layer.position}]" if layer.name in several else layer.name,
        layer.type,
        *("-" if fmt is None else str(fmt) for fmt in given),
        f"{layer.low:.4g} .. {layer.high:.4g}",
        _percent(layer.input_saturated),
        _percent(layer.output_saturated),
        _decibels(layer.own_db),
        _decibels(layer.so_far_db),
    )


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.rjust(width) if column in _NUMERIC else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _conclusion(comparison: Comparison) -> str:
    worst, steepest = comparison.worst_own, comparison.steepest_fall
    if all(layer.so_far_db == math.inf and layer.own_db == math.inf for layer in comparison.layers):
        return "the nets compute the same"
    own = "no layer makes an error of its own"
    if worst is not None:
        own = f"worst own error: {worst.name} ({_decibels(worst.own_db)} dB)"
    fall = "nowhere does the SQNR so far fall"
    if steepest is not None and steepest.fall_db is not None:
        to = _decibels(steepest.so_far_db)
        fall = f"the SQNR so far falls most at {steepest.name} (by {_decibels(steepest.fall_db)} to {to} dB)"
    return f"{own}; {fall}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3f}"


def _decibels(value: float) -> str:
    return f"{value:.1f}"

"""What integer arithmetic did, layer by layer: values, and the table and the verdict as lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """One layer that was computed on integers.

    Attributes:
        name: the layer's name.
        bits_needed: bits of an accumulator that holds every sum its weights and bias can give.
        bits_observed: bits of one that holds the sums there were; None where a value was NaN.
        bits_asked: bits of the accumulator that was simulated.
        overflows: sums that it could not hold.
        inputs, inputs_saturated: input values, and those outside the input's format.
        outputs, outputs_saturated: sums, and those outside the output's format.
        sqnr_db: signal to noise ratio of the output's rounding; infinite where it loses nothing, NaN without a signal.
        differing: outputs where the float32 simulation of the layer on the same inputs gives something else; None
            where that cannot be said, with stochastic rounding.
        proved: whether no input can make the two differ.
        products: float32 operations that the exact sums took; 0 for one in float64.
    """

    name: str
    bits_needed: int
    bits_observed: int | None
    bits_asked: int
    overflows: int
    inputs: int
    inputs_saturated: int
    outputs: int
    outputs_saturated: int
    sqnr_db: float
    differing: int | None
    proved: bool
    products: int


_COLUMNS = (
    "layer",
    "acc bits worst",
    "seen",
    "asked",
    "overflows",
    "in sat %",
    "out sat %",
    "SQNR dB",
    "float32 differs",
)


_NAMED = 5


def integer_lines(layers: Sequence[IntegerLayer]) -> Iterator[str]:
    """A table of the layers, and what they say together."""
    if layers:
        rows = [_COLUMNS, *(_row(layer) for layer in layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, *cells in rows:
            padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            yield "  ".join([name.ljust(widths[0]), *padded])
    yield verdict(layers)


def verdict(layers: Sequence[IntegerLayer]) -> str:
    """Whether float32 simulation and integer arithmetic are the same, on one line."""
    if not layers:
        return "No layer was computed on integers: the net has no convolution or inner product with number formats."
    compared = [layer for layer in layers if layer.differing is not None]
    if not compared:
        return "Float32 simulation and integer arithmetic were not compared: stochastic rounding draws anew in each."
    outputs = sum(layer.outputs for layer in compared)
    differing = [layer for layer in compared if layer.differing]
    if not differing:
        proved = sum(layer.proved for layer in compared)
        more = f" ({proved} of {len(compared)} layers: for any input)"
        return f"The float32 simulation equals the integer arithmetic at all {outputs} outputs{more}."
    count = sum(layer.differing or 0 for layer in differing)
    names = ", ".join(layer.name for layer in differing[:_NAMED])
    if len(differing) > _NAMED:
        names += f" and {len(differing) - _NAMED} more layers"
    return f"The float32 simulation differs from the integer arithmetic at {count} of {outputs} outputs, in {names}."


def _row(layer: IntegerLayer) -> tuple[str, ...]:
    return (
        layer.name,
        str(layer.bits_needed),
        "-" if layer.bits_observed is None else str(layer.bits_observed),
        str(layer.bits_asked),
        str(layer.overflows),
        _share(layer.inputs_saturated, layer.inputs),
        _share(layer.outputs_saturated, layer.outputs),
        "-" if math.isnan(layer.sqnr_db) else f"{layer.sqnr_db:.1f}",
        "-" if layer.differing is None else "never" if layer.proved else str(layer.differing),
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f}" if whole else "-"

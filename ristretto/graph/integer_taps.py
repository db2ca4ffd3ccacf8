"""What integer arithmetic did in a layer, counted while the net runs: one vector for each bottom of the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ristretto.graph.nodes import NodeList
from ristretto.numerics.formats import DynamicFixedPoint

TAP_FIELDS = (
    "least_sum",
    "greatest_sum",
    "overflows",
    "inputs_saturated",
    "inputs",
    "outputs_saturated",
    "outputs",
    "signal",
    "noise",
    "differing",
)
"""The elements of a tap, float64: the ends of the exact sums, then counts and sums of squares over the batch."""


@dataclass(frozen=True, slots=True)
class LayerTap:
    """What is known of a layer before it runs, and where the model says what happened.

    Attributes:
        outputs: the model's outputs, vectors of ``TAP_FIELDS``.
        bits_needed: the accumulator's bits in the worst case, by the weights.
        bits_asked: the accumulator's bits.
        products: how many float32 operations the exact sums take; 0 for one in float64.
        proved: whether float32 simulation is proved to give the same.
        compared: whether ``differing`` counts; stochastic roundings differ whatever they round.
    """

    outputs: tuple[str, ...]
    bits_needed: int
    bits_asked: int
    products: int
    proved: bool
    compared: bool


@dataclass(frozen=True, slots=True)
class Happened:
    """The values of a layer that a tap looks at.

    Attributes:
        sums: the exact sums, float64.
        kept: what the accumulator makes of them, float64; None where it can hold all.
        scaled: the same at the output's scale before the rounding, float64.
        codes: the output's codes, float64.
        result, simulated: the output, and the float32 simulation's; None where the two are proved to be the same.
    """

    sums: str
    kept: str | None
    scaled: str
    codes: str
    result: str
    simulated: str | None


def emit_tap(
    nodes: NodeList, inputs: Sequence[str], fmt: DynamicFixedPoint, out: DynamicFixedPoint, at: Happened
) -> str:
    """Append the nodes of one tap and return its name.

    Args:
        nodes: where to append.
        inputs: the layer's inputs before they are rounded.
        fmt: the input's format.
        out: the output's format.
        at: the layer's values.
    """
    nothing = nodes.constant(np.zeros((), np.float64))
    # An unsigned output stands for a ReLU as well: what it drops below zero is no saturation.
    scaled = at.scaled if out.signed else nodes.op("Relu", at.scaled)
    outside = [_outside(nodes, value, fmt.min, fmt.max, np.float32) for value in inputs]
    fields = (
        nodes.op("ReduceMin", at.sums, keepdims=0),
        nodes.op("ReduceMax", at.sums, keepdims=0),
        nothing if at.kept is None else _differing(nodes, at.sums, at.kept),
        _total(nodes, outside, nothing),
        _total(nodes, [_size(nodes, value) for value in inputs], nothing),
        _outside(nodes, scaled, out.min_code, out.max_code, np.float64),
        _size(nodes, at.result),
        nodes.op("ReduceSumSquare", scaled, keepdims=0),
        nodes.op("ReduceSumSquare", nodes.op("Sub", scaled, at.codes), keepdims=0),
        nothing if at.simulated is None else _differing(nodes, at.result, at.simulated),
    )
    one = nodes.ints([1])
    return nodes.op("Concat", *(nodes.op("Reshape", field, one) for field in fields), axis=0)


def _outside(nodes: NodeList, value: str, low: float, high: float, dtype: type) -> str:
    ends = (nodes.constant(np.asarray(end, dtype)) for end in (low, high))
    return _differing(nodes, value, nodes.op("Clip", value, *ends))


def _differing(nodes: NodeList, one: str, other: str) -> str:
    """How many elements are not equal."""
    unequal = nodes.op("Not", nodes.op("Equal", one, other))
    return nodes.op("ReduceSum", nodes.op("Cast", unequal, to=onnx.TensorProto.DOUBLE), keepdims=0)


def _size(nodes: NodeList, value: str) -> str:
    return nodes.op("Cast", nodes.op("Size", value), to=onnx.TensorProto.DOUBLE)


def _total(nodes: NodeList, counts: Sequence[str], nothing: str) -> str:
    total = nothing
    for count in counts:
        total = nodes.op("Add", total, count)
    return total

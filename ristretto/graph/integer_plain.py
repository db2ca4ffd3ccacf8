"""Layers of plain types beside integer arithmetic: computed in float64, and rounded once to the output's format.

Their inputs have few bits, so that sums and products of a float64 are exact, and so is the output: the exact value,
rounded. What divides or takes roots is off by a part in 2**53 before that. Bottoms of different formats keep each its
own grid where the layer has no input format (a wide accumulator); where it has one they are rounded to it first (a
narrow ALU).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ristretto.caffe.catalogue.pooling import pool_params
from ristretto.graph.fake_quant import emit_round, emit_scaled
from ristretto.graph.layers.pooling import emit_average_of_doubles
from ristretto.graph.nodes import NodeList
from ristretto.graph.registry import Emitter, LayerContext
from ristretto.numerics.formats import DynamicFixedPoint

_IN_DOUBLE = frozenset(
    {
        "Abs", "Add", "BatchNormalization", "Clip", "Div", "Exp", "Flatten", "Log", "Min", "Mul", "Neg", "Pow",
        "ReduceMean", "ReduceSum", "ReduceSumSquare", "Reshape", "Sigmoid", "Softmax", "Sqrt", "Sub", "Tanh",
        "Unsqueeze",
    }
)  # fmt: skip
"""Operations that onnxruntime has for float64."""


def emit_rounded_once(context: LayerContext, emitter: Emitter) -> list[str] | None:
    """Append a layer in float64 and its rounding to the output's format.

    Returns:
        the tops, float32, rounded; None where the layer has no output format, or an operation that only float32 has:
        those that compare and move values are exact there.
    """
    fmt, nodes = context.formats.output, context.nodes
    if not isinstance(fmt, DynamicFixedPoint):
        return None
    start = len(nodes.nodes)
    doubles = tuple(nodes.op("Cast", value, to=onnx.TensorProto.DOUBLE) for value in context.inputs)
    made = _average(context, doubles[0])
    if made is None:
        first = len(nodes.nodes)
        made = list(emitter(replace(context, inputs=doubles)))
        if not _widen(nodes, first):
            del nodes.nodes[start:]
            return None
    return [_rounded(context, value, fmt) for value in made]


def _average(context: LayerContext, value: str) -> list[str] | None:
    shape = context.input_shapes[0]
    if context.layer.type != "Pooling":
        return None
    params = pool_params(context.layer, shape)
    if params.method != "AVE":
        return None
    return [emit_average_of_doubles(context, value, params, (shape[2], shape[3]))]


def _rounded(context: LayerContext, value: str, fmt: DynamicFixedPoint) -> str:
    nodes = context.nodes
    ends = (nodes.constant(np.asarray(end, np.float64)) for end in (fmt.min, fmt.max))
    scaled = nodes.op("Mul", nodes.op("Clip", value, *ends), nodes.constant(np.asarray(2.0**fmt.fl, np.float64)))
    whole = emit_round(nodes, scaled, context.rounding, context.seed, double=True)
    return emit_scaled(nodes, nodes.op("Cast", whole, to=onnx.TensorProto.FLOAT), -fmt.fl)


def _widen(nodes: NodeList, first: int) -> bool:
    """Turn the nodes from a number on into those of float64; False, and nothing is turned, where one has no such."""
    tail = nodes.nodes[first:]
    if not all(node.op_type in _IN_DOUBLE or node.op_type in ("LeakyRelu", "PRelu") for node in tail):
        return False
    del nodes.nodes[first:]
    constants = {tensor.name: tensor for tensor in nodes.initializers}
    for node in tail:
        inputs = [_double(nodes, constants.get(name), name) for name in node.input]
        if node.op_type in ("LeakyRelu", "PRelu"):
            _two_slopes(nodes, node, inputs)
            continue
        node.input[:] = inputs
        nodes.nodes.append(node)
    return True


def _double(nodes: NodeList, constant: onnx.TensorProto | None, name: str) -> str:
    if constant is None or constant.data_type != onnx.TensorProto.FLOAT:
        return name
    return nodes.constant(numpy_helper.to_array(constant).astype(np.float64))


def _two_slopes(nodes: NodeList, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
    """max(x, 0) + slope * min(x, 0), under the name of the node's output."""
    nothing = nodes.constant(np.zeros((), np.float64))
    alpha = [nodes.constant(np.asarray(attribute.f, np.float64)) for attribute in node.attribute]
    slope = [*inputs[1:], *alpha][0]
    above = nodes.op("Max", inputs[0], nothing)
    below = nodes.op("Mul", nodes.op("Min", inputs[0], nothing), slope)
    nodes.nodes.append(helper.make_node("Add", [above, below], [node.output[0]], name=node.output[0]))

"""A model whose results do not depend on the number of threads.

onnxruntime divides the elements of some operations among its threads and computes what is left over at the end of each
part by another formula, which differs in the last bit: in LRN, Log, Softplus and Elu. They become operations that are
computed alike wherever an element lies (tests/numbers/test_threads.py looks at all that nets are made of).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from onnx import helper

from ristretto.graph.nodes import NodeList

Attributes = dict[str, Any]

_WHOLE = frozenset({"Floor", "Ceil", "Round"})


def steady(model: onnx.ModelProto, *, double: bool) -> onnx.ModelProto:
    """Rewrite what depends on the number of threads, in place. In float64 (``double``) nothing does."""
    graph = model.graph
    if double or all(node.op_type not in _REWRITES for node in graph.node):
        return model
    whole = _rounded_logarithms(graph.node)
    nodes = NodeList()
    for name in (
        *(tensor.name for tensor in graph.initializer),
        *(value.name for value in graph.input),
        *(name for node in graph.node for name in node.output),
    ):
        nodes.reserve(name)
    nodes.enter("steady")
    for node in graph.node:
        rewrite = _REWRITES.get(node.op_type)
        if rewrite is None or node.output[0] in whole:
            nodes.nodes.append(node)
            continue
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        made = rewrite(nodes, node.input, attributes)
        nodes.nodes.append(helper.make_node("Identity", [made], list(node.output), name=node.name))
    kept = list(nodes.nodes)
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(nodes.initializers)
    return model


def _rounded_logarithms(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """The logarithms that are only asked for their whole part, which is put right afterwards (``fake_quant``)."""
    scaled = {name: node.output[0] for node in nodes if node.op_type == "Mul" for name in node.input}
    rounded = {name for node in nodes if node.op_type in _WHOLE for name in node.input}
    return {name for node in nodes if node.op_type == "Log" for name in node.output if scaled.get(name) in rounded}


def _local_response(nodes: NodeList, inputs: Sequence[str], attributes: Attributes) -> str:
    """LRN: the mean of the squares over neighbouring channels is an average over windows."""
    value, size = inputs[0], attributes["size"]
    before = (size - 1) // 2
    squares = nodes.op("Mul", value, value)
    flat = nodes.op("Unsqueeze", nodes.op("Reshape", squares, nodes.ints([0, 0, -1])), nodes.ints([1]))
    pads = [before, 0, size - 1 - before, 0]
    means = nodes.op("AveragePool", flat, kernel_shape=[size, 1], pads=pads, count_include_pad=1)
    means = nodes.op("Reshape", means, nodes.op("Shape", value))
    scaled = nodes.op("Mul", means, nodes.floats(attributes.get("alpha", 1e-4)))
    base = nodes.op("Add", scaled, nodes.floats(attributes.get("bias", 1.0)))
    beta = attributes.get("beta", 0.75)
    if beta == 0.75:  # the usual one: roots are rounded exactly, and far quicker than powers
        root = nodes.op("Sqrt", base)
        return nodes.op("Div", value, nodes.op("Mul", root, nodes.op("Sqrt", root)))
    return nodes.op("Mul", value, nodes.op("Pow", base, nodes.floats(-beta)))


def _logarithm(nodes: NodeList, inputs: Sequence[str], _attributes: Attributes) -> str:
    """Log, in float64."""
    wide = nodes.op("Log", nodes.op("Cast", inputs[0], to=onnx.TensorProto.DOUBLE))
    return nodes.op("Cast", wide, to=onnx.TensorProto.FLOAT)


def _softplus(nodes: NodeList, inputs: Sequence[str], attributes: Attributes) -> str:
    """Softplus: ``log(1 + exp(x))``, for large x without overflow."""
    small = nodes.op("Exp", nodes.op("Neg", nodes.op("Abs", inputs[0])))
    wide = nodes.op("Cast", small, to=onnx.TensorProto.DOUBLE)
    one = nodes.op("Cast", nodes.floats(1.0), to=onnx.TensorProto.DOUBLE)
    logarithm = nodes.op("Cast", nodes.op("Log", nodes.op("Add", wide, one)), to=onnx.TensorProto.FLOAT)
    return nodes.op("Add", nodes.op("Relu", inputs[0]), logarithm)


def _elu(nodes: NodeList, inputs: Sequence[str], attributes: Attributes) -> str:
    """Elu: ``alpha * (exp(x) - 1)`` below 0."""
    below = nodes.op("Exp", nodes.op("Min", inputs[0], nodes.floats(0.0)))
    below = nodes.op("Mul", nodes.op("Sub", below, nodes.floats(1.0)), nodes.floats(attributes.get("alpha", 1.0)))
    return nodes.op("Add", nodes.op("Relu", inputs[0]), below)


_REWRITES: dict[str, Callable[[NodeList, Sequence[str], Attributes], str]] = {
    "LRN": _local_response,
    "Log": _logarithm,
    "Softplus": _softplus,
    "Elu": _elu,
}

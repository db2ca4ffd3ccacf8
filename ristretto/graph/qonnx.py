"""The marks of a net as QONNX's Quant nodes, which the compilers for FPGAs read.

Quant rounds x to ``scale * code`` with a code of ``bitwidth`` bits: x / scale, clipped to the codes' ends, rounded half
to even. That is what a mark means, so nothing has to be proved here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper

from ristretto.graph.known import format_of
from ristretto.graph.marked import Marks
from ristretto.graph.nodes import NodeList

QUANT_DOMAIN = "qonnx.custom_op.general"


def write_quant(nodes: NodeList, _wanted: Iterable[str], _marks: Marks) -> None:
    """Write out all marks as Quant; see ``marked.Lowering``."""
    old, nodes.nodes = nodes.nodes, []
    ranks = {tensor.name: len(tensor.dims) for tensor in nodes.initializers}
    for node in old:
        if node.op_type == "FixedPoint":
            fmt = format_of(node)
            nodes.nodes.append(_quant(nodes, node, nodes.floats(fmt.step), fmt.bw, fmt.signed))
        elif node.op_type == "ChannelFixedPoint":
            given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            steps = np.ldexp(np.float32(1.0), -np.asarray(given["fls"]))
            shape = (-1, *(1,) * (ranks[node.input[0]] - 1))
            scale = nodes.constant(steps.astype(np.float32).reshape(shape), "scale")
            nodes.nodes.append(_quant(nodes, node, scale, given["bw"], True))
        else:
            nodes.nodes.append(node)


def _quant(nodes: NodeList, mark: onnx.NodeProto, scale: str, bw: int, signed: bool) -> onnx.NodeProto:
    return helper.make_node(
        "Quant",
        [mark.input[0], scale, nodes.floats(0.0), nodes.floats(bw)],
        [mark.output[0]],
        name=mark.name,
        domain=QUANT_DOMAIN,
        signed=int(signed),
        narrow=0,
        rounding_mode="ROUND",
    )


def state_shapes(model: onnx.ModelProto) -> None:
    """Add the shapes of all values to a model: ONNX's own inference does not see through a Quant."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.domain == QUANT_DOMAIN:
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output))
    inferred = onnx.shape_inference.infer_shapes(plain)
    model.graph.value_info.extend(inferred.graph.value_info)

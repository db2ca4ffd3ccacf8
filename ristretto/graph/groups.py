"""What a model says of groups of channels."""

from __future__ import annotations

from onnx import ModelProto

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def convolves_in_groups(model: ModelProto) -> bool:
    """Whether a model has convolutions in groups, such as depthwise ones."""
    nodes = (node for node in model.graph.node if node.op_type in _CONVOLUTIONS)
    attributes = (attribute for node in nodes for attribute in node.attribute)
    return any(attribute.name == "group" and attribute.i > 1 for attribute in attributes)

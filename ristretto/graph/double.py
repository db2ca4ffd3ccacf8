"""A model in float64: what the original's Net<double> computes.

onnxruntime has no float64 kernels on the CPU for convolutions, average pooling and a few more. They are rewritten into
operations that have: windows become strided slices, one for each position of the kernel, whose products are added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ristretto.graph.nodes import NodeList

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
_LAST = int(np.iinfo(np.int64).max)

Attributes = dict[str, Any]
Rewrite = Callable[[NodeList, Sequence[str], Attributes], str]


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with float64 in place of float32 everywhere, inputs and outputs included.

    What is neither known here nor has a float64 kernel is refused when the model is loaded.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = _DOUBLE
    nodes = NodeList(double=True)
    for name in _names(graph):
        nodes.reserve(name)
    nodes.enter("float64")
    for node in graph.node:
        _append(nodes, node)
    del graph.node[:]
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.initializers)
    return result


def _widen(tensor: onnx.TensorProto) -> None:
    """Make a tensor float64 if it is float32."""
    if tensor.data_type == _FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _names(graph: onnx.GraphProto) -> list[str]:
    """All names that a graph has given."""
    given = [tensor.name for tensor in graph.initializer] + [value.name for value in graph.input]
    return given + [name for node in graph.node for name in node.output]


def _append(nodes: NodeList, node: onnx.NodeProto) -> None:
    """Append a node, or what stands for it."""
    rewrite = _REWRITES.get(node.op_type)
    if rewrite is None:
        nodes.nodes.append(_converted(nodes, node))
        return
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    first = len(nodes.nodes)
    made = rewrite(nodes, list(node.input), attributes)
    nodes.rename(made, node.output[0], first)


def _converted(nodes: NodeList, node: onnx.NodeProto) -> onnx.NodeProto:
    """A node whose kernel knows float64: what it makes of itself is float64, and bodies are converted too."""
    converted = onnx.NodeProto()
    converted.CopyFrom(node)
    for attribute in converted.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == _FLOAT:
            attribute.i = _DOUBLE
        elif attribute.type == onnx.AttributeProto.TENSOR:
            _widen(attribute.t)
        elif attribute.type == onnx.AttributeProto.GRAPH:
            _convert_body(nodes, attribute.g)
    given = {attribute.name for attribute in converted.attribute}
    if node.op_type in _FLOAT_UNLESS_TOLD and _FLOAT_UNLESS_TOLD[node.op_type] not in given:
        name = _FLOAT_UNLESS_TOLD[node.op_type]
        value = _DOUBLE if name == "dtype" else numpy_helper.from_array(np.zeros(1))
        converted.attribute.append(helper.make_attribute(name, value))
    return converted


_FLOAT_UNLESS_TOLD = {"RandomUniform": "dtype", "RandomNormal": "dtype", "ConstantOfShape": "value"}
"""What makes float32 without being given any, unless this attribute says what to make."""


def _convert_body(nodes: NodeList, body: onnx.GraphProto) -> None:
    """The body of a loop: its values may have no type, and its constants live in the model around it."""
    for tensor in body.initializer:
        _widen(tensor)
    for value in (*body.input, *body.output):
        if value.type.tensor_type.elem_type == _FLOAT:
            value.type.tensor_type.elem_type = _DOUBLE
    outer, nodes.nodes = nodes.nodes, []
    for node in body.node:
        _append(nodes, node)
    inner, nodes.nodes = nodes.nodes, outer
    del body.node[:]
    body.node.extend(inner)


def _positions(kernel: Sequence[int]) -> list[tuple[int, ...]]:
    return list(np.ndindex(*kernel))


def _padded(nodes: NodeList, value: str, pads: Sequence[int]) -> str:
    """A value (n, c, spatial...) with zeros around it; negative pads cut off."""
    if not any(pads):
        return value
    axes = len(pads) // 2
    return nodes.op("Pad", value, nodes.ints([0, 0, *pads[:axes], 0, 0, *pads[axes:]]))


def _window(
    nodes: NodeList, value: str, position: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int],
) -> str:  # fmt: skip
    """What stands at one position of the kernel, for all windows."""
    starts = [at * step for at, step in zip(position, dilations, strict=True)]
    left = [(size - 1 - at) * step for at, size, step in zip(position, kernel, dilations, strict=True)]
    ends = [-rest if rest else _LAST for rest in left]
    axes = list(range(2, 2 + len(kernel)))
    return nodes.op("Slice", value, nodes.ints(starts), nodes.ints(ends), nodes.ints(axes), nodes.ints(list(strides)))


def _sum(nodes: NodeList, values: Sequence[str]) -> str:
    total = values[0]
    for value in values[1:]:
        total = nodes.op("Add", total, value)
    return total


def _geometry(attributes: Attributes) -> tuple[list[int], list[int], list[int], list[int]]:
    kernel = list(attributes["kernel_shape"])
    ones = [1] * len(kernel)
    pads = attributes.get("pads", [0] * (2 * len(kernel)))
    return kernel, list(attributes.get("strides", ones)), list(attributes.get("dilations", ones)), list(pads)


def _conv(nodes: NodeList, inputs: Sequence[str], attributes: Attributes) -> str:
    """Conv: for each position of the kernel a product of matrices, group by group."""
    kernel, strides, dilations, pads = _geometry(attributes)
    value = _padded(nodes, inputs[0], pads)
    return _correlate(nodes, value, inputs[1:], kernel, strides, dilations, attributes.get("group", 1))


def _correlate(
    nodes: NodeList, value: str, blobs: Sequence[str], kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int], groups: int,
) -> str:  # fmt: skip
    """Products with weights (o, c / groups, kernel...) and the bias, for a padded value."""
    products, size = [], ""
    for position in _positions(kernel):
        part = _window(nodes, value, position, kernel, strides, dilations)
        size = size or nodes.op("Shape", part, start=2)
        flat = nodes.op("Reshape", part, _grouped(nodes, part, groups))
        matrix = _at(nodes, blobs[0], position, groups)
        products.append(nodes.op("MatMul", matrix, flat))
    total = _sum(nodes, products)
    images = nodes.op("Shape", value, start=0, end=1)
    total = nodes.op("Reshape", total, nodes.op("Concat", images, nodes.ints([-1]), size, axis=0))
    if len(blobs) == 1:
        return total
    bias = nodes.op("Reshape", blobs[1], nodes.ints([-1, *(1 for _ in kernel)]))
    return nodes.op("Add", total, bias)


def _grouped(nodes: NodeList, part: str, groups: int) -> str:
    """The shape (n, groups, c / groups, places) for a value (n, c, spatial...), for any n."""
    channels = nodes.op("Div", nodes.op("Shape", part, start=1, end=2), nodes.ints([groups]))
    images = nodes.op("Shape", part, start=0, end=1)
    return nodes.op("Concat", images, nodes.ints([groups]), channels, nodes.ints([-1]), axis=0)


def _at(nodes: NodeList, weights: str, position: Sequence[int], groups: int) -> str:
    """The weights at one position of the kernel: (groups, o / groups, c / groups)."""
    axes = list(range(2, 2 + len(position)))
    ends = [at + 1 for at in position]
    part = nodes.op("Slice", weights, nodes.ints(list(position)), nodes.ints(ends), nodes.ints(axes))
    inner = nodes.op("Shape", part, start=1, end=2)
    return nodes.op("Reshape", part, nodes.op("Concat", nodes.ints([groups, -1]), inner, axis=0))


def _conv_transpose(nodes: NodeList, inputs: Sequence[str], attributes: Attributes) -> str:
    """ConvTranspose: zeros between the pixels, then a convolution with the kernel turned round."""
    kernel, strides, dilations, pads = _geometry(attributes)
    groups = attributes.get("group", 1)
    value = inputs[0]
    for axis, stride in enumerate(strides):
        value = _spread(nodes, value, axis + 2, len(kernel) + 2, stride)
    reach = [step * (size - 1) for size, step in zip(kernel, dilations, strict=True)]
    value = _padded(nodes, value, [room - pad for room, pad in zip(reach * 2, pads, strict=True)])
    # (c, o / groups, kernel) becomes (o, c / groups, kernel), turned round.
    weights = nodes.op("Reshape", inputs[1], _split_shape(nodes, inputs[1], groups))
    spatial = range(3, 3 + len(kernel))
    weights = nodes.op("Transpose", weights, perm=[0, 2, 1, *spatial])
    inner = nodes.op("Shape", weights, start=2)
    weights = nodes.op("Reshape", weights, nodes.op("Concat", nodes.ints([-1]), inner, axis=0))
    axes = list(range(2, 2 + len(kernel)))
    back = nodes.ints([-1] * len(kernel))
    weights = nodes.op("Slice", weights, back, nodes.ints([-_LAST] * len(kernel)), nodes.ints(axes), back)
    ones = [1] * len(kernel)
    return _correlate(nodes, value, [weights, *inputs[2:]], kernel, ones, dilations, groups)


def _split_shape(nodes: NodeList, weights: str, groups: int) -> str:
    """The shape (groups, c / groups, o / groups, kernel...) for weights (c, o / groups, kernel...)."""
    return nodes.op("Concat", nodes.ints([groups, -1]), nodes.op("Shape", weights, start=1), axis=0)


def _spread(nodes: NodeList, value: str, axis: int, rank: int, stride: int) -> str:
    """A value with stride - 1 zeros between its elements along an axis."""
    if stride == 1:
        return value
    swapped = list(range(rank))
    swapped[axis], swapped[-1] = swapped[-1], swapped[axis]
    turned = nodes.op("Transpose", value, perm=swapped)
    apart = nodes.op("Unsqueeze", turned, nodes.ints([rank]))
    apart = nodes.op("Pad", apart, nodes.ints([0] * (2 * rank + 1) + [stride - 1]))
    joined = nodes.op("Reshape", apart, nodes.ints([0] * (rank - 1) + [-1]))
    joined = nodes.op("Slice", joined, nodes.ints([0]), nodes.ints([1 - stride]), nodes.ints([rank - 1]))
    return nodes.op("Transpose", joined, perm=swapped)


def _average_pool(nodes: NodeList, inputs: Sequence[str], attributes: Attributes) -> str:
    """AveragePool: sums over the windows, divided by what of them counts."""
    kernel, strides, dilations, pads = _geometry(attributes)

    def sums(value: str) -> str:
        padded = _padded(nodes, value, pads)
        return _sum(nodes, [_window(nodes, padded, at, kernel, strides, dilations) for at in _positions(kernel)])

    if attributes.get("count_include_pad", 0) or not any(pads):
        return nodes.op("Div", sums(inputs[0]), nodes.floats(float(math.prod(kernel))))
    ones = nodes.op("Expand", nodes.floats(1.0), nodes.op("Shape", inputs[0]))
    return nodes.op("Div", sums(inputs[0]), sums(ones))


def _global(op_type: str) -> Rewrite:
    def rewrite(nodes: NodeList, inputs: Sequence[str], _attributes: Attributes) -> str:
        flat = nodes.op("Reshape", inputs[0], nodes.ints([0, 0, -1]))
        return nodes.op("Unsqueeze", nodes.op(op_type, flat, axes=[2], keepdims=1), nodes.ints([3]))

    return rewrite


def _local_response(nodes: NodeList, inputs: Sequence[str], attributes: Attributes) -> str:
    """LRN: sums of squares over neighbouring channels."""
    size = attributes["size"]
    before = (size - 1) // 2
    squares = nodes.op("Mul", inputs[0], inputs[0])
    squares = nodes.op("Pad", squares, nodes.ints([0, before, 0, 0, 0, size - 1 - before, 0, 0]))
    ends = [-(size - 1 - at) if at < size - 1 else _LAST for at in range(size)]
    parts = [
        nodes.op("Slice", squares, nodes.ints([at]), nodes.ints([end]), nodes.ints([1])) for at, end in enumerate(ends)
    ]
    scaled = nodes.op("Mul", _sum(nodes, parts), nodes.floats(attributes.get("alpha", 1e-4) / size))
    base = nodes.op("Add", scaled, nodes.floats(attributes.get("bias", 1.0)))
    return nodes.op("Mul", inputs[0], nodes.op("Pow", base, nodes.floats(-attributes.get("beta", 0.75))))


def _elu(nodes: NodeList, inputs: Sequence[str], attributes: Attributes) -> str:
    below = nodes.op("Exp", nodes.op("Min", inputs[0], nodes.floats(0.0)))
    below = nodes.op("Mul", nodes.op("Sub", below, nodes.floats(1.0)), nodes.floats(attributes.get("alpha", 1.0)))
    return nodes.op("Add", nodes.op("Relu", inputs[0]), below)


def _softplus(nodes: NodeList, inputs: Sequence[str], _attributes: Attributes) -> str:
    small = nodes.op("Exp", nodes.op("Neg", nodes.op("Abs", inputs[0])))
    return nodes.op("Add", nodes.op("Relu", inputs[0]), nodes.op("Log", nodes.op("Add", small, nodes.floats(1.0))))


_REWRITES: dict[str, Rewrite] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global("ReduceMean"),
    "GlobalMaxPool": _global("ReduceMax"),
    "LRN": _local_response,
    "Elu": _elu,
    "Softplus": _softplus,
}

"""Channels in another order, so that neighbouring products fit into 16 bits (``pairs``).

The order of a value's channels is nobody's business as long as all that make it and all that read it agree: the weights
of the convolutions before and behind it change places, and what lies between works channel by channel. Where two large
weights meet, one of them gets another neighbour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ristretto.graph.grids import Grid, exact_sums, grid_of
from ristretto.graph.known import format_of
from ristretto.graph.nodes import NodeList
from ristretto.graph.pairs import GREATEST, neighbours_fit

_SAME_GRID = frozenset({"FixedPoint", "Flatten", "Identity", "MaxPool", "Relu"})
_BY_CHANNEL = _SAME_GRID | {"Add", "AveragePool", "Clip", "GlobalAveragePool"}
"""Operations that compute each channel by itself, the order of channels that of their inputs."""


@dataclass
class _Tied:
    """Values whose channels have one order.

    Attributes:
        makers: the convolutions that make them.
        readers: the convolutions and products of matrices that read them.
        fixed: whether something wants the order as it is.
    """

    makers: list[onnx.NodeProto] = field(default_factory=list)
    readers: list[onnx.NodeProto] = field(default_factory=list)
    fixed: bool = False


def pair_channels(nodes: NodeList, wanted: Collection[str]) -> None:
    """Change the order of channels where large weights are neighbours, in place.

    Sums are added up in another order by that, so it is done only where all that read a value have exact sums.

    Args:
        nodes: a model with ``FixedPoint`` nodes.
        wanted: the values that are asked for.
    """
    model = _Model(nodes)
    for tied in model.tied(wanted):
        order = model.order(tied)
        if order is not None:
            model.bring(tied, order)


class _Model:
    def __init__(self, nodes: NodeList) -> None:
        self.nodes = nodes
        self.tensors = {tensor.name: tensor for tensor in nodes.initializers}
        self.grids: dict[str, Grid] = {}
        for node in nodes.nodes:
            if node.op_type == "FixedPoint":
                self.grids[node.output[0]] = grid_of(format_of(node))
            elif node.op_type in _SAME_GRID and node.input[0] in self.grids:
                self.grids[node.output[0]] = self.grids[node.input[0]]

    def array(self, name: str) -> NDArray[np.float32]:
        return numpy_helper.to_array(self.tensors[name])

    def linear(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a convolution or a product of matrices with constant weights and bias."""
        if node.op_type not in ("Conv", "Gemm") or any(name not in self.tensors for name in node.input[1:]):
            return False
        return node.op_type == "Gemm" or (_number(node, "group", 1) == 1 and len(self.tensors[node.input[1]].dims) == 4)

    def tied(self, wanted: Collection[str]) -> Iterator[_Tied]:
        """All values that may change their order, those that have one order together."""
        above: dict[str, str] = {}

        def root(name: str) -> str:
            while name in above:
                name = above[name]
            return name

        for node in filter(_by_channel, self.nodes.nodes):
            for name in _dynamic(node):
                first, second = root(name), root(node.output[0])
                if first != second:
                    above[first] = second
        found: dict[str, _Tied] = {}

        def of(name: str) -> _Tied:
            return found.setdefault(root(name), _Tied())

        made = {name for node in self.nodes.nodes for name in node.output}
        for node in self.nodes.nodes:
            linear = self.linear(node)
            if linear:
                of(node.input[0]).readers.append(node)
                of(node.output[0]).makers.append(node)
                of(node.output[0]).fixed |= node.op_type == "Gemm"
            elif not _by_channel(node):
                for name in (*node.input, *node.output):
                    of(name).fixed = True
            elif not made.issuperset(_dynamic(node)):
                of(node.output[0]).fixed = True
            for inner in _inner(node):
                of(inner).fixed = True
        for name in wanted:
            of(name).fixed = True
        yield from (tied for tied in found.values() if tied.makers and tied.readers and not tied.fixed)

    def order(self, tied: _Tied) -> NDArray[np.int64] | None:
        """A better order of channels; None where there is none, or where it would change sums."""
        counts = {self.tensors[node.input[1]].dims[0] for node in tied.makers}
        counts |= {self.by_input(node).shape[1] for node in tied.readers}
        if len(counts) != 1 or counts.pop() % 2:
            return None
        codes = []
        for node in tied.readers:
            grid, weights = self.grids.get(node.input[0]), self.by_input(node)
            bias = self.array(node.input[2]) if len(node.input) > 2 else None
            sums = exact_sums(grid, weights, bias) if grid is not None else None
            if sums is None:
                return None
            if node.op_type == "Conv":
                codes.append(np.moveaxis(sums.codes, 1, 0).reshape(weights.shape[1], -1))
        return paired(codes)

    def by_input(self, node: onnx.NodeProto) -> NDArray[np.float32]:
        """Weights (outputs, inputs, ...)."""
        weights = self.array(node.input[1])
        return weights.T if node.op_type == "Gemm" and not _number(node, "transB", 0) else weights

    def bring(self, tied: _Tied, order: NDArray[np.int64]) -> None:
        """Bring weights into an order."""
        for node in tied.makers:
            for position in range(1, len(node.input)):
                self.replace(node, position, self.array(node.input[position])[order])
        for node in tied.readers:
            weights = self.array(node.input[1])
            transposed = node.op_type == "Gemm" and not _number(node, "transB", 0)
            self.replace(node, 1, weights[order] if transposed else weights[:, order])

    def replace(self, node: onnx.NodeProto, position: int, array: NDArray[np.float32]) -> None:
        name = self.nodes.constant(array, f"{node.input[position].rpartition('/')[2]}_paired")
        self.tensors.setdefault(name, self.nodes.initializers[-1])
        node.input[position] = name


def paired(layers: Sequence[NDArray[np.int8]]) -> NDArray[np.int64] | None:
    """An order of channels in which no two neighbours have weights that are too large together.

    Args:
        layers: for each layer that reads them the codes of its weights (channels, weights).

    Returns:
        the channel for each place; None where it is that of today, or where none was found.
    """
    if not layers:
        return None
    order = np.arange(len(layers[0])).reshape(-1, 2)

    def fit(*channels: int) -> bool:
        return all(neighbours_fit(codes[list(channels)].T, GREATEST) for codes in layers)

    apart = [place for place, pair in enumerate(order) if not fit(*pair)]
    if not apart:
        return None
    for place in apart:
        for other in range(len(order)):
            (first, second), (third, fourth) = order[place], order[other]
            if other != place and fit(first, fourth) and fit(third, second):
                order[place, 1], order[other, 1] = fourth, second
                break
        else:
            return None
    return order.reshape(-1)


def _by_channel(node: onnx.NodeProto) -> bool:
    """Whether a node has the channels of its inputs, each by itself: positions of maxima count across channels."""
    if node.op_type == "Flatten" and _number(node, "axis", 1) != 1:
        return False
    return node.op_type in _BY_CHANNEL and len(node.output) == 1


def _dynamic(node: onnx.NodeProto) -> Sequence[str]:
    """The inputs of such a node that have channels."""
    return node.input[: 2 if node.op_type == "Add" else 1]


def _number(node: onnx.NodeProto, name: str, usual: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), usual)


def _inner(node: onnx.NodeProto) -> Iterator[str]:
    """What the subgraphs of a node read."""
    for item in node.attribute:
        if item.type == onnx.AttributeProto.GRAPH:
            for inner in item.g.node:
                yield from inner.input
                yield from _inner(inner)

"""What grids the values of a marked net lie on, found by going through its nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ristretto.graph.grids import Grid, added, grid_of, joined
from ristretto.graph.nodes import NodeList
from ristretto.numerics.formats import DynamicFixedPoint

MOVES = frozenset({"Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operations that give each element of their first input another place."""

_WIDEST = 24
"""Wider formats have values that a float32 does not hold."""


def format_of(node: onnx.NodeProto) -> DynamicFixedPoint:
    """The format of a ``FixedPoint`` node."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return DynamicFixedPoint(given["bw"], given["fl"], bool(given["signed"]))


class KnownGrids:
    """The grids of values, as far as nodes tell.

    Attributes:
        grids: by name of the value; others may put in what they know.
    """

    def __init__(self, nodes: NodeList, grids: dict[str, Grid]) -> None:
        self._nodes = nodes
        self.grids = grids
        self._constants: dict[str, onnx.TensorProto] = {}
        self._indexed = 0

    def visit(self, node: onnx.NodeProto) -> None:
        """Find out what a node makes of what is known of its inputs."""
        rule = _RULES.get(node.op_type)
        if rule is None or node.domain not in ("", "ristretto"):
            return
        grid = rule(self, node)
        if grid is not None:
            for name in node.output:
                self.grids.setdefault(name, grid)

    def exact(self, nodes: Sequence[onnx.NodeProto], results: Sequence[str]) -> bool:
        """Whether nodes, visited one after the other, give results that float32 holds exactly."""
        for node in nodes:
            self.visit(node)
        return all(name in self.grids for name in results)

    def constant(self, name: str) -> NDArray[Any] | None:
        """The content of a constant; None of any other value."""
        for tensor in self._nodes.initializers[self._indexed :]:
            self._constants[tensor.name] = tensor
        self._indexed = len(self._nodes.initializers)
        found = self._constants.get(name)
        return None if found is None else numpy_helper.to_array(found)

    def _all(self, node: onnx.NodeProto) -> list[Grid] | None:
        grids = [self.grids.get(name) for name in node.input]
        known = [grid for grid in grids if grid is not None]
        return known if len(known) == len(grids) else None

    def _rounded(self, node: onnx.NodeProto) -> Grid | None:
        fmt, source = format_of(node), self.grids.get(node.input[0])
        if source is not None and source.fits(fmt):
            return source
        return grid_of(fmt) if fmt.bw <= _WIDEST else None

    def _first(self, node: onnx.NodeProto) -> Grid | None:
        return self.grids.get(node.input[0])

    def _rectified(self, node: onnx.NodeProto) -> Grid | None:
        source = self._first(node)
        return None if source is None else source.clipped(0.0, float("inf"))

    def _clipped(self, node: onnx.NodeProto) -> Grid | None:
        source, ends = self._first(node), [self.constant(name) for name in node.input[1:]]
        if source is None or len(ends) != 2 or ends[0] is None or ends[1] is None:
            return None
        return source.clipped(float(ends[0]), float(ends[1]))

    def _joined(self, node: onnx.NodeProto) -> Grid | None:
        grids = self._all(node)
        if not grids:
            return None
        fl = max(grid.fl for grid in grids)
        if any(fl - grid.fl > _WIDEST for grid in grids):
            return None
        return joined([grid.finer(fl) for grid in grids])

    def _pooled(self, node: onnx.NodeProto) -> Grid | None:
        return self._first(node) if len(node.output) == 1 else None

    def _sum(self, node: onnx.NodeProto) -> Grid | None:
        grids = self._all(node)
        if grids is None or len(grids) != 2:
            return None
        first, second = grids
        if node.op_type == "Sub":
            second = Grid(second.fl, -second.high, -second.low)
        return added(first, second)


_RULES: Mapping[str, Callable[[KnownGrids, onnx.NodeProto], Grid | None]] = {
    "Add": KnownGrids._sum,
    "Clip": KnownGrids._clipped,
    "Concat": KnownGrids._joined,
    "FixedPoint": KnownGrids._rounded,
    "Max": KnownGrids._joined,
    "MaxPool": KnownGrids._pooled,
    "Relu": KnownGrids._rectified,
    "Sub": KnownGrids._sum,
    **dict.fromkeys(MOVES, KnownGrids._first),
}

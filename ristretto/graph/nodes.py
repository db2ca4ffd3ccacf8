"""A list of ONNX nodes and constants under construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OPSET = 17


class NodeList:
    """Collects nodes and initializers and hands out value names that are unique within the model.

    Constants of equal dtype, shape and bytes share one initializer when they are small. With ``double`` the constants
    are float64, for a model that ``graph.double`` turns into float64.
    """

    def __init__(self, *, double: bool = False) -> None:
        self.double = double
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._scope = ""

    def enter(self, scope: str) -> None:
        """Name what follows after a layer."""
        self._scope = scope

    def reserve(self, name: str) -> None:
        """Keep a name from being handed out."""
        self._taken.add(name)

    def unique(self, stem: str) -> str:
        """A name of the present scope that nobody has."""
        base = f"{self._scope}/{stem}" if self._scope else stem
        name, count = base, self._counts.get(base, 1)
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._taken.add(name)
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        return self.ops(op_type, *inputs, count=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """Append a node with several outputs and return their names."""
        outputs = [self.unique(op_type.lower()) for _ in range(count)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=outputs[0], **given))
        return outputs

    def constant(self, array: NDArray[Any], stem: str = "const") -> str:
        """Append an initializer and return its name; a small one that is there already is used again."""
        data = np.ascontiguousarray(array).reshape(np.shape(array))
        if self.double and data.dtype == np.float32:
            data = data.astype(np.float64)
        if data.nbytes > 256:
            return self._append(data, self.unique(stem))
        key = (data.dtype.str, data.shape, data.tobytes())
        if key not in self._shared:
            scope, self._scope = self._scope, ""
            self._shared[key] = self._append(data, self.unique("shared/" + stem))
            self._scope = scope
        return self._shared[key]

    def _append(self, data: NDArray[Any], name: str) -> str:
        self.initializers.append(numpy_helper.from_array(data, name))
        return name

    def floats(self, values: float | Sequence[float]) -> str:
        """A constant of the model's float type: a scalar, or a vector; within float32."""
        exact = np.asarray(values, np.float64)
        if self.double:
            return self.constant(exact)
        greatest = float(np.finfo(np.float32).max)
        return self.constant(np.where(np.isinf(exact), exact, np.clip(exact, -greatest, greatest)).astype(np.float32))

    def ints(self, values: int | Sequence[int]) -> str:
        """An int64 constant: a scalar, or a vector (shapes, axes, starts)."""
        return self.constant(np.asarray(values, np.int64))

    def body(
        self, name: str, inputs: Sequence[str], emit: Callable[[], Sequence[str]], *, loop: bool = False
    ) -> onnx.GraphProto:
        """A subgraph for a Loop or Scan; its constants live in the model around it.

        Args:
            name: the subgraph's name.
            inputs: its input values, floats.
            emit: appends its nodes and returns its outputs.
            loop: whether it is for a Loop, where the first two inputs are a number and a condition, and the first
                output is a condition.
        """
        outer, self.nodes = self.nodes, []
        outputs = emit()
        inner, self.nodes = self.nodes, outer
        given = [_shapeless(value) for value in inputs]
        made = [_shapeless(value) for value in outputs]
        if loop:
            kinds = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
            given[:2] = [helper.make_tensor_value_info(*pair, ()) for pair in zip(inputs, kinds, strict=False)]
            made[0] = helper.make_tensor_value_info(outputs[0], kinds[1], ())
        return helper.make_graph(inner, name, given, made)

    def rename(self, old: str, new: str, first_node: int) -> None:
        """Give the value made at or after node number ``first_node`` another name."""
        for node in self.nodes[first_node:]:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == old:
                        names[position] = new


def _shapeless(value: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None)

"""The marks of a net as QuantizeLinear and DequantizeLinear: the form in which onnxruntime finds integer kernels.

onnxruntime puts integer kernels in place of what stands between DequantizeLinear and QuantizeLinear, and merges
roundings that stand behind one another. Not all of that computes the same. Where it does not the rounding is spelled
in operations that it leaves alone (Clip, Mul, Round, Cast), so that the model is exact with its default options.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from ristretto.graph.fake_quant import emit_quantize, emit_scaled
from ristretto.graph.known import MOVES, KnownGrids, format_of
from ristretto.graph.marked import Marks
from ristretto.graph.nodes import OPSET, NodeList
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.rounding import Rounding

_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm"})

_PASSES = MOVES | {"Clip", "MaxPool", "Relu"}
"""Operations through which onnxruntime moves a rounding."""

_FARTHEST = 14
"""Integer kernels add two values of eight bits exactly if their scales lie so many bits apart, and that of the sum."""

_OPSET_16_BITS = 21

_DTYPES = {(8, True): np.int8, (8, False): np.uint8, (16, True): np.int16, (16, False): np.uint16}


@dataclass(frozen=True, slots=True)
class QdqWriter:
    """Writes marks as QuantizeLinear and DequantizeLinear.

    Attributes:
        widest: bits up to which values are stored as integers: 8, or 16 with opset 21.
        centred: whether signed values are stored without sign, 128 added: onnxruntime's integer kernels for x86 want
            all values of a layer so, and it changes them itself only where a value has one reader.
        spelled: where to note the values whose rounding is spelled.
    """

    widest: int = 8
    centred: bool = False
    spelled: list[str] = field(default_factory=list)

    def __call__(self, nodes: NodeList, wanted: Iterable[str], marks: Marks) -> None:
        """Write out all marks; see ``marked.Lowering``."""
        old, nodes.nodes = nodes.nodes, []
        if self.widest > 8 and _needs_16_bits(old, nodes):
            marks.opset = _OPSET_16_BITS
        writing = _Writing(self, nodes, marks, {name: node for node in old for name in node.output})
        for node in old:
            writing.visit(node)
        writing.name(wanted)
        if marks.opset > OPSET:
            _axes_as_inputs(nodes)


def _axes_as_inputs(nodes: NodeList) -> None:
    """Bring reductions to opset 18 and later, where their axes are an input."""
    for node in nodes.nodes:
        for attribute in list(node.attribute):
            if node.op_type.startswith("Reduce") and attribute.name == "axes":
                node.input.append(nodes.ints(list(attribute.ints)))
                node.attribute.remove(attribute)


def _needs_16_bits(old: Iterable[onnx.NodeProto], nodes: NodeList) -> bool:
    """Whether a value or a constant is to be stored in 16 bits, which QuantizeLinear knows since opset 21."""
    wide = any(node.op_type == "FixedPoint" and 8 < format_of(node).bw <= 16 for node in old)
    return wide or any(tensor.data_type == onnx.TensorProto.INT16 for tensor in nodes.initializers)


class _Writing:
    """Goes through the nodes in order."""

    def __init__(self, writer: QdqWriter, nodes: NodeList, marks: Marks, makers: dict[str, onnx.NodeProto]) -> None:
        self.writer = writer
        self.nodes = nodes
        self.known = KnownGrids(nodes, marks.grids)
        # onnxruntime 1.32 refuses models of opset 21 in which it moved a QuantizeLinear to signed codes of 8 bits.
        self.centred = writer.centred or marks.opset > OPSET
        self.makers = makers
        self.names: dict[str, str] = {}
        self.points: dict[str, DynamicFixedPoint] = {}
        self.direct: set[str] = set()

    def visit(self, node: onnx.NodeProto) -> None:
        self.known.visit(node)
        node.input[:] = [self.names.get(name, name) for name in node.input]
        if node.op_type == "FixedPoint":
            self.round(node)
            return
        if self.changes_nothing(node):
            self.names[node.output[0]] = node.input[0]
            return
        if node.op_type in _LINEAR:
            self.store_again(node, 0)
        elif node.op_type == "Add" and all(name in self.points for name in node.input):
            for position in range(len(node.input)):
                self.store_again(node, position)
        self.nodes.nodes.append(node)
        if node.op_type in _PASSES and node.input[0] in self.points:
            self.points.update(dict.fromkeys(node.output, self.points[node.input[0]]))

    def changes_nothing(self, node: onnx.NodeProto) -> bool:
        """Whether a Relu or Clip gets values that it leaves alone."""
        if node.op_type not in ("Relu", "Clip"):
            return False
        before = self.known.grids.get(node.input[0])
        return before is not None and before == self.known.grids.get(node.output[0])

    def store_again(self, node: onnx.NodeProto, position: int) -> None:
        """Store a moved value once more before a layer for integer kernels reads it: they want codes there."""
        source = node.input[position]
        fmt = self.points.get(source)
        if fmt is None or source in self.direct:
            return
        self.nodes.enter(node.output[0])
        node.input[position] = stored = self.nodes.unique("stored")
        self._store(source, stored, fmt)

    def name(self, wanted: Iterable[str]) -> None:
        """Let the wanted values have their own names again: an Identity would keep kernels for integers away."""
        names = list(dict.fromkeys(wanted))
        made = {name for node in self.nodes.nodes for name in node.output}
        for name in names:
            held = self.names.get(name)
            if held in made and held not in names:
                self.nodes.rename(held, name, 0)
                self.names = {key: name if value == held else value for key, value in self.names.items()}
            elif held is not None and held != name:
                self.nodes.nodes.append(helper.make_node("Identity", [held], [name], name=name))

    def round(self, node: onnx.NodeProto) -> None:
        fmt, source, output = format_of(node), node.input[0], node.output[0]
        grid = self.known.grids.get(source)
        fits = grid is not None and grid.fits(fmt)
        stored, point = fmt.bw <= self.writer.widest, self.points.get(source)
        # Codes of another scale must not reach a layer of products: its bias is at the scale of this one.
        same = point is None if not stored else source in self.direct and self._alike(point, fmt)
        if fits and same:
            self.names[output] = source
            return
        self.nodes.enter(output)
        if not stored:
            first = len(self.nodes.nodes)
            made = emit_quantize(self.nodes, source, fmt, Rounding.HALF_EVEN)
            self.nodes.rename(made, output, first)
            return
        self._store(source, output, fmt)

    def _store(self, source: str, output: str, fmt: DynamicFixedPoint) -> None:
        nodes, bits = self.nodes, 8 if fmt.bw <= 8 else 16
        centred = self.centred and fmt.signed and bits == 8
        dtype = np.dtype(_DTYPES[bits, fmt.signed and not centred])
        offset = 128 if centred else 0
        scale, zero = nodes.floats(fmt.step), nodes.constant(np.asarray(offset, dtype), "zero")
        narrow = fmt.bw < bits
        if self.is_spelled(source, fmt):
            self.writer.spelled.append(output)
            clipped = nodes.op("Clip", source, nodes.floats(fmt.min), nodes.floats(fmt.max))
            whole = nodes.op("Round", emit_scaled(nodes, clipped, fmt.fl))
            if offset:
                whole = nodes.op("Add", whole, nodes.floats(offset))
            codes = nodes.op("Cast", whole, to=helper.np_dtype_to_tensor_dtype(dtype))
        elif bits == 16:
            # onnxruntime has no Clip for 16 bits; the ends are on the grid, so before rounding is the same.
            ends = nodes.floats(fmt.min), nodes.floats(fmt.max)
            clipped = nodes.op("Clip", source, *ends) if narrow else source
            codes = nodes.op("QuantizeLinear", clipped, scale, zero)
        else:
            codes = nodes.op("QuantizeLinear", source, scale, zero)
            if narrow:
                least, most = (np.asarray(code + offset, dtype) for code in (fmt.min_code, fmt.max_code))
                codes = nodes.op("Clip", codes, nodes.constant(least), nodes.constant(most))
        nodes.nodes.append(helper.make_node("DequantizeLinear", [codes, scale, zero], [output], name=output))
        self.points[output] = fmt
        self.direct.add(output)

    def is_spelled(self, source: str, fmt: DynamicFixedPoint) -> bool:
        """Whether onnxruntime might compute the rounding of a value together with what makes it, and otherwise."""
        point = self.points.get(source)
        if point is not None:
            return not self._alike(point, fmt)
        maker = self.makers.get(source)
        if maker is None or maker.op_type == "Concat":
            return False
        points = [self.points[name] for name in maker.input if name in self.points]
        if maker.op_type in _LINEAR:
            weights = self.makers.get(maker.input[1])
            return bool(points) and (weights is None or weights.op_type != "DequantizeLinear")
        if maker.op_type == "Add" and source in self.known.grids:
            fls = [fmt.fl, *(point.fl for point in points)]
            return bool(points) and max(fls) - min(fls) > _FARTHEST
        return bool(points)

    @staticmethod
    def _alike(first: DynamicFixedPoint | None, second: DynamicFixedPoint) -> bool:
        """Whether two formats have codes of the same meaning, so that one rounding may be merged with the other."""
        if first is None:
            return False
        return (first.fl, first.signed, first.bw > 8) == (second.fl, second.signed, second.bw > 8)

"""The forms in which a value may be there: as floats, as codes of eight bits, with its channels first or last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ristretto.graph.columns import as_matrix, emit_columns
from ristretto.graph.grids import Grid, IntegerSums, sums_on_grid
from ristretto.graph.nodes import NodeList
from ristretto.numerics.formats import DynamicFixedPoint

CONTRIB = "com.microsoft"

Layout = Literal["first", "last"]
"""Where the channels are: (n, c, h, w), or (n, h, w, c). What has not four axes counts as channels first."""

_PERM = {"first": (0, 3, 1, 2), "last": (0, 2, 3, 1)}

BLOCK = 16
"""onnxruntime's float convolutions work on blocks of so many channels, and move them there and back for free."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """A rounding of a float that has not been appended yet.

    Attributes:
        value: what is rounded.
        fmt: the format.
        blocks: whether it may be done in blocks of channels.
        clipped: whether the value lies between the format's ends already.
        sealed: whether nothing may be added to it before it is done.
        whole: whether the value is a multiple of the format's step already, and only has to be saturated.
    """

    value: str
    fmt: DynamicFixedPoint
    blocks: bool
    clipped: bool = False
    sealed: bool = False
    whole: bool = False


@dataclass
class Value:
    """What is known of a value, and where it is.

    Attributes:
        grid: the values that it may have.
        channels: how many, for a value of four axes that a convolution made.
        floats: whether it is there as a float under its own name.
        floats_last: the name under which it is there as a float with its channels last.
        codes: the names under which it is there as codes.
        offset: what was added to the codes.
        node: the node that makes it as a float, while that waits.
        rounding: the rounding that makes it as a float, while that waits.
        sum_of_blocks: whether it is the sum of values that have their channels in blocks.
        sums: what ``node`` multiplies, where products of integers may take its place.
        sides: height and width of what it reads then.
    """

    grid: Grid | None = None
    channels: int | None = None
    floats: bool = False
    floats_last: str = ""
    codes: dict[Layout, str] = field(default_factory=dict)
    offset: int = 0
    node: onnx.NodeProto | None = None
    rounding: Rounding | None = None
    sum_of_blocks: bool = False
    sums: IntegerSums | None = None
    sides: tuple[int, int] = (0, 0)

    @property
    def greatest(self) -> int:
        """The greatest code, of a value that has codes."""
        assert self.grid is not None
        return self.grid.high + self.offset

    @property
    def blocked(self) -> bool:
        """Whether float convolutions have it in blocks of channels."""
        return self.channels is not None and self.channels % BLOCK == 0


class Forms:
    """All values of a model under construction, each brought into the form that is needed when it is needed."""

    def __init__(self, nodes: NodeList) -> None:
        self.nodes = nodes
        self.values: dict[str, Value] = {}
        self.same: dict[str, str] = {}
        self._constants = {tensor.name: tensor for tensor in nodes.initializers}

    def source(self, name: str) -> str:
        """The value that a value is the same as."""
        return self.same.get(name, name)

    def of(self, name: str) -> Value:
        """What is known of a value."""
        return self.values.setdefault(self.source(name), Value())

    def array(self, name: str) -> NDArray[Any] | None:
        """The content of a constant; None for a value that is none."""
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def alias(self, name: str, other: str) -> None:
        """Let a value be the same as another."""
        self.same[name] = self.source(other)

    def append(self, node: onnx.NodeProto) -> None:
        """Append a node as it is, its inputs as floats."""
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        for position, name in enumerate(node.input):
            kept.input[position] = self.floats(name) if name else name
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                for name in {name for inner in attribute.g.node for name in inner.input}:
                    self.named(name)
        self.nodes.nodes.append(kept)

    def make(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Append a node that makes a value of a given name."""
        self.nodes.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))

    def named(self, name: str) -> None:
        """Make sure that a value is there as a float under its own name."""
        found = self.floats(name)
        if found != name:
            self.make("Identity", [found], name)

    def floats(self, name: str) -> str:
        """The name of a value as a float, channels first."""
        source = self.source(name)
        value = self.of(source)
        if value.floats:
            return source
        value.floats = True
        self.nodes.enter(source)
        if value.node is not None and not value.floats_last:
            self.append(value.node)
        elif value.rounding is not None:
            self._round(source, value, value.rounding)
        elif value.floats_last or (value.codes and "first" not in value.codes and value.blocked):
            # The convolution that reads it takes the channels from where they are.
            self.make("Transpose", [self.floats_last(source)], source, perm=_PERM["first"])
        elif value.codes:
            assert value.grid is not None
            inputs = [self.codes(source, "first"), self.scale(value.grid.fl), self.zero(value.offset)]
            self.make("DequantizeLinear", inputs, source)
        return source

    def floats_last(self, name: str) -> str:
        """The name of a value of four axes as a float with its channels last."""
        source = self.source(name)
        value = self.of(source)
        if not value.floats_last:
            if value.codes:
                assert value.grid is not None
                inputs = [self.codes(source, "last"), self.scale(value.grid.fl), self.zero(value.offset)]
                value.floats_last = self.nodes.op("DequantizeLinear", *inputs)
            elif value.node is not None and value.sums is not None and not value.floats:
                value.floats_last = self._multiplied(value.node, value.sums, value.sides)
            else:
                value.floats_last = self.nodes.op("Transpose", self.floats(source), perm=_PERM["last"])
        return value.floats_last

    def _multiplied(self, node: onnx.NodeProto, sums: IntegerSums, sides: tuple[int, int]) -> str:
        """Append a convolution as a product of matrices of integers, and return the name of its sums as floats."""
        source = self.of(node.input[0])
        assert source.grid is not None
        codes, zero = self.codes(node.input[0], "last"), self.zero(source.offset)
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        columns = emit_columns(self.nodes, codes, zero, (*sides, sums.codes.shape[1]), sums.codes.shape[2:], given)
        matrix = self.nodes.constant(as_matrix(sums.codes), "codes")
        scales = self.nodes.floats([math.ldexp(1.0, -int(fl)) for fl in sums.fls])
        inputs = [columns, matrix, self.scale(source.grid.fl), scales, zero, "", *node.input[2:]]
        return self.nodes.op("MatMulIntegerToFloat", *inputs, domain=CONTRIB)

    def codes(self, name: str, layout: Layout) -> str:
        """The name of a value, which is there as codes, in a layout."""
        value = self.of(name)
        if layout not in value.codes:
            ((_, other),) = value.codes.items()
            value.codes[layout] = self.nodes.op("Transpose", other, perm=_PERM[layout])
        return value.codes[layout]

    def encoded(self, name: str, layout: Layout, fmt: DynamicFixedPoint, offset: int) -> str:
        """Append the rounding of a float to codes, and return their name."""
        floats = self.floats(name) if layout == "first" else self.floats_last(name)
        return self.nodes.op("QuantizeLinear", floats, self.scale(fmt.fl), self.zero(offset))

    def scale(self, fl: int) -> str:
        """The constant by which codes are multiplied."""
        return self.nodes.floats(math.ldexp(1.0, -fl))

    def zero(self, offset: int) -> str:
        """The code of the value 0."""
        return self.nodes.constant(np.asarray(offset, np.uint8))

    def clipped(self, name: str, fmt: DynamicFixedPoint, output: str = "") -> str:
        """Append the saturation of a float, and return its name."""
        output = output or self.nodes.unique("clip")
        self.make("Clip", [self.floats(name), *map(self.nodes.floats, (fmt.min, fmt.max))], output)
        return output

    def made_in_blocks(self, name: str) -> bool:
        """Whether a value is made by a float convolution, or a sum of such, that has its channels in blocks."""
        value = self.of(name)
        return value.blocked and (value.node is not None or value.sum_of_blocks)

    def on_grid(self, name: str, fmt: DynamicFixedPoint) -> bool:
        """Whether a value is made by a Conv or Gemm whose sums are multiples of a format's step, however large."""
        node = self.of(name).node
        if node is None or fmt.bw > 24:
            return False
        inputs, weights = self.of(node.input[0]).grid, self.array(node.input[1])
        bias = self.array(node.input[2]) if node.input[2:] else None
        return inputs is not None and weights is not None and sums_on_grid(inputs, weights, bias, fmt.fl)

    def in_blocks(self, name: str) -> bool:
        """Whether a value, once it is a float, has its channels in blocks."""
        rounding = self.of(name).rounding
        return self.made_in_blocks(name) if rounding is None else self._by_addition(rounding)

    def _by_addition(self, rounding: Rounding) -> bool:
        made = rounding.clipped or self.made_in_blocks(rounding.value)
        return rounding.blocks and self.of(rounding.value).blocked and made

    def _round(self, output: str, value: Value, rounding: Rounding) -> None:
        """Append a rounding of a float, as a float: to more than 16 bits where it is whole, or done by addition."""
        if rounding.whole:
            self.clipped(rounding.value, rounding.fmt, output)
            return
        if self._by_addition(rounding):
            self._round_by_addition(output, rounding)
            return
        fmt = rounding.fmt
        kind = (np.int8 if fmt.signed else np.uint8) if fmt.bw <= 8 else (np.int16 if fmt.signed else np.uint16)
        floats = self.floats(rounding.value)
        if fmt.bw not in (8, 16) and not rounding.clipped:
            floats = self.clipped(rounding.value, fmt)
        point = [self.scale(fmt.fl), self.nodes.constant(np.asarray(0, kind))]
        codes = self.nodes.op("QuantizeLinear", floats, *point, domain=CONTRIB)
        self.make("DequantizeLinear", [codes, *point], output, domain=CONTRIB)

    def _round_by_addition(self, output: str, rounding: Rounding) -> None:
        """Append two additions after which only multiples of the step are left, half to even.

        The sum of a float32 and 1.5 * 2**23 steps has the step as its last bit. As a BatchNormalization that neither
        scales nor centres, onnxruntime adds without moving the channels out of their blocks.

        The convolution that makes the value saturates it in passing. Sums are saturated after the first addition,
        which comes to the same, as it keeps the order of values. A convolution that saturates is one that onnxruntime
        cannot add a number to.
        """
        fmt, source = rounding.fmt, self.of(rounding.value)
        large = math.ldexp(1.5, 23 - fmt.fl)
        late = source.sum_of_blocks and not rounding.clipped
        early = self.floats(rounding.value) if late or rounding.clipped else self.clipped(rounding.value, fmt)
        raised = self._added(early, large, source.channels or 0, (fmt.min + large, fmt.max + large) if late else None)
        ends = (fmt.min, fmt.max) if rounding.sealed else None
        self._added(raised, -large, source.channels or 0, ends, output)

    def _added(
        self, name: str, number: float, channels: int, ends: tuple[float, float] | None, output: str | None = None
    ) -> str:
        """Append the addition of a number, channels in blocks or not, and saturation."""
        numbers, output = self.nodes.floats([number] * channels), output or self.nodes.unique("added")
        if ends is None:
            one, zero = self.nodes.floats([1.0] * channels), self.nodes.floats([0.0] * channels)
            self.make("BatchNormalization", [name, one, numbers, zero, one], output, epsilon=0.0)
        else:
            ones = self.nodes.constant(np.ones((channels, 1, 1, 1), np.float32))
            added = self.nodes.op("Conv", name, ones, numbers, group=channels)
            self.make("Clip", [added, *map(self.nodes.floats, ends)], output)
        return output

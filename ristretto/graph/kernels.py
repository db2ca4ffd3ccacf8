"""The same model with faster kernels: values of eight bits as integers, results bit for bit those of float32.

A ``FixedPoint`` node stands for rounding to a fixed-point format, half to even. What it becomes depends on what is
known of the value (``grids``): nothing where rounding changes nothing, or a saturation alone; part of an integer
convolution where its sums are proved to be exact in float32 as well, so that both give the same; else the rounding of
a float (``forms``). Values of eight bits flow as codes without sign, those of signed formats with 128 added, as long
as nothing but moving, comparing or multiplying with weights is done with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from ristretto.caffe.netspec import Shape
from ristretto.graph.columns import pays
from ristretto.graph.fake_quant import emit_quantize
from ristretto.graph.forms import CONTRIB, Forms, Layout, Rounding, Value
from ristretto.graph.grids import Grid, IntegerSums, added, exact_sums, grid_of, integer_weights, joined
from ristretto.graph.nodes import NodeList
from ristretto.graph.pairing import pair_channels
from ristretto.graph.pairs import GREATEST, pairs_fit, stored_for_pairs
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.rounding import Rounding as RoundingMode

DOMAIN = "ristretto"

_MOVES = frozenset({"Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operations that give each element of their first input another place."""

_FAST_BW, _ADDED_BW, _FAST_SHIFT = 16, 22, 100
"""Roundings to more bits, and scales beyond 2**100, are left to plain nodes; up to the second width numbers can be
rounded by addition."""

_MANY_INPUTS, _MORE_INPUTS = 64, 192
"""A convolution of fewer inputs per output is as fast on floats; the second where weights have no sign."""


def emit_fixed_point(nodes: NodeList, value: str, fmt: DynamicFixedPoint) -> str:
    """Append a node that stands for rounding a value to a format, half to even."""
    return nodes.op("FixedPoint", value, domain=DOMAIN, bw=fmt.bw, fl=fmt.fl, signed=int(fmt.signed))


Kernels = Literal["plain", "rounding", "pairs", "integers"]
"""Plain nodes, or faster ones: roundings alone, also products of integers, two of which have to fit into 16 bits
(``pairs``), or products of integers without such a limit."""


def with_kernels(nodes: NodeList, wanted: Iterable[str], kernels: Kernels, shapes: Mapping[str, Shape]) -> None:
    """Replace the nodes of a model by faster ones that compute the same.

    Args:
        nodes: the model; ``FixedPoint`` nodes are gone afterwards.
        wanted: the values that are asked for.
        kernels: what may be used; all but plain nodes.
        shapes: those of the net's values.
    """
    kept = list(wanted)
    if kernels == "pairs":
        pair_channels(nodes, kept)
    old, nodes.nodes = nodes.nodes, []
    rewriter = _Rewriter(nodes, old, kept, kernels, shapes)
    for node in old:
        rewriter.visit(node)
    for name in kept:
        rewriter.forms.named(name)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _groups(node: onnx.NodeProto) -> int:
    return int(_attributes(node).get("group", 1))


def _format(node: onnx.NodeProto) -> DynamicFixedPoint:
    given = _attributes(node)
    return DynamicFixedPoint(given["bw"], given["fl"], bool(given["signed"]))


class _Rewriter:
    """Goes through the nodes in order; what may become something faster waits until it is needed as a float.

    A handler takes over a node, or says by False that it is to be appended as it is.
    """

    def __init__(
        self,
        nodes: NodeList,
        old: Sequence[onnx.NodeProto],
        wanted: Sequence[str],
        kernels: Kernels,
        shapes: Mapping[str, Shape],
    ) -> None:
        self.nodes = nodes
        self.forms = Forms(nodes)
        self.integers = kernels in ("pairs", "integers")
        self.pairs = kernels == "pairs"
        self.sums: dict[str, IntegerSums] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        self.makers = {name: node for node in old for name in node.output}
        self.wanted = set(wanted)
        self.shapes = shapes
        self.narrow: dict[tuple[str, int], bool] = {}
        for node in old:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def visit(self, node: onnx.NodeProto) -> None:
        """Take over one node, as it is or as another."""
        handler = _HANDLERS.get(node.op_type)
        if handler is not None and len(node.output) == 1 and handler(self, node):
            return
        self.forms.append(node)
        for name in node.output:
            self.forms.of(name).floats = True

    def read_by(self, name: str) -> list[onnx.NodeProto]:
        return self.readers.get(name, [])

    def read_once(self, name: str) -> bool:
        return len(self.read_by(name)) == 1 and name not in self.wanted

    def feeds_integers(self, name: str) -> bool:
        """Whether some integer operation reads a value, through what only moves or compares."""
        return any(
            self.becomes_integer(node)
            or (node.op_type in _PASSES and any(self.feeds_integers(output) for output in node.output))
            for node in self.read_by(name)
        )

    def becomes_integer(self, node: onnx.NodeProto) -> bool:
        """Whether a node is one that integer kernels know, as far as can be seen before it is reached."""
        weights = self.forms.array(node.input[1]) if node.op_type in ("Conv", "Gemm") else None
        if not self.integers or weights is None:
            return False
        if node.op_type == "Conv" and (weights.ndim != 4 or weights[0].size < _MANY_INPUTS):
            return False
        if self.rounded_to(node.output[0]) is None:
            return False
        return self.of_eight_bits(node.input[1], weights, _groups(node))

    def of_eight_bits(self, name: str, weights: NDArray[np.float32], groups: int) -> bool:
        """Whether weights are codes of eight bits that are multiplied fast, whatever it is that they multiply."""
        if (name, groups) not in self.narrow:
            found = integer_weights(weights)
            slow = self.pairs and weights.ndim == 4 and weights[0].size < _MORE_INPUTS
            self.narrow[name, groups] = found is not None and (
                not slow or pairs_fit(found[0], GREATEST, grouped=groups > 1)
            )
        return self.narrow[name, groups]

    def rounded_to(self, name: str) -> DynamicFixedPoint | None:
        """The format of at most eight bits that a value is rounded to before anything else is done with it."""
        if not self.read_once(name) or self.read_by(name)[0].op_type != "FixedPoint":
            return None
        fmt = _format(self.read_by(name)[0])
        return fmt if fmt.bw <= 8 and abs(fmt.fl) <= _FAST_SHIFT else None

    def may_be_in_blocks(self, name: str, *, rounded: bool = False) -> bool:
        """Whether all that read a value compute the same when its channels come in blocks.

        Averages would be added up in another order, and onnxruntime adds a number in the midst of a convolution.

        Args:
            name: the value.
            rounded: whether it is made by a rounding, and not by the convolution itself.
        """
        return all(
            node.op_type == "Conv"
            or (node.op_type in _PASSES and all(self.may_be_in_blocks(out, rounded=rounded) for out in node.output))
            or (node.op_type == "Add" and rounded and self.other_maker(name, node) not in (None, "Conv"))
            for node in self.read_by(name)
        )

    def other_maker(self, name: str, node: onnx.NodeProto) -> str | None:
        """What makes the other operand of a sum."""
        others = [other for other in node.input if other != name and other in self.makers]
        return self.makers[others[0]].op_type if others else None

    def may_be_summed_up(self, name: str, fmt: DynamicFixedPoint) -> bool:
        """Whether sums are exact even if what is added to a value comes in before its rounding is done."""
        return all(
            (node.op_type != "Add" or not self.read_once(name) or self.exact_on_the_way(name, fmt, node))
            and (node.op_type not in _PASSES or all(self.may_be_summed_up(output, fmt) for output in node.output))
            for node in self.read_by(name)
        )

    def exact_on_the_way(self, name: str, fmt: DynamicFixedPoint, node: onnx.NodeProto) -> bool:
        """Whether the other operand is on the grid of this one, and small enough for a rounding by addition."""
        (other,) = [other for other in node.input if other != name]
        maker = self.makers[other]
        grid = grid_of(_format(maker)) if maker.op_type == "FixedPoint" else self.forms.of(other).grid
        if grid is None or not 0 <= fmt.fl - grid.fl <= _ADDED_BW:
            return False
        return grid.finer(fmt.fl).magnitude + grid_of(fmt).magnitude <= 1 << _ADDED_BW

    def only_added(self, name: str, grid: Grid | None) -> bool:
        """Whether nothing but exact additions is done with a value: those may be done in a convolution as well."""
        return all(
            node.op_type == "Add"
            and added(*(grid if other == name else self.forms.of(other).grid for other in node.input)) is not None
            for node in self.read_by(name)
        )

    def fixed_point(self, node: onnx.NodeProto) -> bool:
        fmt, output = _format(node), node.output[0]
        source = self.forms.of(node.input[0])
        if source.grid is not None and source.grid.fits(fmt):
            self.unchanged(node)
            return True
        self.nodes.enter(output)
        grid, name = grid_of(fmt), self.forms.source(node.input[0])
        value = self.forms.values[output] = Value(grid if fmt.bw <= 24 else None, source.channels)
        blocks = self.may_be_in_blocks(output, rounded=True)
        by_addition = blocks and fmt.bw <= _ADDED_BW and self.forms.made_in_blocks(name)
        whole = self.forms.on_grid(name, fmt)
        if (fmt.bw > _FAST_BW and not (by_addition or whole)) or abs(fmt.fl) > _FAST_SHIFT:
            first = len(self.nodes.nodes)
            made = emit_quantize(self.nodes, self.forms.floats(name), fmt, RoundingMode.HALF_EVEN)
            self.nodes.rename(made, output, first)
            value.floats = True
        elif name in self.sums:
            self.encode(value, self.integer_operation(name), "last" if source.channels else "first", grid)
        elif self.integers and grid.offset is not None and self.feeds_integers(output):
            layout: Layout = "last" if source.floats_last or source.blocked else "first"
            self.encode(value, self.forms.encoded(name, layout, fmt, grid.offset), layout, grid)
        else:
            sealed = blocks and not self.may_be_summed_up(output, fmt)
            value.rounding = Rounding(name, fmt, blocks, sealed=sealed, whole=whole)
        return True

    def unchanged(self, node: onnx.NodeProto) -> None:
        """Let the result of a node be its input, kept apart from a convolution where the readers would change by it."""
        output = node.output[0]
        source = self.forms.of(node.input[0])
        known = source.channels is None or source.codes or source.rounding is not None
        if known or self.may_be_in_blocks(output) or self.only_added(output, source.grid):
            self.forms.alias(output, node.input[0])
            return
        self.forms.make("Reshape", [self.forms.floats(node.input[0]), self.nodes.ints([0, 0, 0, -1])], output)
        self.forms.values[output] = Value(source.grid, floats=True)

    def encode(self, value: Value, codes: str, layout: Layout, grid: Grid) -> None:
        """Note codes, which may lie beyond the ends of the grid, as the form of a value."""
        value.offset = grid.offset or 0
        value.codes = {layout: self.saturated(codes, grid, value.offset)}

    def saturated(self, codes: str, grid: Grid, offset: int) -> str:
        ends = grid.low + offset, grid.high + offset
        return codes if ends == (0, 255) else self.nodes.op("Clip", codes, *map(self.forms.zero, ends))

    def integer_operation(self, name: str) -> str:
        """Append a Conv or Gemm on codes that gives codes, and return their name."""
        node, sums = self.forms.values[name].node, self.sums[name]
        assert node is not None
        fmt = self.rounded_to(name)
        assert fmt is not None
        source = self.forms.of(node.input[0])
        assert source.grid is not None
        layout: Layout = "last" if node.op_type == "Conv" else "first"
        one = len(set(sums.fls)) == 1
        scales = np.ldexp(np.float32(1.0), -sums.fls).astype(np.float32)
        codes, added = sums.codes, 0
        if self.pairs:
            codes, added = stored_for_pairs(codes, source.greatest, grouped=_groups(node) > 1)
        zero = np.full(() if one else len(scales), added, codes.dtype)
        if node.op_type == "Gemm" and not _attributes(node).get("transB", 0):
            codes = np.ascontiguousarray(codes.T)
        inputs = [
            self.forms.codes(node.input[0], layout),
            self.forms.scale(source.grid.fl),
            self.forms.zero(source.offset),
            self.nodes.constant(codes, "codes"),
            self.nodes.constant(scales[0] if one else scales),
            self.nodes.constant(zero),
        ]
        point = [self.forms.scale(fmt.fl), self.forms.zero(grid_of(fmt).offset or 0)]
        bias = [] if sums.bias is None else [self.nodes.constant(sums.bias, "bias_codes")]
        given = _attributes(node)
        if node.op_type == "Conv":
            return self.nodes.op("QLinearConv", *inputs, *point, *bias, domain=CONTRIB, channels_last=1, **given)
        return self.nodes.op("QGemm", *inputs, *(bias or [""]), *point, domain=CONTRIB, **given)

    def linear(self, node: onnx.NodeProto) -> bool:
        """Let a Conv or Gemm wait, with what is known of its sums."""
        output, source = node.output[0], self.forms.of(node.input[0])
        weights = self.forms.array(node.input[1])
        bias = self.forms.array(node.input[2]) if len(node.input) > 2 else None
        if weights is None or (len(node.input) > 2 and bias is None):
            return False
        channels = weights.shape[0] if node.op_type == "Conv" and weights.ndim == 4 else None
        value = self.forms.values[output] = Value(channels=channels, node=node)
        if source.grid is None:
            return True
        if node.op_type == "Gemm" and not _attributes(node).get("transB", 0):
            weights = weights.T
        sums = exact_sums(source.grid, weights, bias)
        if sums is not None:
            value.grid = sums.grid
            if source.codes and self.becomes_integer(node):
                self.sums[output] = sums
            elif source.codes and self.multiplies(node, sums, source.greatest):
                value.sums, value.sides = sums, self.sides(node.input[0])
        return True

    def multiplies(self, node: onnx.NodeProto, sums: IntegerSums, greatest: int) -> bool:
        """Whether a convolution of results wider than eight bits is as fast as a product of matrices of integers."""
        if not pays(sums.codes, _attributes(node)) or self.sides(node.input[0]) == (0, 0):
            return False
        return not self.pairs or pairs_fit(sums.codes, greatest)

    def sides(self, name: str) -> tuple[int, int]:
        """Height and width of a value of four axes; zeros where they are not known."""
        while name not in self.shapes and name in self.makers and self.makers[name].op_type in _KEEPS_SHAPES:
            name = self.makers[name].input[0]
        shape = self.shapes.get(name, ())
        return shape[2:] if len(shape) == 4 else (0, 0)

    def move(self, node: onnx.NodeProto) -> bool:
        source, output = self.forms.of(node.input[0]), node.output[0]
        if node.op_type == "Identity":
            self.forms.alias(output, node.input[0])
            return True
        value = self.forms.values[output] = Value(source.grid)
        if not source.codes:
            return False
        return self.on_codes(value, node, [self.forms.codes(node.input[0], "first"), *node.input[1:]], source.offset)

    def on_codes(
        self,
        value: Value,
        node: onnx.NodeProto,
        inputs: Sequence[str],
        offset: int,
        layout: Layout = "first",
        **more: Any,
    ) -> bool:
        """Append a node that does to codes what it does to floats."""
        self.nodes.enter(node.output[0])
        value.offset = offset
        value.codes = {layout: self.nodes.op(node.op_type, *inputs, **{**_attributes(node), **more})}
        return True

    def rectify(self, node: onnx.NodeProto) -> bool:
        return self.clip_to(node, 0.0, math.inf)

    def clip(self, node: onnx.NodeProto) -> bool:
        ends = [self.forms.array(name) for name in node.input[1:]]
        if len(ends) != 2 or ends[0] is None or ends[1] is None:
            return False
        return self.clip_to(node, float(ends[0]), float(ends[1]))

    def clip_to(self, node: onnx.NodeProto, low: float, high: float) -> bool:
        source, output = self.forms.of(node.input[0]), node.output[0]
        grid = source.grid.clipped(low, high) if source.grid is not None else None
        if grid is not None and grid == source.grid:
            self.forms.alias(output, node.input[0])
            return True
        value = self.forms.values[output] = Value(grid, source.channels)
        if source.codes and grid is not None:
            self.nodes.enter(output)
            value.offset = source.offset
            value.codes = {at: self.saturated(codes, grid, source.offset) for at, codes in source.codes.items()}
            return True
        return False

    def pool(self, node: onnx.NodeProto) -> bool:
        """A maximum of rounded values is the rounding of the maximum, which is less to round."""
        source, output = self.forms.of(node.input[0]), node.output[0]
        value = self.forms.values[output] = Value(source.grid, source.channels)
        if source.codes and source.channels:
            inputs = [self.forms.codes(node.input[0], "last")]
            pool = onnx.NodeProto()
            pool.CopyFrom(node)
            pool.op_type = "NhwcMaxPool"
            return self.on_codes(value, pool, inputs, source.offset, "last", domain=CONTRIB)
        rounding = source.rounding
        if rounding is None or rounding.fmt.bw > _FAST_BW or not self.read_once(node.input[0]):
            return False
        self.nodes.enter(output)
        clipped = self.forms.clipped(rounding.value, rounding.fmt)
        pooled = self.nodes.op("MaxPool", clipped, **_attributes(node))
        self.forms.values[pooled] = Value(channels=source.channels, floats=True)
        blocks = self.may_be_in_blocks(output)
        value.rounding = Rounding(pooled, rounding.fmt, blocks, clipped=True)
        return True

    def concat(self, node: onnx.NodeProto) -> bool:
        parts = [self.forms.of(name) for name in node.input]
        grids = [part.grid for part in parts if part.grid is not None]
        counts = [part.channels for part in parts if part.channels]
        by_channel = len(counts) == len(parts) and _attributes(node)["axis"] == 1
        value = self.forms.values[node.output[0]] = Value(
            joined(grids) if len(grids) == len(parts) else None, sum(counts) if by_channel else None
        )
        same = all(part.codes and part.offset == parts[0].offset for part in parts)
        if value.grid is None or not same or not by_channel:
            return False
        codes = [self.forms.codes(name, "last") for name in node.input]
        return self.on_codes(value, node, codes, parts[0].offset, "last", axis=3)

    def add(self, node: onnx.NodeProto) -> bool:
        """Add with channels last where the sum is rounded to codes: then they stay there."""
        first, second = (self.forms.of(name) for name in node.input)
        total = added(first.grid, second.grid)
        alike = first.channels is not None and first.channels == second.channels
        blocks = alike and all(map(self.forms.in_blocks, node.input))
        value = self.forms.values[node.output[0]] = Value(
            total, first.channels if alike else None, sum_of_blocks=blocks
        )
        # Where the sum may not be exact onnxruntime's way of adding it up in a convolution has to stay.
        any_last = first.codes or second.codes or first.sums or second.sums
        if total is None or not (alike and first.blocked and any_last):
            return False
        if not self.becomes_codes(node.output[0]):
            return False
        self.nodes.enter(node.output[0])
        value.floats_last = self.nodes.op("Add", *(self.forms.floats_last(name) for name in node.input))
        return True

    def becomes_codes(self, name: str) -> bool:
        return self.rounded_to(name) is not None and self.feeds_integers(self.read_by(name)[0].output[0])


_HANDLERS: Mapping[str, Callable[[_Rewriter, onnx.NodeProto], bool]] = {
    "FixedPoint": _Rewriter.fixed_point,
    "Conv": _Rewriter.linear,
    "Gemm": _Rewriter.linear,
    "Relu": _Rewriter.rectify,
    "Clip": _Rewriter.clip,
    "MaxPool": _Rewriter.pool,
    "Concat": _Rewriter.concat,
    "Add": _Rewriter.add,
    **dict.fromkeys(_MOVES, _Rewriter.move),
}

_KEEPS_SHAPES = frozenset({"Clip", "FixedPoint", "Identity", "Relu"})

_PASSES = frozenset({"FixedPoint", "Relu", "Clip", "MaxPool", "Concat", *_MOVES})
"""Operations on codes that give codes."""

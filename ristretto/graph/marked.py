"""A net with its roundings left as marks, for models that others run.

A mark is a ``FixedPoint`` node (``graph.kernels``): a value is rounded to a format, half to even. Layers of products
and sums are plain operations on marked values wherever that is proved to give what integer arithmetic gives; where it
is not they are computed as ``graph.integer`` does, exactly and without marks. ``qdq`` and ``qonnx`` write the marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec
from ristretto.errors import FormatError
from ristretto.graph.digits import FLOAT32_EXACT
from ristretto.graph.grids import Grid
from ristretto.graph.integer import LINEAR_TYPES, PLAIN_SHIFT, Blobs, Linear, LinearForm, LinearLayer, linear_form
from ristretto.graph.kernels import DOMAIN, emit_fixed_point
from ristretto.graph.nodes import OPSET, NodeList
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import ROLES, LayerFormats
from ristretto.numerics.rounding import Rounding

Way = Literal["integer", "float", "exact"]
"""How a layer of products and sums is written: as one that integer kernels can take; as an operation on floats that
holds all its sums; or in several operations that put exact sums together."""


@dataclass(frozen=True, slots=True)
class Written:
    """How a layer is written.

    Attributes:
        way: see ``Way``.
        reason: why it is not one for integer kernels; "" where it is.
        needs_integers: whether float kernels might round its sums, so that only integer kernels are exact.
    """

    way: Way
    reason: str = ""
    needs_integers: bool = False


Lowering = Callable[[NodeList, Iterable[str], "Marks"], None]


@dataclass
class Marks:
    """What is known of a net while it is built with marks.

    Attributes:
        write: writes the marks out as other nodes, when all layers are there; the wanted values keep their names.
        weights_bw: the widest weights that are stored as integers, 8 or 16.
        proved: whether a layer whose sums float32 might round is written in several operations that do not; else it is
            one operation all the same.
        clipped_weights: whether weights of fewer than 8 bits get a Clip, which changes nothing and tells their width.
        opset: the version of ONNX's operators that the nodes need.
        grids: of values that the nodes alone do not tell: the sums of layers.
        layers: how each layer of products and sums is written.
    """

    write: Lowering
    weights_bw: int = 8
    proved: bool = True
    clipped_weights: bool = False
    opset: int = OPSET
    grids: dict[str, Grid] = field(default_factory=dict)
    layers: dict[str, Written] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MarkedLinear:
    """A layer on integers, as one operation between marks where that gives the same.

    Attributes:
        exact: the layer as integer arithmetic computes it.
        marks: where to note what it became.
    """

    exact: LinearLayer
    marks: Marks

    def emit(
        self, nodes: NodeList, op_type: str, values: Sequence[str], blobs: Blobs, attributes: Mapping[str, Any]
    ) -> list[str]:
        """Append the layer's operation on each value and return the outputs, marked; see ``LinearLayer.emit``.

        Raises:
            NetError: the sums are beyond what can be computed exactly.
        """
        layer = self.exact
        try:
            form = linear_form(layer, op_type, blobs, attributes)
        except FormatError:
            return layer.emit(nodes, op_type, values, blobs, attributes)  # which says where
        written = self._written(form, op_type)
        self.marks.layers[layer.layer.name] = written
        if written.way == "exact":
            return layer.emit(nodes, op_type, values, blobs, attributes)
        fls = [fl - layer.input.fl for fl in form.fls]
        fits = form.codes.min(initial=0) >= -128 and form.codes.max(initial=0) <= 127
        params = layer.params
        bw = params.bw if self.marks.clipped_weights and not isinstance(params, Minifloat | PowerOfTwo) else 8
        operands = [_dequantized(nodes, form.codes, fls, "weight", np.int8 if fits else np.int16, bw)]
        if form.bias is not None:
            operands.append(_dequantized(nodes, form.bias, form.fls, "bias", np.int32))
        made = []
        finest = max(form.fls)
        bound = form.bound << max(finest - fl for fl in form.fls)
        for value in values:
            sums = nodes.op(op_type, value, *operands, **attributes)
            if bound <= FLOAT32_EXACT:
                self.marks.grids[sums] = Grid(finest, -bound, bound)
            made.append(emit_fixed_point(nodes, sums, layer.output))
        return made

    def _written(self, form: LinearForm, op_type: str) -> Written:
        """How the layer can be written so that the result is that of integer arithmetic, whatever the input."""
        layer, least = self.exact, 1 << (self.marks.weights_bw - 1)
        if layer.rounding is not Rounding.HALF_EVEN:
            return Written("exact", f"it rounds {layer.rounding.value}, QuantizeLinear half_even")
        if form.codes.min(initial=0) < -least or form.codes.max(initial=0) >= least:
            return Written("exact", f"its weights need more than {self.marks.weights_bw} bits as integers")
        shifts = [fl - layer.output.fl for fl in form.fls]
        if not form.holds or max(map(abs, (*shifts, *form.fls, layer.input.fl))) > PLAIN_SHIFT:
            return Written("exact", "its sums may be beyond the accumulator")
        wide = [role for role, fmt in (("input", layer.input), ("output", layer.output)) if fmt.bw > 8]
        small = form.bound <= FLOAT32_EXACT
        if op_type == "ConvTranspose":
            reason = "onnxruntime has no integer kernel for a Deconvolution"
        elif wide:
            reason = f"its {wide[0]} has {getattr(layer, wide[0]).bw} bits"
        elif form.codes.min(initial=0) < -128 or form.codes.max(initial=0) > 127:
            reason = "its weights have more than 8 bits"
        else:
            # The accumulator becomes a float32 before it is scaled: what that rounds has to saturate anyway.
            if small or all((layer.output.max_code + 1) << max(shift, 0) <= FLOAT32_EXACT for shift in shifts):
                return Written("integer", needs_integers=not small)
            reason = "its sums may need more than 24 bits"
        if small or not self.marks.proved:
            return Written("float", reason, needs_integers=not small)
        return Written("exact", reason)


@dataclass(frozen=True, slots=True)
class _MarkedFloat:
    """A layer of products and sums on floats, its weights and its output marked."""

    formats: LayerFormats

    def emit(
        self, nodes: NodeList, op_type: str, values: Sequence[str], blobs: Blobs, attributes: Mapping[str, Any]
    ) -> list[str]:
        formats = (self.formats.params, self.formats.bias)
        named = zip(blobs, formats, ("weight", "bias"), strict=False)
        operands = [_marked(nodes, nodes.constant(blob, stem), fmt) for blob, fmt, stem in named]
        sums = [nodes.op(op_type, value, *operands, **attributes) for value in values]
        return [_marked(nodes, name, self.formats.output) for name in sums]


def float_layer(layer: LayerSpec, formats: LayerFormats) -> Linear | None:
    """A layer of products and sums as the float32 simulation computes it, with marks; None for any other layer."""
    given = [fmt for role in ROLES if (fmt := formats.at(role)) is not None]
    return _MarkedFloat(formats) if given and layer.type in LINEAR_TYPES else None


def _marked(nodes: NodeList, name: str, fmt: Format | None) -> str:
    """Append the mark of a format."""
    if isinstance(fmt, ChannelFixedPoint):
        return nodes.op("ChannelFixedPoint", name, domain=DOMAIN, bw=fmt.bw, fls=fmt.fls)
    return emit_fixed_point(nodes, name, fmt) if isinstance(fmt, DynamicFixedPoint) else name


def _dequantized(
    nodes: NodeList,
    codes: NDArray[np.int64],
    fls: Sequence[int],
    stem: str,
    dtype: type[np.signedinteger[Any]],
    bw: int = 8,
) -> str:
    """Append codes as a constant and the node that makes values of them, by channel where there are several lengths."""
    scales = np.ldexp(np.float32(1.0), -np.asarray(fls)).astype(np.float32)
    one = len(set(fls)) == 1
    scale = nodes.constant(scales[0] if one else scales, "scale")
    zero = nodes.constant(np.zeros((), dtype) if one else np.zeros(len(fls), dtype), "zero")
    name = nodes.constant(codes.astype(dtype), f"{stem}_codes")
    if bw < 8:
        ends = (np.asarray(end, dtype) for end in (-(1 << (bw - 1)), (1 << (bw - 1)) - 1))
        name = nodes.op("Clip", name, *(nodes.constant(end) for end in ends))
    return nodes.op("DequantizeLinear", name, scale, zero, **({} if one else {"axis": 0}))

"""Convolution and inner product on integers, as ``ristretto.numerics.integer`` defines them, in ONNX nodes.

Inputs and weights are codes; products and sums are exact; the bias is added at the accumulator's scale; the
accumulator wraps or saturates; one rounding shift makes the output's codes (docs/arithmetic.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from ristretto.caffe.catalogue.convolution import DEPTHWISE_TYPES
from ristretto.caffe.netspec import LayerSpec
from ristretto.errors import FormatError, NetError
from ristretto.graph.digits import (
    FLOAT32_EXACT,
    FLOAT64_EXACT,
    DigitPlan,
    Digits,
    Sums,
    convolution_sums,
    plan_digits,
    product_sums,
    split_codes,
    transposed_sums,
)
from ristretto.graph.fake_quant import emit_quantize, emit_round, emit_scaled
from ristretto.graph.integer_checks import check_formats, linear_formats
from ristretto.graph.integer_taps import Happened, LayerTap, emit_tap
from ristretto.graph.nodes import NodeList
from ristretto.numerics.arithmetic import Accumulator, Overflow
from ristretto.numerics.formats import DynamicFixedPoint, Format
from ristretto.numerics.integer import accumulator_range, aligned, bias_codes, bits_for, weight_codes
from ristretto.numerics.layer_formats import ROLES, LayerFormats
from ristretto.numerics.rounding import Rounding

Blobs = tuple[NDArray[np.float32], ...]

LINEAR_TYPES = DEPTHWISE_TYPES | {
    "Convolution",
    "ConvolutionRistretto",
    "Deconvolution",
    "DeconvolutionRistretto",
    "InnerProduct",
    "FcRistretto",
}
"""The layers of products and sums: those whose emitters call ``LayerContext.linear``."""

PLAIN_SHIFT = 100
"""Shifts up to this stay far from the ends of float32's exponents."""


class Linear(Protocol):
    """A way to compute a layer of products and sums other than by one operation on floats."""

    def emit(
        self, nodes: NodeList, op_type: str, values: Sequence[str], blobs: Blobs, attributes: Mapping[str, Any]
    ) -> list[str]:
        """Append the layer's operation on each value and return the outputs, rounded to the output's format."""


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """A layer that is computed on integers.

    Attributes:
        layer: the layer, for mistakes.
        input, output, params: its formats.
        accumulator: where it adds up.
        rounding: of the output, and of a bias that is finer than the accumulator.
        rng: for the bias, where the rounding is stochastic.
        seed: for the output, where the rounding is stochastic.
        unrounded: the inputs before they are rounded, to count what saturates.
        taps: where the layer's tap goes; None where nobody asks.
    """

    layer: LayerSpec
    input: DynamicFixedPoint
    output: DynamicFixedPoint
    params: Format
    accumulator: Accumulator
    rounding: Rounding
    rng: np.random.Generator
    seed: int
    unrounded: tuple[str, ...] = ()
    taps: dict[str, LayerTap] | None = None

    def emit(
        self, nodes: NodeList, op_type: str, values: Sequence[str], blobs: Blobs, attributes: Mapping[str, Any]
    ) -> list[str]:
        """Append the layer's operation on each value and return the outputs, rounded to the output's format.

        Args:
            nodes: where to append.
            op_type: Conv, ConvTranspose or Gemm.
            values: inputs on the grid of the input's format, float32.
            blobs: weights on the grid of theirs, and a bias.
            attributes: of the operation.

        Raises:
            NetError: the sums are beyond what can be computed exactly.
        """
        try:
            form = linear_form(self, op_type, blobs, attributes)
        except FormatError as error:
            raise self._error(error.what, error.cure) from error
        if form.bound > FLOAT64_EXACT:
            what = f"its sums may need {bits_for(form.bound)} bits, more than can be computed exactly"
            raise self._error(what, "give its input or its weights fewer bits, or use --arithmetic float32")
        emitter = _Emitter(self, form, nodes, op_type, attributes, blobs)
        results = [emitter.emit(value, first=not number) for number, value in enumerate(values)]
        if self.taps is not None:
            self.taps[self.layer.name] = LayerTap(
                tuple(emitter.tapped),
                bits_for(form.bound),
                self.accumulator.bw,
                form.plan.products if form.plan else 0,
                form.as_float32,
                self.rounding is not Rounding.STOCHASTIC,
            )
        return results

    def _error(self, what: str, cure: str) -> NetError:
        text = f"integer arithmetic cannot compute this layer: {what}"
        return self.layer.view.error(text, cure=cure, field="quantization_param")


def linear_layer(
    layer: LayerSpec,
    formats: LayerFormats,
    accumulator: Accumulator,
    rounding: Rounding,
    seed: int,
    unrounded: tuple[str, ...] = (),
    taps: dict[str, LayerTap] | None = None,
) -> LinearLayer | None:
    """How a layer is computed on integers; None where it has no formats, or is not one of products and sums.

    The arguments are the fields of ``LinearLayer``, with all formats in one.

    Raises:
        NetError: its formats are no integers.
    """
    if all(formats.at(role) is None for role in ROLES):
        return None
    if layer.type not in LINEAR_TYPES:
        check_formats(layer, formats)
        return None
    inputs, outputs, params = linear_formats(layer, formats)
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 1])
    return LinearLayer(layer, inputs, outputs, params, accumulator, rounding, rng, seed, unrounded, taps)


@dataclass(frozen=True, slots=True)
class LinearForm:
    """How the layer is computed.

    Attributes:
        codes: the weights.
        bias: the bias at the accumulator's scale, or None.
        fls: the accumulator's fractional length, or one for each output channel.
        bound: the greatest magnitude that a sum can have, with the bias.
        holds: whether the accumulator holds every such sum.
        plan: digits of inputs and weights; None for one operation in float64.
        small: whether float32 is exact from the products to the output's codes.
        as_float32: whether the float32 simulation is proved to give the same.
    """

    codes: NDArray[np.int64]
    bias: NDArray[np.int64] | None
    fls: tuple[int, ...]
    bound: int
    holds: bool
    plan: DigitPlan | None
    small: bool
    as_float32: bool


def linear_form(layer: LinearLayer, op_type: str, blobs: Blobs, attributes: Mapping[str, Any]) -> LinearForm:
    """How a layer is computed: its codes, and what is proved of its sums whatever the inputs.

    Raises:
        FormatError: its weights are no integers, or its sums cannot be split.
    """
    codes, lengths = weight_codes(blobs[0], layer.params)
    sums, outputs_first = _sums(op_type, attributes)
    if len(lengths) > 1 and not outputs_first:
        codes, finest = aligned(codes, lengths)
        lengths = (finest,)
    fls = tuple(length + layer.input.fl for length in lengths)
    bias = bias_codes(blobs[1], fls, layer.rounding, layer.rng) if len(blobs) > 1 else None
    largest = max(-layer.input.min_code, layer.input.max_code)
    each = sums(np.abs(codes))
    reach = [largest * int(total) for total in each.reshape(len(each), -1).max(axis=1)]
    added = [0] * len(reach) if bias is None else [abs(int(code)) for code in bias.ravel()]
    bound = max(map(sum, zip(reach, added, strict=True)))
    holds = bits_for(bound) <= layer.accumulator.bw
    shifts = [fl - layer.output.fl for fl in fls]
    small = bound <= FLOAT32_EXACT and holds and max(map(abs, (*shifts, *fls))) <= PLAIN_SHIFT
    plan: DigitPlan | None = DigitPlan()
    if max(reach) > FLOAT32_EXACT:
        plan = None if op_type == "Gemm" else plan_digits(largest, codes, sums)
        if plan is None and op_type != "Gemm":
            raise FormatError(f"it adds up {int(each.max())} units of weights", cure="make the kernel smaller")
    same = bias is None or np.array_equal(np.ldexp(bias.astype(np.float64), -np.asarray(fls)), blobs[1])
    return LinearForm(codes, bias, fls, bound, holds, plan, small, small and bool(same))


def _sums(op_type: str, attributes: Mapping[str, Any]) -> tuple[Sums, bool]:
    """How the products of an output are added up, and whether axis 0 of the weights counts the outputs."""
    if op_type == "Gemm":
        transposed = not attributes.get("transB")
        return product_sums(transposed), not transposed
    if op_type == "ConvTranspose":
        return transposed_sums(attributes["group"], attributes["strides"], attributes["dilations"]), False
    return convolution_sums, True


class _Emitter:
    """Appends a layer's nodes; the constants of its weights are there once, however many bottoms it has."""

    def __init__(
        self,
        layer: LinearLayer,
        form: LinearForm,
        nodes: NodeList,
        op_type: str,
        attributes: Mapping[str, Any],
        blobs: Blobs,
    ) -> None:
        self.layer = layer
        self.form = form
        self.nodes = nodes
        self.op_type = op_type
        self.attributes = attributes
        self.tapped: list[str] = []
        self.operands = self._operands()
        compared = layer.taps is not None and layer.rounding is not Rounding.STOCHASTIC and not form.as_float32
        self.simulated = [nodes.constant(blob, "simulated") for blob in blobs] if compared else None

    def emit(self, value: str, *, first: bool) -> str:
        layer, form, nodes = self.layer, self.form, self.nodes
        sums = self._sums(emit_scaled(nodes, value, layer.input.fl))
        kept = sums if form.holds else self._accumulate(sums)
        scaled = nodes.op("Mul", kept, self._by_channel([2.0 ** (layer.output.fl - fl) for fl in form.fls]))
        whole = emit_round(nodes, scaled, layer.rounding, layer.seed, double=not form.small)
        codes = self._clip(whole, layer.output.min_code, layer.output.max_code)
        result = emit_scaled(nodes, codes if form.small else self._cast(codes, np.float32), -layer.output.fl)
        if layer.taps is not None:
            at = Happened(
                sums=self._double(sums),
                kept=None if form.holds else self._clip(sums, *accumulator_range(layer.accumulator.bw)),
                scaled=self._double(scaled),
                codes=self._double(codes),
                result=result,
                simulated=None if self.simulated is None else self._simulation(value, self.simulated),
            )
            self.tapped.append(emit_tap(nodes, layer.unrounded if first else (), layer.input, layer.output, at))
        return result

    def _operands(self) -> list[tuple[str, ...]]:
        """The constants of each operation: digits of the weights, or the weights and the bias where it takes it too."""
        form = self.form
        dtype = np.float64 if form.plan is None else np.float32
        if form.plan is not None and not form.small:
            parts = split_codes(form.codes, form.plan.weights)
            return [(self.nodes.constant(part.astype(dtype), "weight"),) for part in parts]
        weights = self.nodes.constant(form.codes.astype(dtype), "weight")
        if form.bias is None:
            return [(weights,)]
        return [(weights, self.nodes.constant(form.bias.astype(dtype), "bias"))]

    def _sums(self, codes: str) -> str:
        """The exact sums with the bias: float32 where the form is small, else float64."""
        if self.form.plan is None:
            return self._op(self._cast(codes, np.float64), self.operands[0])
        if self.form.small:
            return self._op(codes, self.operands[0])
        total = self._products(codes, self.form.plan)
        return total if self.form.bias is None else self.nodes.op("Add", total, self._by_channel(self.form.bias))

    def _products(self, codes: str, plan: DigitPlan) -> str:
        """The products of all digits, put together in float64."""
        total = ""
        for i, part in enumerate(self._split(codes, plan.inputs)):
            for j, weights in enumerate(self.operands):
                partial = self._cast(self._op(part, weights), np.float64)
                shift = plan.inputs.shift * i + plan.weights.shift * j
                if shift:
                    partial = self.nodes.op("Mul", partial, self._number(2.0**shift))
                total = self.nodes.op("Add", total, partial) if total else partial
        return total

    def _split(self, codes: str, digits: Digits) -> list[str]:
        """The digits of codes, lowest first; a tie goes to either side and is as near."""
        found, nodes = [], self.nodes
        unit = 2.0**digits.shift
        for _ in range(digits.count - 1):
            upper = nodes.op("Round", nodes.op("Mul", codes, nodes.floats(1.0 / unit)))
            found.append(nodes.op("Sub", codes, nodes.op("Mul", upper, nodes.floats(unit))))
            codes = upper
        return [*found, codes]

    def _accumulate(self, sums: str) -> str:
        """What the accumulator makes of sums that it may not hold."""
        nodes, accumulator = self.nodes, self.layer.accumulator
        if accumulator.overflow is Overflow.REPORT:
            return sums
        low, high = accumulator_range(accumulator.bw)
        if accumulator.overflow is Overflow.SATURATE:
            return self._clip(sums, low, high)
        turns = nodes.op("Mul", nodes.op("Sub", sums, self._number(low)), self._number(2.0**-accumulator.bw))
        whole = nodes.op("Mul", nodes.op("Floor", turns), self._number(2.0**accumulator.bw))
        return nodes.op("Sub", sums, whole)

    def _simulation(self, value: str, blobs: Sequence[str]) -> str:
        """The float32 simulation of the layer on the same input."""
        result = self.nodes.op(self.op_type, value, *blobs, **self.attributes)
        return emit_quantize(self.nodes, result, self.layer.output, self.layer.rounding)

    def _op(self, value: str, operands: Sequence[str]) -> str:
        return self.nodes.op(self.op_type, value, *operands, **self.attributes)

    def _number(self, value: float) -> str:
        """A scalar of the type of the sums."""
        return self.nodes.constant(np.asarray(value, np.float32 if self.form.small else np.float64))

    def _by_channel(self, values: Sequence[float] | NDArray[np.int64]) -> str:
        """A scalar, or a vector along the channels, of the type of the sums."""
        array = np.asarray(values, np.float32 if self.form.small else np.float64).ravel()
        return self.nodes.constant(array.reshape(-1, *(1,) * (self.form.codes.ndim - 2)))

    def _clip(self, value: str, low: int, high: int) -> str:
        return self.nodes.op("Clip", value, self._number(low), self._number(high))

    def _cast(self, value: str, dtype: type) -> str:
        return self.nodes.op("Cast", value, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _double(self, value: str) -> str:
        """A value of the type of the sums as float64."""
        return self._cast(value, np.float64) if self.form.small else value

"""Layers of products and sums as integer operations: codes, bias, accumulator and shifts, those of the simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.catalogue.convolution import conv_params
from ristretto.caffe.catalogue.inner_product import inner_product_params
from ristretto.caffe.netspec import Shape
from ristretto.errors import FormatError, NetError
from ristretto.export.tensors import Tensor
from ristretto.graph.digits import FLOAT64_EXACT
from ristretto.graph.grids import Grid
from ristretto.graph.integer import LinearForm, LinearLayer, linear_form
from ristretto.graph.nodes import NodeList
from ristretto.graph.registry import LayerContext, emitter_of
from ristretto.numerics.arithmetic import Overflow
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format, PowerOfTwo
from ristretto.numerics.integer import accumulator_range, bits_between, bits_for

Blobs = tuple[NDArray[np.float32], ...]

_OPS = {"Conv": "conv", "ConvTranspose": "deconv", "Gemm": "fc"}
_SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


@dataclass(frozen=True, slots=True)
class LinearResult:
    """A layer of products and sums.

    Attributes:
        op: conv, deconv or fc.
        grid: of its output's codes.
        fields: the operation's parameters.
        tensors: weights and bias.
    """

    op: str
    grid: Grid
    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass
class _Listener:
    """Stands where integer arithmetic does, and keeps what the layer's emitter asks of it."""

    op_type: str = ""
    blobs: Blobs = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def emit(
        self, nodes: NodeList, op_type: str, values: Sequence[str], blobs: Blobs, attributes: Mapping[str, Any]
    ) -> list[str]:
        """Note the operation and pass the values on."""
        self.op_type, self.blobs, self.attributes = op_type, blobs, dict(attributes)
        return list(values)


def linear_step(
    linear: LinearLayer, bias: Format | None, shapes: tuple[tuple[Shape, ...], tuple[Shape, ...]], blobs: Blobs
) -> LinearResult:
    """A layer as integer operations.

    Args:
        linear: how it is computed on integers.
        bias: the format in which its bias is stored.
        shapes: of its inputs and outputs.
        blobs: its weights, rounded to their formats.

    Raises:
        NetError: it cannot be computed exactly.
    """
    layer = linear.layer
    emitter, listener = emitter_of(layer.type), _Listener()
    if emitter is None:
        raise _refused(linear, "its type cannot be run")
    names = tuple(f"in{number}" for number in range(len(layer.inputs)))
    emitter(LayerContext(layer, names, *shapes, blobs, NodeList(), integer=listener))
    try:
        form = linear_form(linear, listener.op_type, listener.blobs, listener.attributes)
    except FormatError as error:
        raise _refused(linear, error.what, error.cure) from error
    if form.bound > FLOAT64_EXACT:
        what = f"its sums may need {bits_for(form.bound)} bits, more than can be computed exactly"
        raise _refused(linear, what, "give its input or its weights fewer bits")
    shifts = [fl - linear.output.fl for fl in form.fls]
    accumulator = linear.accumulator
    fields: dict[str, Any] = {
        **_geometry(linear, listener, shapes[0][0]),
        "input": _format(linear.input),
        "output": _format(linear.output),
        "accumulator": {
            "fl": list(form.fls),
            "bits_needed": bits_for(form.bound),
            "bits": accumulator.bw,
            "overflow": accumulator.overflow.value,
            "overflows": not form.holds,
        },
        "shift": shifts,
        "rounding": linear.rounding.value,
        "min": linear.output.min_code,
        "max": linear.output.max_code,
    }
    tensors = {"weights": _weights(linear, form, listener)}
    if isinstance(linear.params, PowerOfTwo):
        tensors["exponents"] = _exponents(linear.params, listener)
    if form.bias is not None:
        tensors |= _bias(linear, bias, form, listener)
    return LinearResult(_OPS[listener.op_type], _reach(linear, form, min(shifts)), fields, tensors)


def _refused(linear: LinearLayer, what: str, cure: str = "") -> NetError:
    return linear.layer.view.error(f"this layer cannot be exported: {what}", cure=cure, field="quantization_param")


def _geometry(linear: LinearLayer, listener: _Listener, shape: Shape) -> dict[str, Any]:
    attributes = listener.attributes
    if listener.op_type == "Gemm":
        params = inner_product_params(linear.layer, len(shape))
        return {"axis": params.axis, "num_output": params.num_output}
    spatial = len(attributes["kernel_shape"])
    return {
        "axis": conv_params(linear.layer, shape).axis,
        "num_output": conv_params(linear.layer, shape).num_output,
        "kernel": list(attributes["kernel_shape"]),
        "stride": list(attributes["strides"]),
        "pad": list(attributes["pads"][:spatial]),
        "dilation": list(attributes["dilations"]),
        "group": attributes["group"],
    }


def _format(fmt: DynamicFixedPoint) -> dict[str, Any]:
    return {"bw": fmt.bw, "il": fmt.il, "fl": fmt.fl, "signed": fmt.signed}


def _turned(listener: _Listener) -> bool:
    """Whether weights of an inner product are stored with the inputs first."""
    return listener.op_type == "Gemm" and not listener.attributes.get("transB")


def _layout(listener: _Listener) -> str:
    if listener.op_type == "Gemm":
        return "OI"
    spatial = len(listener.attributes["kernel_shape"])
    return ("IO" if listener.op_type == "ConvTranspose" else "OI") + _SPATIAL.get(spatial, "S" * spatial)


def _weights(linear: LinearLayer, form: LinearForm, listener: _Listener) -> Tensor:
    codes = form.codes.T if _turned(listener) else form.codes
    fls = [fl - linear.input.fl for fl in form.fls]
    fmt: Format = linear.params
    bw = bits_between(int(codes.min(initial=0)), int(codes.max(initial=0)))
    facts: dict[str, Any] = {"kind": "fixed_point", "fl": fls}
    if isinstance(fmt, PowerOfTwo):
        facts |= {"kind": "power_of_two", "exp_min": fmt.exp_min, "exp_max": fmt.exp_max}
    elif isinstance(fmt, DynamicFixedPoint):
        bw = fmt.bw
    elif isinstance(fmt, ChannelFixedPoint):
        bw = max(bw, fmt.bw)  # more where channels were brought to one scale
    facts["il"] = [bw - fl for fl in fls]
    return Tensor(codes, bw, signed=True, layout=_layout(listener), facts=facts)


def _exponents(fmt: PowerOfTwo, listener: _Listener) -> Tensor:
    """Powers of two as they are stored: a sign bit above an index of the exponent."""
    codes = fmt.encode(listener.blobs[0]).astype(np.int64)
    facts = {
        "kind": "sign_and_index",
        "exp_min": fmt.exp_min,
        "exp_max": fmt.exp_max,
        "index_of_exp_min": int(fmt.keep_zero),
        "sign_bit": fmt.bw - 1,
    }
    return Tensor(codes.T if _turned(listener) else codes, fmt.bw, signed=False, layout=_layout(listener), facts=facts)


def _bias(linear: LinearLayer, fmt: Format | None, form: LinearForm, listener: _Listener) -> dict[str, Tensor]:
    """The bias at the accumulator's scale, and as it is stored where it has a format."""
    codes = np.asarray(form.bias).ravel()
    needed = bits_between(int(codes.min(initial=0)), int(codes.max(initial=0)))
    aligned = Tensor(codes, max(linear.accumulator.bw, needed), True, "O", {"fl": list(form.fls)})
    if not isinstance(fmt, DynamicFixedPoint):
        return {"bias": aligned}
    facts = {
        "fl": [fmt.fl],
        "il": [fmt.il],
        "shift": [fl - fmt.fl for fl in form.fls],
        "rounding": linear.rounding.value,
    }
    return {"bias": aligned, "bias_stored": Tensor(fmt.encode(listener.blobs[1]).ravel(), fmt.bw, True, "O", facts)}


def _reach(linear: LinearLayer, form: LinearForm, shift: int) -> Grid:
    """Where the output's codes lie, by the weights."""
    bound = form.bound
    if linear.accumulator.overflow is not Overflow.REPORT:
        bound = min(bound, -accumulator_range(linear.accumulator.bw)[0])
    most = (bound >> shift) + 1 if shift > 0 else bound << -shift
    out = linear.output
    return Grid(out.fl, max(out.min_code, -most), min(out.max_code, most))

"""All dialects by name, and which of them a prototxt is written in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from ristretto.caffe.netspec import NetSpec, type_of
from ristretto.caffe.textproto import Document
from ristretto.caffe.view import View
from ristretto.decide.plan import QuantPlan
from ristretto.dialects.accdnn import Accdnn
from ristretto.dialects.base import DialectModule
from ristretto.dialects.chaidnn import Chaidnn
from ristretto.dialects.fields import PLAIN_TYPES, QUANTIZED_TYPES, Dialect
from ristretto.dialects.intel import TYPES as INTEL_TYPES
from ristretto.dialects.intel import Intel
from ristretto.dialects.original import EXTENDED, ORIGINAL
from ristretto.dialects.wiring import wire

Source = Literal["auto", "original", "extended", "chaidnn", "intel", "accdnn"]
"""A dialect to read; "auto" lets the names of the fields decide."""

DIALECTS: Mapping[Dialect, DialectModule] = {
    dialect.name: dialect for dialect in (EXTENDED, ORIGINAL, Chaidnn(), Intel(), Accdnn())
}

_FIRST_CHAIDNN = ("quant_type", "th_", "batchnorm_", "scale_gamma", "scale_beta")
"""How fields begin that CHaiDNN's first version had in quantization_param."""

_EXTENSION = (
    "bw_bias", "fl_bias", "unsigned_", "fl_params_channel", "keep_zero", "float_", "copy_layer_in",
)  # fmt: skip


def detect(layers: Document | NetSpec | Iterable[View]) -> Dialect:
    """The dialect of a prototxt, told by the names of its fields and types.

    What both CHaiDNN's first version and Intel Caffe could have written is taken for Intel's, unless layers have
    formats there that Intel never gives any. AccDNN's prototxts cannot be told from the original's.
    """
    if isinstance(layers, NetSpec):
        views = [layer.view for layer in layers.layers]
    elif isinstance(layers, Document):
        views = list(View.of(layers, "NetParameter").children("layer"))
    else:
        views = list(layers)
    if any(view.has("precision_param") for view in views):
        return "chaidnn"
    quantized = [(type_of(view), view.child("quantization_param")) for view in views if view.has("quantization_param")]
    fields = {field.name for _, param in quantized for field in param.message.fields}
    if any(name.startswith(_FIRST_CHAIDNN) for name in fields):
        return "chaidnn"
    if any(type_of(view) in QUANTIZED_TYPES.values() for view in views):
        plain = any(kind in PLAIN_TYPES for kind, _ in quantized)
        return "extended" if plain or any(name.startswith(_EXTENSION) for name in fields) else "original"
    stating = [kind for kind, param in quantized if any(field.name in _WIDTHS for field in param.message.fields)]
    if any(kind in INTEL_TYPES for kind in stating):
        return "chaidnn" if any(kind in PLAIN_TYPES for kind in stating) else "intel"
    return "extended"


_WIDTHS = frozenset({"bw_layer_in", "bw_layer_out", "bw_params"})


def plan_of(net: NetSpec, dialect: Source = "auto", nearest: bool = False) -> QuantPlan:
    """The formats that a quantized net states, in whatever dialect; none for a float net.

    Args:
        net: the net.
        dialect: the dialect; "auto" lets the names of the fields decide.
        nearest: whether to take the nearest power of two for scales that are none.

    Raises:
        RistrettoError: fields make no sense, or say what no format of ours is.
    """
    name = detect(net) if dialect == "auto" else dialect
    return QuantPlan(DIALECTS[name].read(wire(net), nearest))

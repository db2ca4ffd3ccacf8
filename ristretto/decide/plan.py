"""A plan: the number formats of all sites of a net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ristretto.decide.choose import DEFAULT_FORMAT, IntegerLengths
from ristretto.numerics.layer_formats import LayerFormats

Group = Literal["conv", "fc"]

CONV_TYPES = frozenset({"Convolution", "ConvolutionDepthwise", "DepthwiseConvolution"})
FC_TYPES = frozenset({"InnerProduct"})


_PLUGGED: dict[str, Group] = {}


def join_group(layer_type: str, group: Group) -> None:
    """Let layers of a type be searched with a group.

    Raises:
        ValueError: the type is in a group already.
    """
    if group_of(layer_type) is not None:
        message = f"layer type '{layer_type}' is quantized already"
        raise ValueError(message)
    _PLUGGED[layer_type] = group


def leave_group(layer_type: str) -> None:
    """Undo ``join_group``."""
    _PLUGGED.pop(layer_type, None)


def joined_types() -> frozenset[str]:
    """The types that joined a group."""
    return frozenset(_PLUGGED)


def group_of(layer_type: str) -> Group | None:
    """The group a float layer is searched with, or None if its type is left alone."""
    if layer_type in _PLUGGED:
        return _PLUGGED[layer_type]
    if layer_type in CONV_TYPES:
        return "conv"
    return "fc" if layer_type in FC_TYPES else None


@dataclass(frozen=True, slots=True)
class QuantPlan:
    """The formats of the quantized layers, by layer name; a layer that is not in it stays float."""

    layers: Mapping[str, LayerFormats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Widths:
    """Bit-widths by group; None leaves what it stands for at the defaults of the schema (32.16)."""

    conv_params: int | None = None
    fc_params: int | None = None
    activations: int | None = None


def dynamic_fixed_point_plan(
    lengths: Mapping[str, IntegerLengths], groups: Mapping[str, Group], widths: Widths
) -> QuantPlan:
    """The plan of one candidate: every layer whose group has a width, the rest of such a layer at 32.16.

    A layer of a group without a width is left float unless the activations are quantized, as in the original's
    partial searches.
    """
    layers = {}
    for name, il in lengths.items():
        params_bw = widths.conv_params if groups[name] == "conv" else widths.fc_params
        bw = widths.activations
        if params_bw is None and bw is None:
            continue
        params = DEFAULT_FORMAT if params_bw is None else il.params_format(params_bw)
        layers[name] = LayerFormats(
            input=DEFAULT_FORMAT if bw is None else il.input_format(bw),
            output=DEFAULT_FORMAT if bw is None else il.output_format(bw),
            params=params,
            bias=params,
        )
    return QuantPlan(layers)

"""A plan: the number formats of all sites of a net, and how plans follow from what is known of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ristretto.decide.choose import (
    DEFAULT_FORMAT,
    WIDE_BW,
    IntegerLengths,
    LayerRanges,
    accumulator_bias_format,
    bias_format,
    wide_format,
)
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats

Group = Literal["conv", "fc", "other"]

CONV_TYPES = frozenset({"Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Deconvolution"})
FC_TYPES = frozenset({"InnerProduct"})
OTHER_TYPES = frozenset({"BatchNorm", "Scale", "Eltwise", "Concat", "Pooling", "LRN"})
"""Types that the original leaves in float and that are quantized where the user asks for it."""

JOINING_TYPES = frozenset({"Eltwise", "Concat"})
"""Types with several inputs that share one format."""

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


@dataclass(frozen=True, slots=True)
class LayerSites:
    """What a plan needs to know of one layer.

    Attributes:
        group: whose widths it gets.
        ranges: what was measured.
        lengths: the integer lengths that follow.
        channel_ils: integer length of the weights of each output channel, or none to give them one together.
        unsigned_input, unsigned_output: whether these values are never negative and may do without a sign bit.
        has_params: whether it has weights.
        readers: layers whose input format the output takes, since that is where hardware stores it.
        wide: whether something is computed with the output before it is stored, or it leaves the net, so that it stays
            as wide as a float32 can hold.
        reads_as_stored: whether its inputs have no format of their own.
        fitted: for some widths integer lengths that suit them better.
        fitted_params: the same of the weights.
    """

    group: Group
    ranges: LayerRanges
    lengths: IntegerLengths
    channel_ils: tuple[int, ...] = ()
    unsigned_input: bool = False
    unsigned_output: bool = False
    has_params: bool = True
    readers: tuple[str, ...] = ()
    wide: bool = False
    reads_as_stored: bool = False
    fitted: Mapping[int, IntegerLengths] = field(default_factory=dict)
    fitted_params: Mapping[int, int] = field(default_factory=dict)

    def at(self, bw: int) -> IntegerLengths:
        """The integer lengths for a width."""
        lengths = self.fitted.get(bw, self.lengths)
        return replace(lengths, params=self.fitted_params.get(bw, self.lengths.params))

    def activation_formats(self, bw: int) -> tuple[DynamicFixedPoint, DynamicFixedPoint]:
        """The formats of input and output at a width."""
        lengths = self.at(bw)
        return (
            lengths.input_format(bw, signed=not self.unsigned_input),
            lengths.output_format(bw, signed=not self.unsigned_output),
        )


@dataclass(frozen=True, slots=True)
class Scheme:
    """How fixed point formats follow from widths, apart from the integer lengths.

    Attributes:
        bias: "params" gives a bias the format of the weights, as the original does; "accumulator" adds it at the scale
            of the products; a number is a width of its own, with the finest step in which no bias saturates.
        static: one format for all activations in place of one per layer.
        rest: what a layer has where it has no width: 32.16 in the original, which changes nothing and takes time; None
            leaves it in float.
    """

    bias: Literal["params", "accumulator"] | int = "params"
    static: DynamicFixedPoint | None = None
    rest: DynamicFixedPoint | None = DEFAULT_FORMAT


@dataclass(frozen=True, slots=True)
class LayerWidths:
    """Bit-widths of one layer; None as in ``Widths``."""

    params: int | None = None
    activations: int | None = None


def dynamic_fixed_point_plan(
    sites: Mapping[str, LayerSites], widths: Widths, scheme: Scheme | None = None
) -> QuantPlan:
    """The plan of one candidate: every layer whose group has a width, the rest of such a layer as the scheme says.

    A layer of a group without a width is left float unless the activations are quantized, as in the original's
    partial searches.
    """
    by_layer = {
        name: LayerWidths(widths.fc_params if site.group == "fc" else widths.conv_params, widths.activations)
        for name, site in sites.items()
    }
    return plan_of_widths(sites, by_layer, scheme)


def plan_of_widths(
    sites: Mapping[str, LayerSites], widths: Mapping[str, LayerWidths], scheme: Scheme | None = None
) -> QuantPlan:
    """The plan that gives every layer widths of its own; a layer without any stays float.

    A layer of the group "other" has no partner in the original: what has no width stays float there.
    """
    scheme = scheme or Scheme()
    layers = {}
    for name, site in sites.items():
        params_bw, bw = widths[name].params, widths[name].activations
        if params_bw is None and bw is None:
            continue
        rest = None if site.group == "other" else scheme.rest
        inputs: Format | None = rest
        outputs: Format | None = rest
        if bw is not None:
            inputs, outputs = (scheme.static,) * 2 if scheme.static else site.activation_formats(bw)
        if site.reads_as_stored:
            if site.wide:
                continue
            inputs = None
        params = rest if params_bw is None else _params_format(site, params_bw)
        if not site.has_params:
            params = None
            if bw is None:
                continue
        bias = params if params_bw is None else _bias(site, scheme, inputs, params)
        layers[name] = LayerFormats(inputs, outputs, params, bias, in_place=site.group != "other")
    once = scheme.static is None and any(layer.activations is not None for layer in widths.values())
    return QuantPlan(stored_once(layers, sites) if once else layers)


def stored_once(layers: Mapping[str, LayerFormats], sites: Mapping[str, LayerSites]) -> dict[str, LayerFormats]:
    """Layers whose outputs are rounded where they are stored: in the format in which they are read."""
    stored = {}
    for name, formats in layers.items():
        site = sites[name]
        read_as = {layers[reader].input for reader in site.readers if reader in layers}
        if len(read_as) == 1 and len([reader for reader in site.readers if reader in layers]) == len(site.readers):
            formats = replace(formats, output=read_as.pop())
        elif site.readers or site.wide:
            bw = formats.input.bw if isinstance(formats.input, DynamicFixedPoint) else WIDE_BW
            formats = replace(formats, output=wide_format(site.ranges.output, _products_fl(formats), bw=bw))
        stored[name] = formats
    return stored


def _products_fl(formats: LayerFormats) -> int | None:
    """The fractional length of a layer's products; None where inputs or weights are not in fixed point."""
    if not isinstance(formats.input, DynamicFixedPoint):
        return None
    if isinstance(formats.params, ChannelFixedPoint):
        return formats.input.fl + max(formats.params.fls)
    return formats.input.fl + formats.params.fl if isinstance(formats.params, DynamicFixedPoint) else None


def _params_format(site: LayerSites, bw: int) -> Format:
    if site.channel_ils:
        return ChannelFixedPoint(bw, tuple(bw - il for il in site.channel_ils))
    return site.at(bw).params_format(bw)


def _bias(site: LayerSites, scheme: Scheme, inputs: Format | None, params: Format | None) -> Format | None:
    if params is None or isinstance(params, PowerOfTwo):
        return None
    if isinstance(scheme.bias, int):
        return bias_format(site.ranges.bias, scheme.bias)
    if scheme.bias == "params" and not isinstance(params, ChannelFixedPoint):
        return params
    step = inputs.fl if isinstance(inputs, DynamicFixedPoint) else DEFAULT_FORMAT.fl
    finest = max(params.fls) if isinstance(params, ChannelFixedPoint) else getattr(params, "fl", DEFAULT_FORMAT.fl)
    return accumulator_bias_format(site.ranges.bias, step + finest)


def minifloat_plan(sites: Mapping[str, LayerSites], fmt: Minifloat) -> QuantPlan:
    """Every layer with all its values in one minifloat format (EditNetDescriptionMiniFloat)."""
    whole = LayerFormats(fmt, fmt, fmt, fmt)
    beside = LayerFormats(fmt, fmt, fmt, fmt, in_place=False)
    return QuantPlan({name: beside if site.group == "other" else whole for name, site in sites.items()})


def power_of_two_plan(
    sites: Mapping[str, LayerSites], weights: PowerOfTwo, bw_activations: int, static: DynamicFixedPoint | None = None
) -> QuantPlan:
    """Weights that are powers of two, activations in fixed point, the bias in float."""
    layers = {}
    for name, site in sites.items():
        inputs, outputs = (static,) * 2 if static else site.activation_formats(bw_activations)
        if site.reads_as_stored and site.wide:
            continue
        params = weights if site.has_params else None
        read_as = None if site.reads_as_stored else inputs
        layers[name] = LayerFormats(read_as, outputs, params, None, in_place=site.group != "other")
    return QuantPlan(stored_once(layers, sites) if static is None else layers)

"""Between which layers of a net a channel may be scaled: what is read by whom, and through which layers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ristretto.caffe.catalogue.pooling import pool_window
from ristretto.caffe.catalogue.rearranging import flatten_axes
from ristretto.caffe.equalize_weights import Bottom, CannotScaleError, ScalableLayer, read_scalable
from ristretto.caffe.fold_weights import LINEAR_TYPES
from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.weights import Weights

_QUANTIZED_TYPES = frozenset({"ConvolutionRistretto", "DeconvolutionRistretto", "FcRistretto"})
_PASSING_TYPES = frozenset({"ReLU", "PReLU", "Dropout", "Pooling", "Split", "Flatten"})
"""Layers that pass a positive factor of a channel on, most of them under conditions."""


@dataclass(frozen=True, slots=True)
class Link:
    """A layer that may scale its output channels, and all those that then have to scale their input channels.

    Attributes:
        first: the name of the one.
        readers: the names of the others, in the order of the net.
    """

    first: str
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Links:
    """What may be scaled in a net.

    Attributes:
        links: in the order of the net; a layer may be the first of one and a reader in another.
        layers: the weights of all layers that the links name, by name.
        declined: for each other linear or quantized layer its name, and why it is not the first of a link.
    """

    links: tuple[Link, ...]
    layers: dict[str, ScalableLayer]
    declined: tuple[tuple[str, str], ...]


def find_links(net: NetSpec, weights: Weights) -> Links:
    """Find the layers whose channels can be scaled without a change of what the net computes.

    Raises:
        PrototxtError: a field's value does not suit its type.
        NetError: the axes or the windows of a layer make no sense.
    """
    wiring = _Wiring(net, weights)
    links: list[Link] = []
    layers: dict[str, ScalableLayer] = {}
    declined: list[tuple[str, str]] = []
    for layer in net.layers:
        if layer.type not in LINEAR_TYPES | _QUANTIZED_TYPES:
            continue
        try:
            first, readers = wiring.link(layer)
        except CannotScaleError as reason:
            declined.append((layer.name, str(reason)))
            continue
        links.append(Link(layer.name, tuple(readers)))
        # As a reader a layer is known better: which of its weights belong to which channel of the bottom.
        layers.setdefault(layer.name, first)
        layers.update(readers)
    return Links(tuple(links), layers, tuple(declined))


class _Wiring:
    """Who reads what, and whose weights are whose."""

    def __init__(self, net: NetSpec, weights: Weights) -> None:
        self._weights = weights
        self._phase = net.phase
        self._order = {layer.name: number for number, layer in enumerate(net.layers)}
        self._readers: dict[str, list[LayerSpec]] = {}
        for layer in net.layers:
            for value in dict.fromkeys(layer.inputs):
                self._readers.setdefault(value, []).append(layer)
        self._names = Counter(layer.name for layer in net.layers)
        # A layer that uses a parameter twice shares it too.
        self._params = Counter(param for layer in net.layers for param in _param_names(layer))

    def link(self, layer: LayerSpec) -> tuple[ScalableLayer, dict[str, ScalableLayer]]:
        """A linear layer, and all that read what it makes, by name and in the order of the net.

        Raises:
            CannotScaleError: one of them cannot be scaled, or something else reads it.
        """
        self._check_linear(layer)
        first = read_scalable(layer, self._weights)
        found: dict[str, ScalableLayer] = {}
        self._follow(layer.outputs[0], Bottom(first.outputs, first.linear.rank), found)
        return first, dict(sorted(found.items(), key=lambda item: self._order[item[0]]))

    def _follow(self, value: str, bottom: Bottom, found: dict[str, ScalableLayer]) -> None:
        """Collect all linear layers that read a value, straight or through layers that pass factors on."""
        readers = self._readers.get(value, [])
        if not readers:
            raise CannotScaleError(f"the blob '{value}' leaves the net")
        for layer in readers:
            if layer.type in LINEAR_TYPES | _QUANTIZED_TYPES:
                self._check_linear(layer)
                found[layer.name] = read_scalable(layer, self._weights, bottom)
            elif layer.type in _PASSING_TYPES:
                self._check_passing(layer, bottom)
                below = bottom.flattened() if layer.type == "Flatten" else bottom
                # The second top of a Pooling holds places, which no factor changes.
                for output in layer.outputs[:1] if layer.type == "Pooling" else layer.outputs:
                    self._follow(output, below, found)
            else:
                raise CannotScaleError(f"'{layer.name}' ({layer.type}) reads what it makes, and passes no factors on")

    def _check_linear(self, layer: LayerSpec) -> None:
        what = ""
        if layer.type in _QUANTIZED_TYPES or layer.view.has("quantization_param"):
            what = f"is quantized already ({layer.type})"
        elif len(layer.bottoms) != 1 or len(layer.tops) != 1:
            what = f"has {len(layer.bottoms)} bottoms and {len(layer.tops)} tops"
        elif self._names[layer.name] > 1:
            what = f"has the name and so the weights of {self._names[layer.name]} layers"
        elif shared := [name for name in _param_names(layer) if self._params[name] > 1]:
            what = f"shares its weights (the param '{shared[0]}' is used {self._params[shared[0]]} times)"
        elif layer.view.has("loss_weight"):
            what = "has a loss_weight"
        if what:
            raise CannotScaleError(f"'{layer.name}' {what}")

    def _check_passing(self, layer: LayerSpec, bottom: Bottom) -> None:
        what = ""
        if layer.view.has("quantization_param"):
            what = "is quantized already"
        elif layer.view.has("loss_weight"):
            what = "has a loss_weight"
        elif layer.type == "Dropout" and self._phase != "TEST":
            what = "draws random numbers in phase TRAIN"
        elif layer.type == "Pooling":
            what = _against_pooling(layer)
        elif layer.type == "Flatten" and flatten_axes(layer, bottom.rank) != (1, bottom.rank - 1):
            what = "does not make one axis of all axes from 1 on"
        if what:
            raise CannotScaleError(f"'{layer.name}' ({layer.type}), which reads what it makes, {what}")


def _param_names(layer: LayerSpec) -> list[str]:
    return [param.text("name") for param in layer.view.children("param") if param.text("name")]


def _against_pooling(layer: LayerSpec) -> str:
    """Why a Pooling passes no factors on, or ""."""
    view = layer.view.child("pooling_param")
    method = view.text("pool")
    if method not in ("MAX", "AVE"):
        return f"pools by {method}"
    kernel, stride, _ = pool_window(view)
    if not view.flag("global_pooling") and (stride[0] > kernel[0] or stride[1] > kernel[1]):
        # Caffe's maximum over nothing is -FLT_MAX, whatever the factor.
        return "has windows that may lie beside the image (the stride is larger than the kernel)"
    return ""

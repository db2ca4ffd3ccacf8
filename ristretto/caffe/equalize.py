"""Cross-layer equalisation: factors moved from one layer's weights to the next one's, so that channels are alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ristretto.caffe.equalize_rules import Link, find_links
from ristretto.caffe.equalize_weights import Exponents, Magnitudes, ScalableLayer
from ristretto.caffe.fold_weights import Blobs, Doubles
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.weights import Weights

_ROUNDS = 20
_LEAST, _GREATEST = -126, 127
"""The exponents of float32's normal numbers, which a power of two multiplies without rounding."""


@dataclass(frozen=True, slots=True)
class EqualizedPair:
    """A layer and what reads it.

    Attributes:
        first: the name of the layer whose output channels were scaled.
        readers: the names of those whose input channels were scaled back, in the order of the net.
        channels: how many channels were scaled; 0 where they were alike.
        largest_exponent: the greatest magnitude of an exponent: no factor is beyond ``2**largest_exponent`` or its
            reciprocal.
    """

    first: str
    readers: tuple[str, ...]
    channels: int
    largest_exponent: int


@dataclass(frozen=True)
class Equalized:
    """The weights of a net with the ranges of channels made alike.

    Attributes:
        weights: the new weights; where nothing was changed, the very ones given.
        pairs: in the order of the net.
        declined: for each convolution, deconvolution and inner product that is not the first of a pair, quantized
            ones too, its name and the reason.
    """

    weights: Weights
    pairs: tuple[EqualizedPair, ...]
    declined: tuple[tuple[str, str], ...]


def equalize(net: NetSpec, weights: Weights) -> Equalized:
    """Scale output channels, and the input channels that read them back, by powers of two.

    What the net computes stays the same bit by bit, as long as no value on the way leaves float32's normal numbers;
    no weight does. The prototxt stays as it is. Other phases than the one given are not looked at: a layer that
    reads a scaled blob in those alone would read other numbers.

    Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.1.

    Args:
        net: the net.
        weights: its weights.

    Raises:
        PrototxtError: a field's value does not suit its type.
        NetError: the axes or the windows of a layer make no sense.
    """
    found = find_links(net, weights)
    scales = _Scales(found.links, found.layers)
    for _ in range(_ROUNDS):
        # A list, since every link has its turn in every round.
        if not any([scales.step(link) for link in found.links]):
            break
    pairs = []
    for link in found.links:
        exponents = np.abs(scales.out[link.first])
        pairs.append(EqualizedPair(link.first, link.readers, int((exponents > 0).sum()), int(exponents.max())))
    return Equalized(_rewritten(weights, scales.multiplied()), tuple(pairs), found.declined)


class _Scales:
    """The exponents of all channels so far, and what the weights would be with them.

    Attributes:
        out: by layer, of its output channels: ``2**out`` is the factor.
        into: by layer, of its input channels: ``2**-into`` is.
    """

    def __init__(self, links: tuple[Link, ...], layers: dict[str, ScalableLayer]) -> None:
        self._layers = layers
        self._magnitudes = {name: Magnitudes.of(layer) for name, layer in layers.items()}
        self.out: dict[str, Exponents] = {name: np.zeros(layer.outputs, np.int64) for name, layer in layers.items()}
        self.into: dict[str, Exponents] = {name: np.zeros(layer.inputs, np.int64) for name, layer in layers.items()}

    def step(self, link: Link) -> bool:
        """Balance the two sides of a link.

        Returns:
            whether any exponent has changed.
        """
        made, down, highest = self._outputs(link.first)
        lowest = -down
        read = np.full_like(made, -np.inf)
        for name in link.readers:
            largest, down = self._inputs(name)
            read = np.maximum(read, largest)
            # What the first layer gains its readers lose. What they gain leaves them below its old range: finite.
            highest = np.minimum(highest, down)
        alive = np.isfinite(made) & np.isfinite(read)
        wanted = np.zeros_like(made)
        # sqrt(r1 * r2) / r1 in the log domain; a channel of zeros on either side has none.
        wanted[alive] = np.rint((read[alive] - made[alive]) / 2)
        more = np.clip(wanted, lowest, highest).astype(np.int64)
        self.out[link.first] += more
        for name in link.readers:
            self.into[name] += more
        return bool(more.any())

    def multiplied(self) -> dict[str, Blobs]:
        """The blobs of the layers that have changed, by name."""
        return {
            name: layer.multiplied(self.out[name], self.into[name])
            for name, layer in self._layers.items()
            if self.out[name].any() or self.into[name].any()
        }

    def _outputs(self, name: str) -> tuple[Doubles, Doubles, Doubles]:
        """For each output channel its largest weight (log2), and by how much it may be scaled down and up."""
        sizes, group = self._magnitudes[name], self._layers[name].group
        into, out = self.into[name].reshape(group, 1, -1), self.out[name]
        largest = (sizes.largest - into).max(axis=2).ravel() + out
        smallest = (sizes.smallest - into).min(axis=2).ravel() + out
        bias = sizes.bias + out
        down = _room_down(np.minimum(smallest, np.where(np.isfinite(bias), bias, np.inf)))
        return largest, down, _room_up(np.maximum(largest, bias))

    def _inputs(self, name: str) -> tuple[Doubles, Doubles]:
        """For each input channel its largest weight (log2), and by how much it may be scaled down."""
        sizes, group = self._magnitudes[name], self._layers[name].group
        into, out = self.into[name], self.out[name].reshape(group, -1, 1)
        largest = (sizes.largest + out).max(axis=1).ravel() - into
        smallest = (sizes.smallest + out).min(axis=1).ravel() - into
        return largest, _room_down(smallest)


def _room_down(smallest: Doubles) -> Doubles:
    """By how many powers of two a channel may shrink until a weight of it is subnormal."""
    room: Doubles = np.maximum(np.floor(smallest) - _LEAST, 0)
    return room


def _room_up(largest: Doubles) -> Doubles:
    """By how many powers of two a channel may grow until a weight of it is infinite."""
    room: Doubles = np.maximum(_GREATEST - np.floor(largest), 0)
    return room


def _rewritten(weights: Weights, changed: dict[str, Blobs]) -> Weights:
    """Weights with the blobs of some layers replaced; of several sets under one name the last counts."""
    if not changed:
        return weights
    last = {held.name: number for number, held in enumerate(weights.layers) if held.blobs}
    layers = [
        replace(held, blobs=changed[held.name]) if held.name in changed and last[held.name] == number else held
        for number, held in enumerate(weights.layers)
    ]
    return Weights(tuple(layers), weights.files)

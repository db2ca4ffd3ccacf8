"""The weights of a linear layer by output and input channel: how large they are, and times powers of two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.catalogue.convolution import DEPTHWISE_TYPES
from ristretto.caffe.fold_weights import Blobs, CannotFoldError, Doubles, Linear, linear_param, read_linear
from ristretto.caffe.netspec import LayerSpec
from ristretto.caffe.weights import Weights

Floats = NDArray[np.float32]
Exponents = NDArray[np.int64]


class CannotScaleError(Exception):
    """Why a layer stays as it is: a clause without a full stop."""


@dataclass(frozen=True, slots=True)
class Bottom:
    """What a linear layer reads, as far as it is known without the shapes of the net.

    Attributes:
        channels: how many; they lie along axis 1.
        rank: number of axes.
        flat: whether a Flatten has made one axis of the channels and what lay behind them.
    """

    channels: int
    rank: int
    flat: bool = False

    def flattened(self) -> Bottom:
        """What a Flatten makes of it."""
        return Bottom(self.channels, 2, self.flat or self.rank > 2)


@dataclass(frozen=True, slots=True)
class ScalableLayer:
    """A linear layer with its weights sorted by channel.

    Attributes:
        linear: the weights, and how they are stored.
        group: of how many independent parts the layer is made.
        inputs: channels of its bottom.
    """

    linear: Linear
    group: int
    inputs: int

    @property
    def outputs(self) -> int:
        """Channels of its top."""
        return self.linear.channels

    def by_channel(self, weight: Floats) -> Floats:
        """A contiguous weight blob as a view (group, outputs of a group, inputs of a group, weights of such a pair)."""
        outputs, inputs = self.outputs // self.group, self.inputs // self.group
        if self.linear.type == "Deconvolution":
            return weight.reshape(self.group, inputs, outputs, -1).swapaxes(1, 2)
        if self.linear.transpose:
            return weight.reshape(1, inputs, -1, outputs).transpose(0, 3, 1, 2)
        return weight.reshape(self.group, outputs, inputs, -1)

    def multiplied(self, out: Exponents, into: Exponents) -> Blobs:
        """The blobs with output channel c times ``2**out[c]`` and input channel c times ``2**-into[c]``; exact."""
        weight, *biases = self.linear.blobs
        product = np.array(weight, dtype=np.float32, order="C")
        view = self.by_channel(product)
        view[...] = np.ldexp(view, out.reshape(self.group, -1, 1, 1) - into.reshape(self.group, 1, -1, 1))
        return product, *(np.ldexp(bias, out.reshape(bias.shape)) for bias in biases)


def read_scalable(layer: LayerSpec, weights: Weights, bottom: Bottom | None = None) -> ScalableLayer:
    """The weights of a layer of one of the LINEAR_TYPES.

    Args:
        layer: the layer.
        weights: of the net.
        bottom: what it reads; None if it does not matter which weights belong to which channel of that.

    Raises:
        CannotScaleError: its channel axis is not axis 1, or its weights are missing, do not fit or are not finite.
    """
    try:
        linear = read_linear(layer, weights)
    except CannotFoldError as reason:
        raise CannotScaleError(str(reason)) from reason
    if not all(np.isfinite(blob).all() for blob in linear.blobs):
        raise CannotScaleError(f"the weights of '{layer.name}' are not finite")
    group = linear.group
    if layer.type in DEPTHWISE_TYPES and not linear_param(layer).has("group"):
        group = linear.channels if bottom is None else bottom.channels
    shape, columns = linear.blobs[0].shape, linear.blobs[0].size // linear.channels
    if layer.type == "InnerProduct":
        # On two axes a column is a channel, unless a Flatten stands before.
        inputs = columns if bottom is None or (bottom.rank == 2 and not bottom.flat) else bottom.channels
        right = columns > 0 and columns % inputs == 0
    else:
        inputs = shape[0] if layer.type == "Deconvolution" else shape[1] * group
        right = linear.blobs[0].size > 0 and linear.channels % group == 0
        right = right and (bottom is None or bottom.rank == linear.rank)
    if not right or (bottom is not None and bottom.channels != inputs):
        on = f" a bottom of {bottom.channels} channels and {bottom.rank} axes" if bottom is not None else " it"
        raise CannotScaleError(f"the weights of '{layer.name}' do not fit{on}, their shape is {list(shape)}")
    return ScalableLayer(linear, group, inputs)


@dataclass(frozen=True, slots=True)
class Magnitudes:
    """Binary logarithms of the weights' magnitudes.

    Attributes:
        largest, smallest: of the weights between an output and an input channel, (group, outputs, inputs), zeros left
            aside; where there are only zeros they are -inf and inf.
        bias: of the bias, (outputs,), -inf where it is zero or the layer has none.
    """

    largest: Doubles
    smallest: Doubles
    bias: Doubles

    @classmethod
    def of(cls, layer: ScalableLayer) -> Magnitudes:
        """Measure the weights of a layer."""
        weight, *biases = layer.linear.blobs
        sizes = np.abs(layer.by_channel(np.ascontiguousarray(weight)))
        smallest = sizes.min(axis=3, initial=math.inf, where=sizes > 0)
        bias = np.abs(biases[0]).ravel() if biases else np.zeros(layer.outputs, np.float32)
        return cls(_log2(sizes.max(axis=3)), _log2(smallest), _log2(bias))


def _log2(values: Floats) -> Doubles:
    """In float64, which tells every float32 number below a power of two from the power itself."""
    with np.errstate(divide="ignore"):
        return np.log2(values.astype(np.float64))

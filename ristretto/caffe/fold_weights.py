"""BatchNorm, Scale and Bias as one factor and one summand for each channel, multiplied into the weights before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.catalogue.convolution import DEPTHWISE_TYPES
from ristretto.caffe.catalogue.normalization import batch_norm_params
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.view import View
from ristretto.caffe.weights import Weights

Blobs = tuple[NDArray[np.float32], ...]
Doubles = NDArray[np.float64]

LINEAR_TYPES = DEPTHWISE_TYPES | {"Convolution", "Deconvolution", "InnerProduct"}
"""Layers that can take others in: each channel of the top is a weighted sum and a bias."""

AFFINE_TYPES = frozenset({"BatchNorm", "Scale", "Bias"})
"""Layers that can be taken in."""


class CannotFoldError(Exception):
    """Why a layer stays: a clause without a full stop."""


@dataclass(frozen=True, slots=True)
class Affine:
    """``factor * x + summand``; arrays of shape (channels,)."""

    factor: Doubles
    summand: Doubles

    def then(self, later: Affine) -> Affine:
        """This, and another after it."""
        return Affine(self.factor * later.factor, self.summand * later.factor + later.summand)


@dataclass(frozen=True, slots=True)
class Linear:
    """The weights of a layer that can take others in.

    Attributes:
        type: the layer's.
        blobs: as the weights file holds them; legacy shapes are kept.
        channels, rank: of its top, whose channel axis is 1.
        group: of a Deconvolution.
        transpose: of an InnerProduct, whether the weights are (inputs, outputs).
    """

    type: str
    blobs: Blobs
    channels: int
    rank: int
    group: int = 1
    transpose: bool = False

    def fits(self) -> bool:
        """Whether the blobs have the shapes that the other attributes ask for."""
        weight, *biases = self.blobs
        shape = weight.shape
        if self.type == "InnerProduct":
            outputs = shape[-1 if self.transpose else -2] if len(shape) >= 2 else 0
            right = outputs == self.channels and weight.size == shape[-2] * shape[-1]
        elif self.type == "Deconvolution":
            right = len(shape) >= 3 and shape[1] * self.group == self.channels and shape[0] % self.group == 0
        else:
            right = len(shape) >= 3 and shape[0] == self.channels
        return right and self.channels > 0 and all(bias.size == self.channels for bias in biases)

    def multiplied(self, affine: Affine) -> Blobs:
        """Weights and bias of the one layer that computes this one and then the affine; float32.

        Raises:
            CannotFoldError: a result is not finite.
        """
        weight = self.blobs[0].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            product = (weight.reshape(self._by_output()) * self._factors(affine.factor)).reshape(weight.shape)
            summand = affine.summand
            if len(self.blobs) == 2:
                summand = summand + self.blobs[1].ravel().astype(np.float64) * affine.factor
            folded = product.astype(np.float32), summand.astype(np.float32)
        if not all(np.isfinite(blob).all() for blob in folded):
            raise CannotFoldError("the folded weights are not finite in float32")
        return folded[0], folded[1].reshape(self.blobs[1].shape if len(self.blobs) == 2 else (self.channels,))

    def _by_output(self) -> Shape:
        """The weights' shape, a Deconvolution's with its groups apart: (group, inputs, outputs, kernel...)."""
        shape = self.blobs[0].shape
        if self.type != "Deconvolution":
            return shape
        return (self.group, shape[0] // self.group, *shape[1:])

    def _factors(self, factor: Doubles) -> Doubles:
        """The factors, shaped to be broadcast over ``_by_output``."""
        if self.type == "InnerProduct":
            return factor if self.transpose else factor[:, None]
        kernel = (1,) * (self.rank - 2)
        if self.type == "Deconvolution":
            return factor.reshape(self.group, 1, self.channels // self.group, *kernel)
        return factor.reshape(self.channels, 1, *kernel)


def linear_param(layer: LayerSpec) -> View:
    """The message that holds the ``num_output``, ``axis`` and ``bias_term`` of a linear layer."""
    return layer.view.child("inner_product_param" if layer.type == "InnerProduct" else "convolution_param")


def read_linear(layer: LayerSpec, weights: Weights) -> Linear:
    """The weights of a layer of one of the LINEAR_TYPES.

    Raises:
        CannotFoldError: its channel axis is not axis 1, or its weights are missing or do not fit.
    """
    view = linear_param(layer)
    if view.integer("axis") != 1:
        raise CannotFoldError(f"the axis of '{layer.name}' is {view.integer('axis')}, not 1")
    blobs = _blobs(layer, weights, 1 + view.flag("bias_term"))
    shape = blobs[0].shape
    channels = view.integer("num_output")
    if layer.type in DEPTHWISE_TYPES and not view.has("num_output") and shape:
        channels = shape[0]
    if layer.type == "InnerProduct":
        linear = Linear(layer.type, blobs, channels, 2, transpose=view.flag("transpose"))
    else:
        linear = Linear(layer.type, blobs, channels, len(shape), max(view.integer("group"), 1))
    if not linear.fits():
        raise _misshapen(layer, blobs)
    return linear


def read_affine(layer: LayerSpec, weights: Weights, channels: int, rank: int) -> Affine:
    """What a layer of one of the AFFINE_TYPES does to a bottom of so many channels and axes.

    Raises:
        CannotFoldError: it works along other axes than the channels, takes its statistics from the batch, or its
            weights are missing, do not fit or cannot be used.
    """
    if layer.type == "BatchNorm":
        return _batch_norm(layer, weights, channels)
    return _scale_or_bias(layer, weights, channels, rank)


def _batch_norm(layer: LayerSpec, weights: Weights, channels: int) -> Affine:
    """The stored statistics are sums, which the third blob says how to weight; 0 stands for sums over nothing."""
    params = batch_norm_params(layer)
    if not params.use_global_stats:
        raise CannotFoldError(f"'{layer.name}' takes its statistics from the batch (use_global_stats is false)")
    blobs = _blobs(layer, weights, 3)
    if [blob.size for blob in blobs] != [channels, channels, 1]:
        raise _misshapen(layer, blobs)
    mean, variance, count = (blob.ravel().astype(np.float64) for blob in blobs)
    weight = 0.0 if count[0] == 0.0 else 1.0 / count[0]
    mean, variance = mean * weight, variance * weight
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise CannotFoldError(f"the mean or variance of '{layer.name}' is not finite")
    if (variance < 0.0).any():
        raise CannotFoldError(f"the variance of '{layer.name}' is negative at channel {int(np.argmin(variance))}")
    if (variance + params.eps <= 0.0).any():
        raise CannotFoldError(f"the variance of '{layer.name}' and its eps are both 0")
    factor = 1.0 / np.sqrt(variance + params.eps)
    return Affine(factor, -mean * factor)


def _scale_or_bias(layer: LayerSpec, weights: Weights, channels: int, rank: int) -> Affine:
    view = layer.view.child("bias_param" if layer.type == "Bias" else "scale_param")
    axis, num_axes = view.integer("axis"), view.integer("num_axes")
    end = rank if num_axes == -1 else axis % rank + num_axes
    if num_axes and (axis % rank, end) != (1, 2):
        what = f"'{layer.name}' works along other axes than the channels (axis {axis}, num_axes {num_axes})"
        raise CannotFoldError(what)
    with_bias = layer.type == "Scale" and view.flag("bias_term")
    blobs = _blobs(layer, weights, 1 + with_bias)
    if any(blob.size != (channels if num_axes else 1) for blob in blobs):
        raise _misshapen(layer, blobs)
    values = [np.broadcast_to(blob.ravel().astype(np.float64), channels) for blob in blobs]
    if layer.type == "Bias":
        return Affine(np.ones(channels), values[0])
    return Affine(values[0], values[1] if with_bias else np.zeros(channels))


def _blobs(layer: LayerSpec, weights: Weights, count: int) -> Blobs:
    blobs = weights.get(layer.name)
    if blobs is None:
        raise CannotFoldError(f"the weights file has no weights for '{layer.name}'")
    if len(blobs) != count:
        raise CannotFoldError(f"the weights file has {len(blobs)} blobs for '{layer.name}', it needs {count}")
    return blobs


def _misshapen(layer: LayerSpec, blobs: Blobs) -> CannotFoldError:
    listed = ", ".join(str(list(blob.shape)) for blob in blobs)
    return CannotFoldError(f"the weights of '{layer.name}' do not fit it, their shapes are {listed}")

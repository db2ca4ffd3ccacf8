"""BatchNorm, LRN, MVN and Normalize: parameters, shapes, weight shapes."""

from __future__ import annotations

from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import require_rank
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.limits import STEPS, limit, to_raise
from ristretto.caffe.netspec import LayerSpec, Shape


@dataclass(frozen=True, slots=True)
class BatchNormParams:
    """A BatchNormParameter in a phase (defaults: caffe.proto, BatchNormParameter).

    Attributes:
        eps: added to the variance.
        use_global_stats: whether the statistics come from the blobs, not from the batch.
    """

    eps: float
    use_global_stats: bool


def batch_norm_params(layer: LayerSpec) -> BatchNormParams:
    """Read a layer's batch_norm_param (batch_norm_layer.cpp, LayerSetUp)."""
    view = layer.view.child("batch_norm_param")
    stored = layer.phase == "TEST"
    if view.has("use_global_stats"):
        stored = view.flag("use_global_stats")
    return BatchNormParams(view.number("eps"), stored)


@shape_rule("BatchNorm")
def batch_norm_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Blobs are mean, variance and one scale factor; a bottom with one axis counts as one channel."""
    shape = inputs[0]
    require_rank(layer, shape, 1)
    channels = 1 if len(shape) == 1 else shape[1]
    return LayerShapes((shape,), ((channels,), (channels,), (1,)))


@dataclass(frozen=True, slots=True)
class LrnParams:
    """An LRNParameter (defaults: caffe.proto, LRNParameter).

    Attributes:
        size: side of the window, odd.
        alpha, beta, k: of ``(k + alpha / n * sum of squares) ** beta``; within channels k is always 1.
        across: whether the window lies across channels, not within one.
    """

    size: int
    alpha: float
    beta: float
    k: float
    across: bool


def lrn_params(layer: LayerSpec) -> LrnParams:
    """Read a layer's lrn_param (lrn_layer.cpp, LayerSetUp).

    Raises:
        NetError: local_size is even.
    """
    view = layer.view.child("lrn_param")
    size = view.integer("local_size")
    if size % 2 == 0:
        what = f"local_size must be odd, found {size}"
        raise view.error(what, cure=f"use {size + 1}", field="local_size")
    if size > limit(STEPS):
        raise view.error(f"local_size {size} is larger than {limit(STEPS)}", field="local_size", cure=to_raise(STEPS))
    across = view.text("norm_region") == "ACROSS_CHANNELS"
    return LrnParams(size, view.number("alpha"), view.number("beta"), view.number("k"), across)


@shape_rule("LRN", "LRNRistretto")
def lrn_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The top has the bottom's shape (lrn_layer.cpp, Reshape)."""
    require_rank(layer, inputs[0], 4, 4)
    lrn_params(layer)
    return LayerShapes(inputs)


@dataclass(frozen=True, slots=True)
class MvnParams:
    """An MVNParameter (defaults: caffe.proto, MVNParameter)."""

    normalize_variance: bool
    across_channels: bool
    eps: float


def mvn_params(layer: LayerSpec) -> MvnParams:
    """Read a layer's mvn_param."""
    view = layer.view.child("mvn_param")
    return MvnParams(view.flag("normalize_variance"), view.flag("across_channels"), view.number("eps"))


@shape_rule("MVN")
def mvn_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The top has the bottom's shape (mvn_layer.cpp, Reshape)."""
    require_rank(layer, inputs[0], 2)
    return LayerShapes(inputs)


@dataclass(frozen=True, slots=True)
class NormalizeParams:
    """A NormalizeParameter of the SSD branch (defaults: weiliu89/caffe caffe.proto, NormalizeParameter)."""

    across_spatial: bool
    channel_shared: bool
    eps: float


def normalize_params(layer: LayerSpec) -> NormalizeParams:
    """Read a layer's norm_param."""
    view = layer.view.child("norm_param")
    return NormalizeParams(view.flag("across_spatial"), view.flag("channel_shared"), view.number("eps"))


@shape_rule("Normalize")
def normalize_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """One scale per channel, or one for all as a blob without axes (weiliu89/caffe normalize_layer.cpp)."""
    shape = inputs[0]
    require_rank(layer, shape, 2, 4)
    shared = normalize_params(layer).channel_shared
    return LayerShapes((shape,), ((),) if shared else ((shape[1],),))

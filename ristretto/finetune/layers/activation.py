"""Layers that map every value by itself. Where a function has a kink the slope is the one that Caffe takes."""

from __future__ import annotations

import numpy as np

from ristretto.caffe.catalogue.activation import (
    AffineParams,
    base_params,
    clip_bounds,
    dropout_ratio,
    power_params,
)
from ristretto.finetune.backend import Tensor, functional, torch
from ristretto.finetune.registry import LayerPass, trains


@trains("ReLU")
def relu(given: LayerPass) -> list[Tensor]:
    """Positive values, and others times a slope (relu_layer.cpp)."""
    slope = given.layer.view.child("relu_param").number("negative_slope")
    return [functional.leaky_relu(given.inputs[0], slope) if slope else torch.relu(given.inputs[0])]


@trains("PReLU")
def prelu(given: LayerPass) -> list[Tensor]:
    """A slope per channel, or one for all (prelu_layer.cpp)."""
    return [functional.prelu(given.inputs[0], given.blobs[0].reshape(-1))]


@trains("ReLU6")
def relu6(given: LayerPass) -> list[Tensor]:
    """Values from 0 to 6, negative ones times a slope (chuanqi305/ssd relu6_layer.cpp)."""
    slope = given.layer.view.child("relu6_param").number("negative_slope")
    value = given.inputs[0]
    kept = torch.clamp(value, 0.0, 6.0)
    return [kept + slope * torch.clamp(value, max=0.0) if slope else kept]


@trains("TanH")
def tanh(given: LayerPass) -> list[Tensor]:
    """The hyperbolic tangent (tanh_layer.cpp)."""
    return [torch.tanh(given.inputs[0])]


@trains("Sigmoid")
def sigmoid(given: LayerPass) -> list[Tensor]:
    """The logistic function (sigmoid_layer.cpp)."""
    return [torch.sigmoid(given.inputs[0])]


@trains("ELU")
def elu(given: LayerPass) -> list[Tensor]:
    """Exponential below zero (elu_layer.cpp)."""
    return [functional.elu(given.inputs[0], given.layer.view.child("elu_param").number("alpha"))]


@trains("Swish")
def swish(given: LayerPass) -> list[Tensor]:
    """``x * sigmoid(beta * x)`` (swish_layer.cpp)."""
    beta = given.layer.view.child("swish_param").number("beta")
    return [given.inputs[0] * torch.sigmoid(beta * given.inputs[0])]


@trains("Clip")
def clip(given: LayerPass) -> list[Tensor]:
    """Saturate to two bounds (clip_layer.cpp)."""
    return [torch.clamp(given.inputs[0], *clip_bounds(given.layer))]


@trains("AbsVal")
def absolute(given: LayerPass) -> list[Tensor]:
    """The absolute value (absval_layer.cpp)."""
    return [torch.abs(given.inputs[0])]


def _affine(value: Tensor, params: AffineParams) -> Tensor:
    return params.shift + params.scale * value


@trains("Power")
def power(given: LayerPass) -> list[Tensor]:
    """``(shift + scale * x) ** power``; a constant where power or scale is 0 (power_layer.cpp)."""
    params = power_params(given.layer)
    if params.power * params.inner.scale == 0.0:
        with np.errstate(all="ignore"):
            constant = float(np.power(np.float64(params.inner.shift), params.power))
        return [torch.full_like(given.inputs[0], constant)]
    base = _affine(given.inputs[0], params.inner)
    return [base if params.power == 1.0 else base**params.power]


@trains("Exp")
def exponential(given: LayerPass) -> list[Tensor]:
    """``base ** (shift + scale * x)`` (exp_layer.cpp)."""
    logarithm, inner = base_params(given.layer, "exp_param")
    return [torch.exp(_affine(given.inputs[0], AffineParams(logarithm * inner.scale, logarithm * inner.shift)))]


@trains("Log")
def logarithm(given: LayerPass) -> list[Tensor]:
    """The logarithm of ``shift + scale * x`` to a base (log_layer.cpp)."""
    base, inner = base_params(given.layer, "log_param")
    return [torch.log(_affine(given.inputs[0], inner)) / base]


@trains("BNLL")
def binomial_normal(given: LayerPass) -> list[Tensor]:
    """``log(1 + exp(x))`` (bnll_layer.cpp), without the overflow."""
    value = given.inputs[0]
    return [torch.clamp(value, min=0.0) + torch.log1p(torch.exp(-torch.abs(value)))]


@trains("Threshold")
def threshold(given: LayerPass) -> list[Tensor]:
    """1 above the threshold, else 0, with no gradient (threshold_layer.cpp)."""
    value = given.inputs[0]
    return [(value > given.layer.view.child("threshold_param").number("threshold")).to(value.dtype)]


@trains("Dropout")
def dropout(given: LayerPass) -> list[Tensor]:
    """The bottom in TEST; in TRAIN some values set to zero and the others scaled up (dropout_layer.cpp)."""
    ratio, value = dropout_ratio(given.layer), given.inputs[0]
    if given.layer.phase == "TEST" or ratio == 0.0:
        return [value]
    kept = given.random().random(tuple(value.shape), np.float32) >= ratio
    return [value * torch.from_numpy(kept).to(value.dtype) * (1.0 / (1.0 - ratio))]

"""Scale, Bias and Axpy; Reduction, which makes few numbers of many."""

from __future__ import annotations

from ristretto.caffe.catalogue.reduction import reduction_params
from ristretto.caffe.catalogue.scaling import ScaleParams, scale_params
from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.channels import scaled
from ristretto.finetune.registry import LayerPass, trains


def _broadcast(params: ScaleParams, value: Tensor, rank: int) -> Tensor:
    """Factors or summands, shaped to be broadcast over the first bottom."""
    return value.reshape(*params.shape, *(1,) * (rank - params.axis - len(params.shape)))


@trains("Scale")
def scale(given: LayerPass) -> list[Tensor]:
    """Factors from a blob or a second bottom, then a sum with a blob (scale_layer.cpp)."""
    params, rank = scale_params(given.layer, given.shapes), len(given.shapes[0])
    factors = given.blobs[0] if params.learned else given.inputs[1]
    if params.learned and params.axis == 1 and len(params.shape) == 1:
        return [scaled(given.inputs[0], factors, given.blobs[1] if params.bias_term else None)]
    result = given.inputs[0] * _broadcast(params, factors, rank)
    if params.bias_term:
        result = result + _broadcast(params, given.blobs[int(params.learned)], rank)
    return [result]


@trains("Bias")
def bias(given: LayerPass) -> list[Tensor]:
    """Summands from a blob or a second bottom (bias_layer.cpp)."""
    params, rank = scale_params(given.layer, given.shapes), len(given.shapes[0])
    return [given.inputs[0] + _broadcast(params, given.blobs[0] if params.learned else given.inputs[1], rank)]


@trains("Axpy")
def axpy(given: LayerPass) -> list[Tensor]:
    """``a * x + y`` with one factor for each image and channel (hujie-frank/SENet axpy_layer.cpp)."""
    factors, x, y = given.inputs
    return [factors.reshape(*factors.shape, *(1,) * (x.dim() - factors.dim())) * x + y]


@trains("Reduction")
def reduction(given: LayerPass) -> list[Tensor]:
    """All axes from one on become one number, times a coefficient (reduction_layer.cpp)."""
    value = given.inputs[0]
    params = reduction_params(given.layer, value.dim())
    rows = value.reshape(*value.shape[: params.axis], -1)
    sums = {
        "SUM": lambda: rows.sum(-1),
        "ASUM": lambda: torch.abs(rows).sum(-1),
        "SUMSQ": lambda: (rows * rows).sum(-1),
        "MEAN": lambda: rows.mean(-1),
    }
    return [sums[params.operation]() * params.coeff]

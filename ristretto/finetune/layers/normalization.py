"""BatchNorm, LRN, MVN and Normalize."""

from __future__ import annotations

from ristretto.caffe.catalogue.normalization import batch_norm_params, lrn_params, mvn_params, normalize_params
from ristretto.caffe.catalogue.pooling import PoolParams
from ristretto.finetune.backend import Tensor, functional, torch
from ristretto.finetune.channels import normalized, standardized
from ristretto.finetune.layers.pooling import average
from ristretto.finetune.registry import LayerPass, trains


@trains("BatchNorm")
def batch_norm(given: LayerPass) -> list[Tensor]:
    """``(x - mean) / sqrt(variance + eps)`` (batch_norm_layer.cpp).

    In TRAIN mean and variance are those of the batch, and go into the running sums in the blobs; with
    ``use_global_stats``, or where the layer is frozen, they are the stored ones, and so they are in TEST.
    """
    params, value = batch_norm_params(given.layer), given.inputs[0]
    if params.use_global_stats or (given.frozen and given.layer.phase == "TRAIN"):
        mean, variance, factor = (blob.detach() for blob in given.blobs)
        weight = torch.zeros_like(factor) if float(factor) == 0.0 else 1.0 / factor
        mean, spread = mean * weight, torch.sqrt(variance * weight + params.eps)
        return [(value - mean) / spread if value.dim() == 1 else standardized(value, mean, spread)]
    if value.dim() == 1:
        value = value.unsqueeze(0)  # an image of one pixel for each channel
    result, mean, variance = normalized(value, params.eps)
    if given.layer.phase == "TRAIN" and given.own:
        _add_statistics(given, mean, variance, value.numel() // variance.numel())
    return [result.reshape(given.inputs[0].shape)]


def _add_statistics(given: LayerPass, mean: Tensor, variance: Tensor, count: int) -> None:
    """Add a batch's statistics to the running sums; the variance without the bias of small batches."""
    fraction = given.layer.view.child("batch_norm_param").number("moving_average_fraction")
    unbiased = count / (count - 1) if count > 1 else 1.0
    with torch.no_grad():
        for blob, new in zip(given.own, (mean, variance * unbiased, torch.ones(1)), strict=True):
            blob.mul_(fraction).add_(new.detach().reshape(blob.shape))


@trains("LRN")
def local_response(given: LayerPass) -> list[Tensor]:
    """``x * (k + alpha / n * sum of squares in the window) ** -beta`` (lrn_layer.cpp)."""
    params, value = lrn_params(given.layer), given.inputs[0]
    squares = value * value
    reach = (params.size - 1) // 2
    if params.across:
        # A window along the channels: they become the depth of an image of one channel.
        padded = functional.pad(squares.unsqueeze(1), (0, 0, 0, 0, reach, reach))
        mean = functional.avg_pool3d(padded, (params.size, 1, 1), stride=1).squeeze(1)
        return [value * (params.k + params.alpha * mean) ** -params.beta]
    window = PoolParams("AVE", (params.size,) * 2, (1, 1), (reach, reach))
    return [value * (1.0 + params.alpha * average(squares, window)) ** -params.beta]


@trains("MVN")
def mean_variance(given: LayerPass) -> list[Tensor]:
    """``(x - mean) / (sqrt(variance) + eps)`` for each image, or for each of its channels (mvn_layer.cpp)."""
    params, value = mvn_params(given.layer), given.inputs[0]
    axes = list(range(1 if params.across_channels else 2, value.dim()))
    if not axes:
        return [value - value]
    centred = value - value.mean(axes, keepdim=True)
    if not params.normalize_variance:
        return [centred]
    variance = (centred * centred).mean(axes, keepdim=True)
    return [centred / (torch.sqrt(variance) + params.eps)]


@trains("Normalize")
def normalize(given: LayerPass) -> list[Tensor]:
    """``scale * x / sqrt(sum of squares + eps)`` (weiliu89/caffe normalize_layer.cpp)."""
    params, value = normalize_params(given.layer), given.inputs[0]
    axes = list(range(1, value.dim())) if params.across_spatial else [1]
    norm = torch.sqrt((value * value).sum(axes, keepdim=True) + params.eps)
    return [value / norm * given.blobs[0].reshape(-1, *(1,) * (value.dim() - 2))]

"""Layers that join, cut or pick whole blobs."""

from __future__ import annotations

from functools import reduce

from ristretto.caffe.catalogue.combining import concat_axis, eltwise_params, slice_lengths
from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.registry import LayerPass, trains


@trains("Eltwise")
def eltwise(given: LayerPass) -> list[Tensor]:
    """Product, weighted sum or maximum of the bottoms, from the first to the last (eltwise_layer.cpp).

    Of equal maxima the first bottom has the gradient, as in Caffe, and not each a part of it.
    """
    params = eltwise_params(given.layer)
    if params.operation == "MAX":
        return [reduce(lambda best, value: torch.where(value > best, value, best), given.inputs)]
    if params.operation == "PROD":
        return [reduce(lambda product, value: product * value, given.inputs)]
    terms = [value if coeff == 1.0 else value * coeff for value, coeff in zip(given.inputs, params.coeffs, strict=True)]
    return [reduce(lambda total, value: total + value, terms)]


@trains("Concat")
def concat(given: LayerPass) -> list[Tensor]:
    """The bottoms end to end along an axis (concat_layer.cpp)."""
    return [torch.cat(given.inputs, concat_axis(given.layer, len(given.shapes[0])))]


@trains("Slice")
def slice_(given: LayerPass) -> list[Tensor]:
    """The bottom cut along an axis (slice_layer.cpp)."""
    shape = given.shapes[0]
    axis = concat_axis(given.layer, len(shape))
    return list(torch.split(given.inputs[0], slice_lengths(given.layer, shape[axis]), axis))


@trains("Split")
def split(given: LayerPass) -> list[Tensor]:
    """The bottom, under several names (split_layer.cpp)."""
    return [given.inputs[0]] * len(given.layer.tops)


@trains("Silence", "HDF5Output")
def silence(_given: LayerPass) -> list[Tensor]:
    """Nothing (silence_layer.cpp)."""
    return []


@trains("Filter")
def filter_(given: LayerPass) -> list[Tensor]:
    """The items whose selector is not zero (filter_layer.cpp)."""
    *blobs, selector = given.inputs
    chosen = selector.reshape(-1) != 0
    return [blob[chosen] for blob in blobs]


@trains("BatchReindex")
def batch_reindex(given: LayerPass) -> list[Tensor]:
    """The first bottom's items in the order of the second's numbers (batch_reindex_layer.cpp)."""
    return [given.inputs[0].index_select(0, given.inputs[1].detach().to(torch.int64))]

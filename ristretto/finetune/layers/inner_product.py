"""InnerProduct and Embed."""

from __future__ import annotations

from ristretto.caffe.catalogue.inner_product import inner_product_params
from ristretto.finetune.backend import Tensor, functional, torch
from ristretto.finetune.products import linear
from ristretto.finetune.registry import LayerPass, trains


@trains("InnerProduct", "FcRistretto")
def inner_product(given: LayerPass) -> list[Tensor]:
    """Products with the axes from one on folded into one (inner_product_layer.cpp)."""
    shape = given.shapes[0]
    params = inner_product_params(given.layer, len(shape))
    weight, bias = (*given.blobs, None)[:2]
    rows = given.inputs[0].reshape(*shape[: params.axis], -1)
    return [linear(rows, weight.t() if params.transpose else weight, bias)]


@trains("Embed")
def embed(given: LayerPass) -> list[Tensor]:
    """Rows by their numbers, and the bias (embed_layer.cpp)."""
    result = functional.embedding(given.inputs[0].detach().to(torch.int64), given.blobs[0])
    return [result + given.blobs[1] if len(given.blobs) > 1 else result]

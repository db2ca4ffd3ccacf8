"""Parameter and DummyData."""

from __future__ import annotations

import numpy as np

from ristretto.caffe.catalogue.constants import dummy_data_shapes, dummy_fillers
from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.registry import LayerPass, trains


@trains("Parameter")
def parameter(given: LayerPass) -> list[Tensor]:
    """The layer's blob, which is learned (parameter_layer.hpp)."""
    return [given.blobs[0]]


@trains("DummyData")
def dummy_data(given: LayerPass) -> list[Tensor]:
    """Blobs of one value, or of random numbers that are drawn anew for every batch (dummy_data_layer.cpp)."""
    tops = []
    for filler, shape in zip(dummy_fillers(given.layer), dummy_data_shapes(given.layer, ()).outputs, strict=True):
        if filler.kind == "constant":
            values = np.full(shape, filler.value, np.float32)
        elif filler.kind == "uniform":
            values = given.random().uniform(filler.low, filler.high, shape).astype(np.float32)
        elif filler.kind == "gaussian":
            values = given.random().normal(filler.mean, filler.std, shape).astype(np.float32)
        else:
            what = f"a filler of type '{filler.kind}' cannot make data"
            raise given.layer.view.error(what, cure="use constant, uniform or gaussian", field="dummy_data_param")
        tops.append(torch.from_numpy(values))
    return tops

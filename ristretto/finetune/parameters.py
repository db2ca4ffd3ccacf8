"""The weights to be trained: one array each, however many layers share it, with Caffe's factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.parameters import Blobs
from ristretto.caffe.view import View
from ristretto.finetune.backend import Tensor, torch


@dataclass(frozen=True, slots=True)
class Parameter:
    """One weight blob.

    Attributes:
        layer: the layer that owns it.
        data: its values, float; changed in place.
        tensor: the same memory for torch.
        lr_mult, decay_mult: factors of the learning rate and of the regularization (caffe.proto, ParamSpec).
    """

    layer: str
    data: NDArray[np.float32]
    tensor: Tensor
    lr_mult: float
    decay_mult: float

    def gradient(self) -> NDArray[np.float32]:
        """What the backward passes have added up; zeros where nothing came back."""
        if self.tensor.grad is None:
            return np.zeros_like(self.data)
        gradient: NDArray[np.float32] = self.tensor.grad.numpy()
        return gradient


@dataclass(frozen=True, slots=True)
class Parameters:
    """The weights of a net.

    Attributes:
        unique: each once, in the order of the layers (Net::learnable_params).
        layers: for each layer the weights that it uses.
    """

    unique: tuple[Parameter, ...]
    layers: tuple[tuple[Parameter, ...], ...]

    @classmethod
    def of(cls, net: NetSpec, blobs: Sequence[Blobs], *, double: bool = False) -> Parameters:
        """Copies of the blobs of each layer, as ``fit_weights`` gives them.

        Raises:
            NetError: layers that share a blob do not agree on its factors.
        """
        unique: list[Parameter] = []
        named: dict[str, Parameter] = {}
        layers = []
        for layer, own in zip(net.layers, blobs, strict=True):
            specs = layer.view.children("param")
            used = []
            for position, blob in enumerate(own):
                spec = specs[position] if position < len(specs) else View.empty("ParamSpec")
                name = spec.text("name")
                if name and name in named:
                    used.append(_agreed(named[name], spec))
                    continue
                unique.append(_parameter(layer, blob, spec, double))
                used.append(unique[-1])
                if name:
                    named[name] = unique[-1]
            layers.append(tuple(used))
        return cls(tuple(unique), tuple(layers))


def _parameter(layer: LayerSpec, blob: NDArray[np.float32], spec: View, double: bool) -> Parameter:
    data: NDArray[Any] = np.array(blob, np.float64 if double else np.float32, order="C")
    tensor = torch.from_numpy(data)
    # The statistics of a BatchNorm are not learned, whatever the prototxt says (batch_norm_layer.cpp).
    rate = 0.0 if layer.type == "BatchNorm" else spec.number("lr_mult")
    tensor.requires_grad_(rate != 0.0)
    return Parameter(layer.name, data, tensor, rate, spec.number("decay_mult"))


def _agreed(shared: Parameter, spec: View) -> Parameter:
    for field in ("lr_mult", "decay_mult"):
        if spec.has(field) and spec.number(field) != getattr(shared, field):
            what = f"{field} of a shared parameter is {spec.number(field):g} here, and another one at its owner"
            raise spec.error(what, field=field, cure=f"the owner is layer '{shared.layer}': make the two equal")
    return shared

"""A net that is run forwards and backwards: Caffe's layers in order, values rounded where their formats say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

import ristretto.finetune.layers  # noqa: F401  (registers the lowerings)
from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.parameters import Blobs
from ristretto.caffe.shapes import FED_TYPES
from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.parameters import Parameters
from ristretto.finetune.registry import LayerPass, Lowering, lowering_of
from ristretto.finetune.rounding import rounded_activation, straight_through
from ristretto.finetune.shares import imagewise
from ristretto.finetune.thresholds import Threshold, Thresholds
from ristretto.graph.rounded_blobs import rounded_blobs
from ristretto.numerics.formats import ChannelFixedPoint, Format
from ristretto.numerics.layer_formats import FLOAT_LAYER, LayerFormats, Role
from ristretto.numerics.rounding import Rounding

_SHARES_MEMORY = frozenset({"Split", "Reshape", "Flatten"})
"""Layers whose top is the bottom's memory in Caffe, so that rounding the one in place rounds the other."""

_IMAGEWISE = frozenset(
    {"ReLU", "ReLU6", "TanH", "Sigmoid", "ELU", "Swish", "Clip", "AbsVal", "BNLL", "Pooling", "LRN", "LRNRistretto"}
)
"""Layers with one bottom and no weights that neither mix images nor draw random numbers."""

_STREAM = 61
"""Sets the random numbers of training apart from those of the data."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """How a net is rounded while it is trained.

    Attributes:
        formats: the number formats of the quantized layers, by layer name.
        weights: how weights are rounded; None leaves them in float.
        activations: whether bottoms and tops are rounded too, as in a test.
        frozen: whether BatchNorm keeps the statistics it has.
        thresholds: the formats that are learned.
    """

    formats: Mapping[str, LayerFormats] = field(default_factory=dict)
    weights: Rounding | None = Rounding.STOCHASTIC
    activations: bool = False
    frozen: bool = False
    thresholds: Thresholds | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """Which random numbers a pass draws: the same for the same seed, iteration and batch of the iteration."""

    seed: int = 0
    iteration: int = 0
    batch: int = 0

    def of(self, layer: int, purpose: int) -> np.random.Generator:
        """Those of a layer, by its number, for a purpose."""
        return np.random.default_rng((_STREAM, self.seed, self.iteration, self.batch, layer, purpose))


@dataclass(frozen=True, slots=True)
class Passed:
    """What a forward pass made.

    Attributes:
        values: every value at the end of the pass.
        loss: the weighted sum of the losses, for the backward pass.
    """

    values: dict[str, Tensor]
    loss: Tensor


class TorchNet:
    """A net with its weights.

    Attributes:
        net: the net of one phase.
        parameters: its weights.
        rounding: how it is rounded.
        losses: the weight of each value that is a loss.
    """

    def __init__(
        self,
        net: NetSpec,
        blobs: Sequence[Blobs],
        losses: Mapping[str, float],
        rounding: Rounded | None = None,
        *,
        double: bool = False,
    ) -> None:
        self.net = net
        self.parameters = Parameters.of(net, blobs, double=double)
        self.rounding = rounding or Rounded(weights=None)
        self.losses = dict(losses)
        self._dtype = np.float64 if double else np.float32

    def forward(self, batch: Mapping[str, NDArray[np.floating]], draw: Draw | None = None) -> Passed:
        """Run a batch.

        Args:
            batch: what is fed, by blob name.
            draw: which random numbers are drawn; None for a pass that may draw none.

        Raises:
            NetError: a layer cannot be trained.
        """
        return _Pass(self, batch, draw or Draw()).run()

    def fed(self, array: NDArray[np.floating]) -> Tensor:
        """An array for torch."""
        return torch.from_numpy(np.array(array, self._dtype, order="C"))


class _Pass:
    """One forward pass: keeps for every value the tensor that holds it at present (as ``graph.build`` does)."""

    def __init__(self, net: TorchNet, batch: Mapping[str, NDArray[np.floating]], draw: Draw) -> None:
        self.owner = net
        self.rounding = net.rounding
        self.batch = batch
        self.draw = draw
        self.current: dict[str, Tensor] = {}
        self.memory: dict[str, list[str]] = {}

    def run(self) -> Passed:
        for number, layer in enumerate(self.owner.net.layers):
            if layer.type in FED_TYPES:
                made = [self.owner.fed(self.batch[blob]) for blob in layer.tops]
            else:
                made = self._made(number, layer)
            for value, tensor in zip(layer.outputs, made, strict=True):
                self.current[value] = tensor
                self.memory[value] = [value]
            if layer.type in _SHARES_MEMORY:
                group = self.memory[layer.inputs[0]]
                for value in layer.outputs:
                    group.append(value)
                    self.memory[value] = group
        terms = [weight * self.current[value].sum() for value, weight in self.owner.losses.items()]
        return Passed(self.current, sum(terms[1:], terms[0]) if terms else torch.zeros(()))

    def _made(self, number: int, layer: LayerSpec) -> list[Tensor]:
        lowering = lowering_of(layer.type)
        if lowering is None:
            cure = "leave it out of the phase TRAIN, or train a net without it"
            raise layer.view.error(f"layers of type '{layer.type}' cannot be trained", field="type", cure=cure)
        formats = self.rounding.formats.get(layer.name, FLOAT_LAYER)
        own = dict(self.current)
        if formats.input is not None and self.rounding.activations:
            for value in dict.fromkeys(layer.inputs):
                sharers = self.memory[value] if formats.in_place else [value]
                for sharer in sharers:
                    own[sharer] = self._activation(number, layer, "in", formats, self.current[sharer])
                if formats.in_place:
                    self.current.update((sharer, own[sharer]) for sharer in sharers)
        given = LayerPass(
            layer,
            tuple(own[value] for value in layer.inputs),
            self._weights(number, layer, formats),
            tuple(parameter.tensor for parameter in self.owner.parameters.layers[number]),
            self.draw.of(number, 0),
            self.rounding.frozen,
        )
        made = _run(lowering, given)
        if formats.output is not None and self.rounding.activations:
            rounded_tops = made[:1] if layer.type == "Pooling" else made
            made[: len(rounded_tops)] = [
                self._activation(number, layer, "out", formats, tensor) for tensor in rounded_tops
            ]
        return made

    def _activation(self, number: int, layer: LayerSpec, role: Role, formats: LayerFormats, value: Tensor) -> Tensor:
        threshold = self._threshold(layer, role)
        fmt = formats.at(role) if threshold is None else threshold.format
        assert fmt is not None
        rounding = formats.rounding or Rounding.HALF_EVEN
        result = rounded_activation(value, fmt, rounding, self.draw.of(number, 1 if role == "in" else 2))
        return result if threshold is None else threshold.attached(value, result, *_bounds(fmt, value))

    def _weights(self, number: int, layer: LayerSpec, formats: LayerFormats) -> tuple[Tensor, ...]:
        parameters = self.owner.parameters.layers[number]
        plain = tuple(parameter.tensor for parameter in parameters)
        if self.rounding.weights is None or (formats.params is None and formats.bias is None):
            return plain
        if self.rounding.thresholds is not None:
            formats = self.rounding.thresholds.formats({layer.name: formats})[layer.name]
        data = tuple(parameter.data for parameter in parameters)
        made = rounded_blobs(layer, data, formats, self.rounding.weights, self.draw.of(number, 3))
        results = tuple(
            tensor if new is old else straight_through(tensor, torch.from_numpy(new))
            for tensor, new, old in zip(plain, made, data, strict=True)
        )
        return self._with_thresholds(layer, formats, plain, results)

    def _with_thresholds(
        self, layer: LayerSpec, formats: LayerFormats, plain: tuple[Tensor, ...], results: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        attached = list(results)
        for position, role in enumerate(_weight_roles(layer)[: len(results)]):
            threshold, fmt = self._threshold(layer, role), formats.at(role)
            if threshold is not None and fmt is not None:
                bounds = _bounds(fmt, plain[position])
                attached[position] = threshold.attached(plain[position], results[position], *bounds)
        return tuple(attached)

    def _threshold(self, layer: LayerSpec, role: Role) -> Threshold | None:
        return None if self.rounding.thresholds is None else self.rounding.thresholds.at(layer.name, role)


def _run(lowering: Lowering, given: LayerPass) -> list[Tensor]:
    """What a layer makes, its images shared out where each is computed by itself."""
    if given.layer.type in _IMAGEWISE and len(given.inputs) == len(given.layer.tops) == 1:
        return [imagewise(lambda part: lowering(replace(given, inputs=(part,), rng=None))[0], given.inputs[0])]
    return list(lowering(given))


def _weight_roles(layer: LayerSpec) -> tuple[Role, ...]:
    """The roles of the blobs, in order; a Scale whose factors are a bottom has its bias alone."""
    if layer.type == "BatchNorm":
        return ()  # its blobs are statistics, which nothing is learned from
    return ("bias",) if layer.type == "Scale" and len(layer.inputs) == 2 else ("params", "bias")


def _bounds(fmt: Format, value: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest value of a format, to be broadcast over a value."""
    if not isinstance(fmt, ChannelFixedPoint):
        return torch.tensor(fmt.min), torch.tensor(fmt.max)
    shape = (-1, *(1,) * (value.dim() - 1))
    low = torch.tensor([channel.min for channel in fmt.channels]).reshape(shape)
    return low, torch.tensor([channel.max for channel in fmt.channels]).reshape(shape)

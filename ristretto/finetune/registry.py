"""How each layer type is computed with torch: a decorator, a table, and what a layer may know of its pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.finetune.backend import Tensor


@dataclass(frozen=True, slots=True)
class LayerPass:
    """One layer in one pass.

    Attributes:
        layer: the layer, with its typed parameters behind ``layer.view``.
        inputs: the bottoms.
        blobs: the weights, in their number formats; gradients go on to the float weights.
        own: the float weights themselves, for layers that change them as they run.
        rng: for layers that draw random numbers; the same for the same seed, iteration and layer.
        frozen: whether BatchNorm uses its stored statistics in TRAIN too, and leaves them as they are.
    """

    layer: LayerSpec
    inputs: tuple[Tensor, ...]
    blobs: tuple[Tensor, ...] = ()
    own: tuple[Tensor, ...] = ()
    rng: np.random.Generator | None = None
    frozen: bool = False

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the bottoms."""
        return tuple(tuple(value.shape) for value in self.inputs)

    def random(self) -> np.random.Generator:
        """Where random numbers are drawn from.

        Raises:
            ValueError: the pass has none: a fault of the program.
        """
        if self.rng is None:
            message = f"layer {self.layer.name} draws random numbers, and none were given"
            raise ValueError(message)
        return self.rng


Lowering = Callable[[LayerPass], Sequence[Tensor]]

_LOWERINGS: dict[str, Lowering] = {}


def trains(*types: str) -> Callable[[Lowering], Lowering]:
    """Register a function as what computes the given layer types; it returns one tensor per top."""

    def register(lowering: Lowering) -> Lowering:
        for type_name in types:
            if type_name in _LOWERINGS:
                message = f"layer type '{type_name}' is already registered"
                raise ValueError(message)
            _LOWERINGS[type_name] = lowering
        return lowering

    return register


def lowering_of(type_name: str) -> Lowering | None:
    """What computes a layer type, or None."""
    return _LOWERINGS.get(type_name)


def trained_types() -> frozenset[str]:
    """All layer types that a net to be trained may have."""
    return frozenset(_LOWERINGS)

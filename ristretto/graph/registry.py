"""The emitters of all layer types: a decorator, a table, and the context an emitter works in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.graph.integer import Linear
from ristretto.graph.nodes import NodeList
from ristretto.numerics.layer_formats import FLOAT_LAYER, LayerFormats
from ristretto.numerics.rounding import Rounding


@dataclass(frozen=True, slots=True)
class LayerContext:
    """What an emitter may know of its layer.

    Attributes:
        layer: the layer, with its typed parameters behind ``layer.view``.
        inputs: ONNX value names of the bottoms (float32, as all Caffe blobs are: labels too). Where ``nodes.double`` is
            set the model is made float64 afterwards: write it as if for float32.
        input_shapes, output_shapes: Caffe's shapes of bottoms and tops.
        blobs: the layer's weights, float32 (float64 with ``nodes.double``), already in their number formats and of the
            shapes that the shape rule promised.
        nodes: where to append ONNX nodes.
        seed: for layers that draw random numbers.
        formats, rounding: the layer's number formats, for the one type that rounds inside (bottoms, weights and tops
            are rounded outside the emitter).
        integer: how a layer of products and sums is computed on integers, or written for others; or None.
    """

    layer: LayerSpec
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    blobs: tuple[NDArray[np.float32], ...]
    nodes: NodeList
    seed: int = 0
    formats: LayerFormats = FLOAT_LAYER
    rounding: Rounding = Rounding.HALF_EVEN
    integer: Linear | None = None

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; an attribute that is None is left out."""
        return self.nodes.op(op_type, *inputs, **attributes)

    def weight(self, array: NDArray[Any], stem: str = "weight") -> str:
        """Append an initializer."""
        return self.nodes.constant(np.asarray(array), stem)

    def linear(self, op_type: str, values: Sequence[str], **attributes: Any) -> list[str]:
        """Append an operation of products with the weights, added up with the bias, on each of some values.

        In integer arithmetic the results are rounded to the output's format already.

        Args:
            op_type: Conv, ConvTranspose or Gemm.
            values: their inputs.
            attributes: of the operation.
        """
        if self.integer is not None:
            return self.integer.emit(self.nodes, op_type, values, self.blobs, attributes)
        weights = [self.weight(blob, stem) for blob, stem in zip(self.blobs, ("weight", "bias"), strict=False)]
        return [self.op(op_type, value, *weights, **attributes) for value in values]


Emitter = Callable[[LayerContext], Sequence[str]]

_EMITTERS: dict[str, Emitter] = {}


def emits(*types: str) -> Callable[[Emitter], Emitter]:
    """Register a function as the emitter of the given layer types.

    The function appends nodes through the context and returns one value name per top. It may return a name it was
    given (a layer that passes its bottom on).
    """

    def register(emitter: Emitter) -> Emitter:
        for type_name in types:
            if type_name in _EMITTERS:
                message = f"an emitter for layer type '{type_name}' is already registered"
                raise ValueError(message)
            _EMITTERS[type_name] = emitter
        return emitter

    return register


def forget_emitters(types: Iterable[str]) -> None:
    """Take emitters away again: those of a plug-in that failed halfway."""
    for type_name in types:
        del _EMITTERS[type_name]


def emitter_of(type_name: str) -> Emitter | None:
    """The emitter of a layer type, or None."""
    return _EMITTERS.get(type_name)


def emitted_types() -> frozenset[str]:
    """All layer types that can be run."""
    return frozenset(_EMITTERS)

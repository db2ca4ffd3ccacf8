"""Nets whose values are seen as their layers made them, and single layers of them on values of one's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.parameters import Blobs, fit_weights
from ristretto.caffe.shapes import FED_TYPES, NetShapes, infer_shapes
from ristretto.caffe.weights import Weights
from ristretto.graph.build import BuiltNet, Section, Simulation, build
from ristretto.graph.groups import convolves_in_groups
from ristretto.graph.steady import steady
from ristretto.pipeline.device import current_device
from ristretto.runtime.session import Session

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Part:
    """A net or a layer, ready to run: what to feed by name, and what comes out."""

    inputs: dict[str, str]
    outputs: tuple[str, ...]
    session: Session

    def run(self, fed: Mapping[str, Array]) -> dict[str, Array]:
        return self.session.run({name: fed[blob] for blob, name in self.inputs.items()}, self.outputs)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A net for the input shapes that it was last prepared for.

    Attributes:
        fed: these shapes, by blob.
        shapes: of all values.
        blobs: the float weights of each layer.
        parts: what was built so far: single layers by number, the whole net under None.
    """

    fed: dict[str, Shape]
    shapes: NetShapes
    blobs: tuple[Blobs, ...]
    parts: dict[int | None, _Part] = field(default_factory=dict)


@dataclass
class WatchedNet:
    """A net in one simulation, run for values as they are made.

    ``Runner`` gives values as they are after the forward pass, when later layers may have rounded them in place.

    Attributes:
        net, weights, simulation: what is run.
        values: what to return of each batch: values that layers make, or that are fed.
        threads: threads per run; 0 for one per core.
        device: the GPU to run on, None for the CPU.
    """

    net: NetSpec
    weights: Weights | None
    simulation: Simulation
    values: Sequence[str] = ()
    threads: int = 0
    device: int | None = field(default_factory=current_device)
    _fitted: Fitted | None = None

    def fit(self, fed: Mapping[str, Shape]) -> Fitted:
        """Fit shapes and weights to input shapes.

        Raises:
            RistrettoError: they do not go together.
        """
        if self._fitted is None or self._fitted.fed != dict(fed):
            shapes = infer_shapes(self.net, fed)
            self._fitted = Fitted(dict(fed), shapes, fit_weights(self.net, shapes, self.weights))
        return self._fitted

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The values of one batch, by name."""
        fitted = self.fit({blob: array.shape for blob, array in batch.items()})
        sources = fed_values(self.net)
        made = [value for value in self.values if value not in sources]
        if None not in fitted.parts:
            built = build(self.net, fitted.shapes, fitted.blobs, outputs=made, simulation=self.simulation)
            fitted.parts[None] = self._part(built, made)
        fed = {value: batch[sources[value]] for value in self.values if value in sources}
        return fitted.parts[None].run(batch) | fed

    def run_layer(self, number: int, inputs: Sequence[Array]) -> list[Array] | None:
        """What one layer, simulated as the whole net is, makes of given bottoms.

        Args:
            number: its place in ``net.layers``.
            inputs: its bottoms, of the shapes that the net was last run or fitted with.

        Returns:
            its tops; None where a bottom has another shape than the net was fitted for, as it may if data decides it.
        """
        layer, fitted = self.net.layers[number], self._fitted
        wanted = [fitted.shapes.values[value] for value in layer.inputs] if fitted is not None else []
        if fitted is None or wanted != [array.shape for array in inputs]:
            return None
        if number not in fitted.parts:
            built = build(
                self.net,
                fitted.shapes,
                fitted.blobs,
                outputs=layer.outputs,
                simulation=self.simulation,
                section=Section(number, number + 1),
            )
            fitted.parts[number] = self._part(built, layer.outputs)
        results = fitted.parts[number].run(dict(zip(layer.inputs, inputs, strict=True)))
        return [results[value] for value in layer.outputs]

    def _part(self, built: BuiltNet, values: Sequence[str]) -> _Part:
        """A model whose outputs are values under their own names, which is how ``build`` names them when made."""
        graph = built.model.graph
        element = graph.output[0].type.tensor_type.elem_type if graph.output else onnx.TensorProto.FLOAT
        del graph.output[:]
        graph.output.extend(helper.make_tensor_value_info(value, element, None) for value in values)
        session = Session(
            steady(built.model, double=built.double).SerializeToString(),
            threads=self.threads,
            device=self.device,
            in_groups=convolves_in_groups(built.model),
        )
        return _Part(built.inputs, tuple(values), session)


def fed_values(net: NetSpec) -> dict[str, str]:
    """The values that come from outside a net, each with its blob."""
    fed = [layer for layer in net.layers if layer.type in FED_TYPES]
    return {value: blob for layer in fed for value, blob in zip(layer.outputs, layer.tops, strict=True)}

"""The typed net of one phase: which layers run, in which order, on which values.

A *blob* is a name in the prototxt; it may be written several times by layers that work in place. A *value* is
one version of a blob and is written exactly once. The last version of a blob carries the blob's name; an earlier
one is called ``blob@layer`` after the layer that makes it, so that what a user asks for by blob name is what
Caffe holds in that blob after the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ristretto.caffe.view import View

Phase = Literal["TRAIN", "TEST"]
Shape = tuple[int, ...]

PYTHON_PREFIX = "Python:"
"""What the type of a layer of Python code begins with; the name of its class follows."""


def type_of(layer: View) -> str:
    """A layer's type; that of a layer of Python code is ``Python:`` and its class."""
    name = layer.text("type")
    python_class = layer.child("python_param").text("layer") if name == "Python" else ""
    return PYTHON_PREFIX + python_class if python_class else name


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer that runs in the chosen phase.

    Attributes:
        name: the layer's name, as in the prototxt (not always unique there).
        type: today's type name ("Convolution", also for a V1 ``CONVOLUTION``), or "Python:" and a class.
        bottoms, tops: blob names as in the prototxt.
        inputs, outputs: the values read and made, parallel to bottoms and tops.
        view: the LayerParameter, for its parameter messages and for the place of errors.
        phase: the phase of the net it is part of.
        index: position among all layers of the (upgraded) file, whatever their phase.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    view: View
    phase: Phase
    index: int


@dataclass(frozen=True, slots=True)
class NetSpec:
    """The layers that run in one phase, in order, and what they read and make.

    Attributes:
        name: the net's name.
        phase: TRAIN or TEST.
        file: the prototxt it was read from.
        layers: every layer that the phase, level and stage rules leave in.
        finals: for each blob the value it holds after the forward pass.
        outputs: Caffe's output blobs (made and not consumed), in alphabetical order.
    """

    name: str
    phase: Phase
    file: str
    layers: tuple[LayerSpec, ...]
    finals: dict[str, str]
    outputs: tuple[str, ...]

    def layer(self, name: str) -> LayerSpec | None:
        """The first layer of that name, or None."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def producer(self, value: str) -> LayerSpec | None:
        """The layer that makes a value, or None."""
        return next((layer for layer in self.layers if value in layer.outputs), None)

    def upstream(self, values: Iterable[str]) -> frozenset[str]:
        """All values that some values are computed from, themselves included."""
        found = set(values)
        for layer in reversed(self.layers):
            if found.intersection(layer.outputs):
                found.update(layer.inputs)
        return frozenset(found)

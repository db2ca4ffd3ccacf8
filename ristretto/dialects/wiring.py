"""How the layers of a prototxt hang together, as far as dialects need to know: who reads what, in which format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ristretto.caffe.netspec import NetSpec, type_of
from ristretto.caffe.textproto import Document, Scalar
from ristretto.caffe.view import View
from ristretto.dialects.fields import PLAIN_TYPES, float_type
from ristretto.numerics.formats import DynamicFixedPoint, Format
from ristretto.numerics.layer_formats import LayerFormats

MOVING_TYPES = frozenset({"Dropout", "Flatten", "Permute", "Reshape", "Split"})
"""Types that only move values when a net is tested."""

_SHARING_TYPES = frozenset({"Flatten", "Reshape", "Split"})
"""Those of them whose output lies where their input lies."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One layer of a prototxt.

    Attributes:
        view: the layer.
        name: its name.
        kind: its float type, such as "Convolution" for a ConvolutionRistretto.
        inputs, outputs: the values it reads and makes, numbered in the order in which they are made.
    """

    view: View
    name: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def has_bias(self) -> bool:
        """Whether the layer adds a bias of its own; without one its bias has no format that would matter."""
        if self.kind == "InnerProduct":
            return self.view.child("inner_product_param").flag("bias_term")
        if self.kind == "Scale":
            return self.view.child("scale_param").flag("bias_term")
        if "onvolution" in self.kind:
            return self.view.child("convolution_param").flag("bias_term")
        return not self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether the layer keeps its type when it gets formats, and reads a copy of its bottoms."""
        return self.kind in PLAIN_TYPES

    @property
    def keeps_grid(self) -> bool:
        """Whether what it makes lies on the grid of what it reads: it moves values, or leaves some out."""
        if self.kind == "ReLU":
            return self.view.child("relu_param").number("negative_slope") == 0.0
        if self.kind == "Pooling":
            return self.view.child("pooling_param").text("pool") == "MAX"
        return self.kind in MOVING_TYPES


@dataclass(frozen=True, slots=True)
class Wiring:
    """The layers of a prototxt in order, whatever their phase, and who makes and reads each value."""

    places: tuple[Place, ...]
    makers: Mapping[int, Place] = field(default_factory=dict)
    readers: Mapping[int, tuple[Place, ...]] = field(default_factory=dict)

    def others(self, place: Place) -> tuple[Place, ...]:
        """The other layers that read the bottoms of a layer, or what lies in the same memory."""
        memory = {sharer for value in place.inputs for sharer in self._memory(value)}
        found = dict.fromkeys(reader for value in memory for reader in self.readers.get(value, ()))
        return tuple(other for other in found if other is not place and other.kind not in _SHARING_TYPES)

    def _memory(self, value: int) -> set[int]:
        """All values that lie where this one lies."""
        first = value
        while (maker := self.makers.get(first)) is not None and maker.kind in _SHARING_TYPES and maker.inputs:
            first = maker.inputs[0]
        memory, new = {first}, [first]
        while new:
            for reader in self.readers.get(new.pop(), ()):
                if reader.kind in _SHARING_TYPES:
                    new += [each for each in reader.outputs if each not in memory]
                    memory.update(reader.outputs)
        return memory

    def rectified(self, place: Place) -> bool:
        """Whether a ReLU is all that reads what a layer makes."""
        relu = place.view.child("convolution_param").raw("relu") if "onvolution" in place.kind else ()
        if any(isinstance(node, Scalar) and node.text in ("true", "1") for node in relu):
            return True
        readers = [reader for value in place.outputs for reader in self.readers.get(value, ())]
        return bool(readers) and all(reader.kind == "ReLU" and reader.keeps_grid for reader in readers)

    def stored(self, plan: Mapping[str, LayerFormats]) -> dict[int, DynamicFixedPoint]:
        """The format of each value that a plan makes sure to be on a grid, as later layers find it."""
        grids: dict[int, DynamicFixedPoint] = {}
        for place in self.places:
            formats = plan.get(place.name)
            made: Format | None = None
            if formats is not None and formats.in_place and isinstance(formats.input, DynamicFixedPoint):
                grids.update(dict.fromkeys(place.inputs, formats.input))
            if formats is not None and formats.output is not None:
                made = formats.output
            elif place.keeps_grid and place.inputs:
                read = None if formats is None else formats.input
                made = read or grids.get(place.inputs[0])
            if isinstance(made, DynamicFixedPoint):
                grids.update(dict.fromkeys(place.outputs[:1], made))
        return grids


def wire(layers: Document | NetSpec | Iterable[View]) -> Wiring:
    """The wiring of a prototxt, or of a net of one phase."""
    if isinstance(layers, NetSpec):
        layers = [layer.view for layer in layers.layers]
    elif isinstance(layers, Document):
        layers = View.of(layers, "NetParameter").children("layer")
    current: dict[str, int] = {}
    places, makers = [], {}
    readers: dict[int, list[Place]] = {}
    count = 0
    for view in layers:
        inputs = []
        for blob in view.texts("bottom"):
            if blob not in current:
                count += 1
                current[blob] = count
            inputs.append(current[blob])
        outputs = []
        for blob in view.texts("top"):
            count += 1
            current[blob] = count
            outputs.append(count)
        place = Place(view, view.text("name"), float_type(type_of(view)), tuple(inputs), tuple(outputs))
        places.append(place)
        makers.update(dict.fromkeys(outputs, place))
        for value in dict.fromkeys(inputs):
            readers.setdefault(value, []).append(place)
    return Wiring(tuple(places), makers, {value: tuple(found) for value, found in readers.items()})

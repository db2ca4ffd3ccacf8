"""Which layers of two nets stand against each other, and which of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ristretto.caffe.fold_weights import AFFINE_TYPES
from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.shapes import FED_TYPES
from ristretto.numerics.layer_formats import LayerFormats

_JUDGES = frozenset({"Accuracy", "DetectionOutput"})
"""Types whose tops are scores or lists, of which no signal to noise ratio can be taken; losses are others."""


_MOVES = frozenset({"Concat", "Crop", "Dropout", "Flatten", "Permute", "Reshape", "ShuffleChannel", "Slice", "Split"})
"""Types that move values and compute none; a Pooling for maxima is one more."""


@dataclass(frozen=True, slots=True)
class End:
    """A top of the second net and what it stands against.

    Attributes:
        position: its place among its layer's tops.
        value: the value of the second net.
        against: the value of the first net: the same top or, where the second net has folded layers into this one, what
            the last of them makes.
        folded: these layers.
        rectified: whether to compare what a ReLU leaves of both. A layer may store its top in a format without sign
            when only a ReLU comes after it: that is no error, the ReLU would have taken the negative part anyway.
    """

    position: int
    value: str
    against: str
    folded: tuple[str, ...]
    rectified: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer that both nets have.

    Attributes:
        first, second: the layer in each.
        number, other_number: its place among their layers.
        ends: its tops that are compared.
    """

    first: LayerSpec
    second: LayerSpec
    number: int
    other_number: int
    ends: tuple[End, ...]

    @property
    def first_values(self) -> tuple[str, ...]:
        """What it reads in the first net, and what its tops stand against."""
        return (*self.first.inputs, *(end.against for end in self.ends))

    @property
    def second_values(self) -> tuple[str, ...]:
        """What it reads in the second net, and the tops that are compared."""
        return (*self.second.inputs, *(end.value for end in self.ends))


def find_pairs(net: NetSpec, other: NetSpec, formats: Mapping[str, LayerFormats]) -> tuple[Pair, ...]:
    """The layers that both nets have, in the order of the second: of one name, with as many bottoms and tops.

    A type may differ, as a quantized layer's does; values may have other names, as they get when layers are folded.

    Args:
        net: the first net.
        other: the second.
        formats: those of the second, by layer.
    """
    places = {layer.name: number for number, layer in reversed([*enumerate(net.layers)])}
    names = {layer.name for layer in other.layers}
    rectified, readers = rectified_values(other, formats), _readers(net)
    pairs = []
    for number, layer in enumerate(other.layers):
        place = places.pop(layer.name, None) if is_compared(layer) else None
        if place is None:
            continue
        twin = net.layers[place]
        if len(twin.inputs) != len(layer.inputs) or len(twin.outputs) != len(layer.outputs) or not is_compared(twin):
            continue
        # The second top of a Pooling holds places, not values.
        tops = layer.outputs[:1] if layer.type == "Pooling" else layer.outputs
        ends = tuple(
            End(position, value, *_end(readers, names, twin.outputs[position]), rectified=value in rectified)
            for position, value in enumerate(tops)
        )
        pairs.append(Pair(twin, layer, place, number, ends))
    return tuple(pairs)


def is_compared(layer: LayerSpec) -> bool:
    """Whether a layer makes signals: what is fed is the same in both nets, losses and scores are no signals."""
    fed_or_judges = layer.type in FED_TYPES or layer.type in _JUDGES or is_loss(layer.type)
    return bool(layer.outputs) and not fed_or_judges


def _readers(net: NetSpec) -> dict[str, list[LayerSpec]]:
    """The layers that read each value, in the order of the net."""
    readers: dict[str, list[LayerSpec]] = {}
    for layer in net.layers:
        for value in dict.fromkeys(layer.inputs):
            readers.setdefault(value, []).append(layer)
    return readers


def _end(readers: Mapping[str, Sequence[LayerSpec]], names: set[str], value: str) -> tuple[str, tuple[str, ...]]:
    """The value that a top stands against, and the layers before it that the second net does without."""
    folded: list[str] = []
    while True:
        reading = readers.get(value, ())
        alone = len(reading) == 1 and reading[0].type in AFFINE_TYPES and reading[0].inputs == (value,)
        if not alone or reading[0].name in names:
            return value, tuple(folded)
        folded.append(reading[0].name)
        value = reading[0].outputs[0]


def rectified_values(net: NetSpec, formats: Mapping[str, LayerFormats]) -> frozenset[str]:
    """The values that lost their negative part to a format without sign, where nothing but ReLUs comes after them."""
    readers = _readers(net)
    only_relus: set[str] = set()
    for layer in reversed(net.layers):
        for value in layer.outputs:
            reading = readers.get(value, [])
            if reading and all(_is_relu(each) or (_moves(each) and only_relus >= {*each.outputs}) for each in reading):
                only_relus.add(value)
    cut: set[str] = set()
    for layer in net.layers:
        output = formats[layer.name].output if layer.name in formats else None
        if (output is not None and output.min >= 0.0) or (_moves(layer) and cut.issuperset(layer.inputs)):
            cut.update(layer.outputs)
    return frozenset(cut & only_relus)


def _is_relu(layer: LayerSpec) -> bool:
    return layer.type == "ReLU" and layer.view.child("relu_param").number("negative_slope") == 0


def _moves(layer: LayerSpec) -> bool:
    if layer.type == "Pooling":
        return len(layer.outputs) == 1 and layer.view.child("pooling_param").text("pool") == "MAX"
    return layer.type in _MOVES

"""Where a layer's result is stored: hardware rounds it once, when it writes what the next layers read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.shapes import FED_TYPES

_RECTIFIES = frozenset({"ReLU", "ReLU6", "Clip"})

_MOVES = frozenset({"Concat", "Crop", "Dropout", "Flatten", "Permute", "Reshape", "ShuffleChannel", "Slice", "Split"})
"""Layers that move values and compute none."""

_PASSES_ON = _MOVES | {"ReLU6"}
"""Layers with which rounding before them is rounding after them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How the result of a layer is stored.

    Attributes:
        readers: the layers whose input format it takes.
        wide: whether it stays as wide as an accumulator, since something is computed with it before it is stored, or
            since it leaves the net.

    A result with neither is stored in a format of its own.
    """

    readers: tuple[str, ...] = ()
    wide: bool = False


@dataclass(frozen=True, slots=True)
class _Reads:
    """Who reads a value, through whatever only moves values.

    Attributes:
        readers: quantized layers, and whether a ReLU is passed on the way.
        sums: layers that add, likewise.
        others: whether anything else is done with it.
    """

    readers: tuple[tuple[str, bool], ...] = ()
    sums: tuple[tuple[LayerSpec, bool], ...] = ()
    others: bool = False


def fed_values(net: NetSpec) -> frozenset[str]:
    """The values that the net is fed, and what layers make of them that only move values."""
    found: set[str] = set()
    for layer in net.layers:
        if layer.type in FED_TYPES or (layer.type in _MOVES and layer.inputs and found.issuperset(layer.inputs)):
            found.update(layer.outputs)
    return frozenset(found)


def stored_results(net: NetSpec, quantized: Collection[str], sums: Collection[str] = ()) -> dict[str, Stored]:
    """For each quantized layer how its result is stored.

    Between a result and its readers there is nothing but ReLU and what moves values. A result with which anything else
    is done, or that leaves the net, is not stored as it is.

    A ReLU counts as moving values: what its bottom holds below zero is lost in a reader's unsigned format as well, and
    in a signed one it stays below zero. The greatest of rounded values is the rounding of the greatest.

    A sum takes its operands as they are stored, and the one that is made last straight from the accumulator.

    Args:
        net: the net.
        quantized: names of the quantized layers.
        sums: those among them that add values (Eltwise) and have no input format.
    """
    reading: dict[str, list[LayerSpec]] = {}
    for layer in net.layers:
        for value in dict.fromkeys(layer.inputs):
            readers_of = reading.setdefault(value, [])
            if layer.type != "Silence":
                readers_of.append(layer)

    def follow(value: str, rectified: bool = False) -> _Reads:
        readers: list[tuple[str, bool]] = []
        added: list[tuple[LayerSpec, bool]] = []
        others = value not in reading
        for layer in reading.get(value, ()):
            if layer.name in sums:
                added.append((layer, rectified))
            elif layer.name in quantized:
                readers.append((layer.name, rectified))
            elif _passes_on(layer):
                moved = layer.outputs[:1] if layer.type == "Pooling" else layer.outputs
                for below in (follow(output, rectified or layer.type in _RECTIFIES) for output in moved):
                    readers += below.readers
                    added += below.sums
                    others |= below.others
            else:
                others = True
        return _Reads(tuple(dict.fromkeys(readers)), tuple(added), others)

    return {
        layer.name: _stored(net, layer, follow(layer.outputs[0])) for layer in net.layers if layer.name in quantized
    }


def _stored(net: NetSpec, layer: LayerSpec, reads: _Reads) -> Stored:
    paths = {rectified for _, rectified in (*reads.readers, *reads.sums)}
    # A reader's unsigned format would cut off what a sum reads before the ReLU.
    if reads.others or (reads.sums and len(paths) > 1):
        return Stored(wide=True)
    if reads.readers:
        return Stored(tuple(dict.fromkeys(name for name, _ in reads.readers)))
    return Stored(wide=all(_made_last(net, layer, summing) for summing, _ in reads.sums))


def _made_last(net: NetSpec, layer: LayerSpec, summing: LayerSpec) -> bool:
    """Whether a layer makes the last of the operands of a sum, which then need not be stored."""
    position = {each.outputs[0]: number for number, each in enumerate(net.layers) if each.outputs}

    def source(value: str) -> int:
        maker = net.producer(value)
        if maker is not None and maker.inputs and _passes_on(maker):
            return max(map(source, maker.inputs))
        return position.get(maker.outputs[0], -1) if maker is not None else -1

    return position[layer.outputs[0]] == max(map(source, summing.inputs))


def _passes_on(layer: LayerSpec) -> bool:
    if layer.type == "Clip":
        # The greatest value is on the grid of any format that reaches it, but for those of one or two bits.
        return layer.view.child("clip_param").number("min") == 0
    if layer.type == "ReLU":
        return layer.view.child("relu_param").number("negative_slope") == 0
    if layer.type == "Pooling":
        return layer.view.child("pooling_param").text("pool") == "MAX"
    return layer.type in _PASSES_ON

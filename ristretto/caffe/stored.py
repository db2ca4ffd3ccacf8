"""Where a layer's result is stored: hardware rounds it once, when it writes what the next layers read."""

from __future__ import annotations

from collections.abc import Collection

from ristretto.caffe.netspec import LayerSpec, NetSpec

_PASSES_ON = frozenset(
    {"Concat", "Crop", "Dropout", "Flatten", "Permute", "Reshape", "ShuffleChannel", "Slice", "Split"}
)
"""Layers that move values and compute none, so that rounding before them is rounding after them."""


def stored_results(net: NetSpec, quantized: Collection[str]) -> dict[str, tuple[str, ...]]:
    """For each quantized layer the quantized layers that read its result as it is stored.

    Between the two there is nothing but ReLU and what moves values. A result with which anything else is done, or that
    leaves the net, has no such readers: it is not stored as it is.

    A ReLU counts as moving values: what its bottom holds below zero is lost in a reader's unsigned format as well, and
    in a signed one it stays below zero. The greatest of rounded values is the rounding of the greatest.
    """
    readers: dict[str, list[LayerSpec]] = {}
    for layer in net.layers:
        for value in dict.fromkeys(layer.inputs):
            readers.setdefault(value, []).append(layer)

    def follow(value: str) -> tuple[str, ...]:
        found: list[str] = []
        for layer in readers.get(value, ()):
            if layer.name in quantized:
                found.append(layer.name)
                continue
            moved = layer.outputs[:1] if layer.type == "Pooling" else layer.outputs
            below = [follow(output) for output in moved] if _passes_on(layer) else [()]
            if not all(below):
                return ()
            found += [name for names in below for name in names]
        return tuple(dict.fromkeys(found))

    return {layer.name: follow(layer.outputs[0]) for layer in net.layers if layer.name in quantized}


def _passes_on(layer: LayerSpec) -> bool:
    if layer.type == "ReLU":
        return layer.view.child("relu_param").number("negative_slope") == 0
    if layer.type == "Pooling":
        return layer.view.child("pooling_param").text("pool") == "MAX"
    return layer.type in _PASSES_ON

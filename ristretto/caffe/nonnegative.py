"""Which values of a net are never negative, whatever it is fed: their formats can do without a sign bit."""

from __future__ import annotations

from ristretto.caffe.netspec import LayerSpec, NetSpec

_ALWAYS = frozenset({"Sigmoid", "AbsVal", "Exp", "BNLL", "Softmax", "ReLU6", "Threshold"})
_AS_THEIR_BOTTOMS = frozenset(
    {
        "Concat", "Crop", "Dropout", "Flatten", "LRN", "Permute", "Pooling", "Reshape", "ShuffleChannel", "Slice",
        "Split", "Tile",
    }
)  # fmt: skip


def nonnegative_values(net: NetSpec) -> frozenset[str]:
    """The values that no weights and no data can make negative.

    A pooling window may lie in the padding alone, where the average is 0 and the maximum that of real pixels.
    """
    found: set[str] = set()
    for layer in net.layers:
        if _is_nonnegative(layer, all(value in found for value in layer.inputs), found):
            # A second top of Pooling or ArgMax holds places, which are counted from 0.
            found.update(layer.outputs)
    return frozenset(found)


def _is_nonnegative(layer: LayerSpec, inputs: bool, found: set[str]) -> bool:
    if layer.type in _ALWAYS:
        return True
    if layer.type == "ReLU":
        return layer.view.child("relu_param").number("negative_slope") == 0
    if layer.type == "Clip":
        return layer.view.child("clip_param").number("min") >= 0
    if layer.type == "Eltwise":
        return _eltwise(layer, inputs, found)
    return layer.type in _AS_THEIR_BOTTOMS and bool(layer.inputs) and inputs


def _eltwise(layer: LayerSpec, inputs: bool, found: set[str]) -> bool:
    view = layer.view.child("eltwise_param")
    operation = view.text("operation")
    if operation == "MAX":
        return any(value in found for value in layer.inputs)
    if operation == "SUM":
        return inputs and all(coefficient >= 0 for coefficient in view.numbers("coeff"))
    return inputs

"""V1 nets, whose ``layers`` have types in capitals, brought to today's form (BVLC/caffe upgrade_proto.cpp)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ristretto.caffe.edit import Edits
from ristretto.caffe.textproto import Document, Message, Scalar
from ristretto.caffe.view import View

V2_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "NONE": "",
        "ABSVAL": "AbsVal",
        "ACCURACY": "Accuracy",
        "ARGMAX": "ArgMax",
        "BNLL": "BNLL",
        "CONCAT": "Concat",
        "CONTRASTIVE_LOSS": "ContrastiveLoss",
        "CONVOLUTION": "Convolution",
        "DATA": "Data",
        "DECONVOLUTION": "Deconvolution",
        "DROPOUT": "Dropout",
        "DUMMY_DATA": "DummyData",
        "ELTWISE": "Eltwise",
        "EUCLIDEAN_LOSS": "EuclideanLoss",
        "EXP": "Exp",
        "FLATTEN": "Flatten",
        "HDF5_DATA": "HDF5Data",
        "HDF5_OUTPUT": "HDF5Output",
        "HINGE_LOSS": "HingeLoss",
        "IM2COL": "Im2col",
        "IMAGE_DATA": "ImageData",
        "INFOGAIN_LOSS": "InfogainLoss",
        "INNER_PRODUCT": "InnerProduct",
        "LRN": "LRN",
        "MEMORY_DATA": "MemoryData",
        "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
        "MVN": "MVN",
        "POOLING": "Pooling",
        "POWER": "Power",
        "RELU": "ReLU",
        "SIGMOID": "Sigmoid",
        "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
        "SILENCE": "Silence",
        "SLICE": "Slice",
        "SOFTMAX": "Softmax",
        "SOFTMAX_LOSS": "SoftmaxWithLoss",
        "SPLIT": "Split",
        "TANH": "TanH",
        "THRESHOLD": "Threshold",
        "WINDOW_DATA": "WindowData",
    }
)
"""V1's types in today's words (UpgradeV1LayerType)."""

_PARAM_FIELDS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
"""V1's parallel lists, and the field of ParamSpec that each became."""

_TRANSFORM_SOURCES = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")


def upgrade_v1(document: Document) -> Document:
    """A V1 net in today's form (UpgradeNetDataTransformation, UpgradeV1Net); others come back as they are.

    Raises:
        NetError: the net has both ``layer`` and ``layers``, or a type in quotes.
        PrototxtError: a type that is none of V1's.
    """
    root = View.of(document, "NetParameter")
    old = root.children("layers")
    if not old:
        return document
    if root.has("layer"):
        what = "the net has both 'layer' and 'layers' fields"
        raise root.error(what, field="layers", cure="write all of them as 'layer'")
    edits = Edits(document)
    for entry in document.root.named("layers"):
        edits.replace(entry.start, entry.name_end, "layer")
    for layer in old:
        _check_type(layer)
        if layer.has("type"):
            edits.set_scalar(layer.message, "type", f'"{V2_TYPES[layer.text("type")]}"')
        _upgrade_params(edits, layer)
        _move_transforms(edits, layer)
    return edits.apply()


def _check_type(layer: View) -> None:
    """Say it well where a modern layer is written as ``layers``: all that is wrong is one letter."""
    kind = layer.message.first("type")
    if isinstance(kind, Scalar) and kind.kind == "string" and kind.text in V2_TYPES.values():
        what = f"'layers' with the modern type \"{kind.text}\""
        raise layer.error(what, field="type", cure="write 'layer' in place of 'layers'")


def _upgrade_params(edits: Edits, layer: View) -> None:
    """Turn the parallel lists about a layer's blobs into one message for each blob."""
    old = [entry for entry in layer.message.fields if entry.name in _PARAM_FIELDS]
    if not old:
        return
    columns = {
        new: [edits.document.text[node.start : node.end] for node in layer.message.all(name)]
        for name, new in _PARAM_FIELDS.items()
    }
    specs = []
    for position in range(max(map(len, columns.values()))):
        values = [f"{name}: {texts[position]}" for name, texts in columns.items() if position < len(texts)]
        specs.append(" ".join(["param {", *values, "}"]))
    edits.replace_field(old[0], specs)
    for entry in old[1:]:
        edits.remove(entry)


def _move_transforms(edits: Edits, layer: View) -> None:
    """Move the transformation out of a data layer's own parameters (CONVERT_LAYER_TRANSFORM_PARAM)."""
    source = _TRANSFORM_SOURCES.get(layer.text("type"))
    if source is None or not layer.has(source):
        return
    moved = {}
    for entry in layer.child(source).message.fields:
        if entry.name in _TRANSFORM_FIELDS and entry.values:
            node = entry.values[-1]
            moved[entry.name] = edits.document.text[node.start : node.end]
            edits.remove(entry)
    target = layer.message.first("transform_param")
    if isinstance(target, Message):
        for name, text in moved.items():
            edits.set_scalar(target, name, text)
    elif moved:
        edits.set_message(layer.message, "transform_param", [f"{name}: {text}" for name, text in moved.items()])

"""V1 layers to today's (upgrade_proto.cpp: UpgradeV1LayerParameter, UpgradeNetDataTransformation)."""

from __future__ import annotations

from ristretto.caffe.edit import Edits
from ristretto.caffe.textproto import Document, Field, Message, Scalar
from ristretto.errors import NetError

V1_TYPES = {
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
"""Today's type of each V1 type."""

_MOVED = ("scale", "mean_file", "crop_size", "mirror")
_DATA_PARAMS = ("data_param", "image_data_param", "window_data_param")
_PER_PARAM = ("param", "blob_share_mode", "blobs_lr", "weight_decay")


def edit_v1_layer(document: Document, edits: Edits, layer: Message) -> None:
    """Add the edits that bring one V1 layer to today's form.

    Raises:
        NetError: its type is none of V1's.
    """
    kind = layer.first("type")
    if isinstance(kind, Scalar) and kind.kind != "string":
        if kind.text not in V1_TYPES:
            line, column = document.position(kind.start)
            what = f"there is no V1 layer type {kind.text}"
            raise NetError(what, file=document.file, line=line, column=column, cure="check the spelling")
        edits.replace(kind.start, kind.end, f'"{V1_TYPES[kind.text]}"')
    _edit_params(edits, layer)
    _edit_transformation(document, edits, layer)


def _edit_params(edits: Edits, layer: Message) -> None:
    """blobs_lr, weight_decay, param names and share modes become one ``param`` message per blob."""
    found = [field for field in layer.fields if field.name in _PER_PARAM]
    if not found or any(isinstance(value, Message) for field in found for value in field.values):
        return
    values = {name: layer.all(name) for name in _PER_PARAM}
    blocks = []
    for number in range(max(map(len, values.values()))):
        lines = []
        for name, today in zip(_PER_PARAM, ("name", "share_mode", "lr_mult", "decay_mult"), strict=True):
            if number < len(values[name]):
                node = values[name][number]
                lines.append(f"{today}: {edits.document.text[node.start : node.end]}")
        blocks.append(f"param {{ {' '.join(lines)} }}")
    edits.replace(found[0].start, found[0].end, " ".join(blocks))
    for field in found[1:]:
        edits.remove(field)


def _edit_transformation(document: Document, edits: Edits, layer: Message) -> None:
    """Scale, mean file, crop and mirror move from the data parameters into transform_param."""
    lines: list[str] = []
    taken: list[Field] = []
    for name in _DATA_PARAMS:
        node = layer.first(name)
        if isinstance(node, Message):
            taken += [field for field in node.fields if field.name in _MOVED]
    for field in taken:
        edits.remove(field)
        lines += [f"{field.name}: {document.text[value.start : value.end]}" for value in field.values]
    if not lines:
        return
    existing = layer.first("transform_param")
    if isinstance(existing, Message):
        kept = [document.text[field.start : field.end] for field in existing.fields]
        lines = kept + [line for line in lines if line.split(":")[0] not in {field.name for field in existing.fields}]
    edits.set_message(layer, "transform_param", lines)

"""V0 layers to today's (upgrade_proto.cpp: UpgradeV0PaddingLayers, UpgradeV0LayerParameter)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from ristretto.caffe.edit import Edits
from ristretto.caffe.textproto import Document, Field, Message, Scalar
from ristretto.errors import NetError

V0_TYPES = {
    "accuracy": "Accuracy",
    "bnll": "BNLL",
    "concat": "Concat",
    "conv": "Convolution",
    "data": "Data",
    "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "im2col": "Im2col",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss",
    "split": "Split",
    "tanh": "TanH",
    "window_data": "WindowData",
}
"""Today's type of each V0 type."""

_CONV, _FC, _POOL = ("conv", "convolution_param"), ("innerproduct", "inner_product_param"), ("pool", "pooling_param")
_DATA, _HDF5, _IMAGES = ("data", "data_param"), ("hdf5_data", "hdf5_data_param"), ("images", "image_data_param")
_WINDOW, _LRN = ("window_data", "window_data_param"), ("lrn", "lrn_param")

_FIELDS: dict[str, tuple[str, dict[str, str]]] = {
    "num_output": ("num_output", dict([_CONV, _FC])),
    "biasterm": ("bias_term", dict([_CONV, _FC])),
    "weight_filler": ("weight_filler", dict([_CONV, _FC])),
    "bias_filler": ("bias_filler", dict([_CONV, _FC])),
    "pad": ("pad", dict([_CONV, _POOL])),
    "kernelsize": ("kernel_size", dict([_CONV, _POOL])),
    "group": ("group", dict([_CONV])),
    "stride": ("stride", dict([_CONV, _POOL])),
    "pool": ("pool", dict([_POOL])),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", dict([_LRN])),
    "alpha": ("alpha", dict([_LRN])),
    "beta": ("beta", dict([_LRN])),
    "k": ("k", dict([_LRN])),
    "source": ("source", dict([_DATA, _HDF5, _IMAGES, _WINDOW, ("infogain_loss", "infogain_loss_param")])),
    "batchsize": ("batch_size", dict([_DATA, _HDF5, _IMAGES, _WINDOW])),
    "rand_skip": ("rand_skip", dict([_DATA, _IMAGES])),
    "shuffle_images": ("shuffle", dict([_IMAGES])),
    "new_height": ("new_height", dict([_IMAGES])),
    "new_width": ("new_width", dict([_IMAGES])),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    "det_fg_threshold": ("fg_threshold", dict([_WINDOW])),
    "det_bg_threshold": ("bg_threshold", dict([_WINDOW])),
    "det_fg_fraction": ("fg_fraction", dict([_WINDOW])),
    "det_context_pad": ("context_pad", dict([_WINDOW])),
    "det_crop_mode": ("crop_mode", dict([_WINDOW])),
}
"""For each V0 field its name today and the message it lives in, by V0 type."""

_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}


def edit_v0_layers(document: Document, edits: Edits, layers: Sequence[Message]) -> None:
    """Add the edits that bring all layers of a V0 net to today's form.

    Raises:
        NetError: a type is none of V0's, or a padding layer feeds anything but a convolution or a pooling.
    """
    pads, rewired = _fold_padding(document, layers)
    for field in document.root.named("layers"):
        for node in field.values:
            if not isinstance(node, Message):
                continue
            if node.start in pads:
                edits.remove(field)
            else:
                text = _layer_text(document, node, rewired.get(node.start, {}))
                edits.replace(field.start, field.end, text)


def _text(document: Document, node: Scalar | Message) -> str:
    return " ".join(line.strip() for line in document.text[node.start : node.end].splitlines())


def _inner(document: Document, layer: Message) -> Message:
    inner = layer.first("layer")
    if not isinstance(inner, Message):
        _fail(document, layer, "this V0 net has a layer without an inner 'layer'", "write all layers in one form")
    return inner


def _fail(document: Document, node: Message | Scalar, what: str, cure: str) -> NoReturn:
    line, column = document.position(node.start)
    raise NetError(what, file=document.file, line=line, column=column, cure=cure)


def _word(message: Message, name: str) -> str:
    node = message.first(name)
    return node.text if isinstance(node, Scalar) else ""


def _words(message: Message, name: str) -> list[str]:
    return [node.text for node in message.all(name) if isinstance(node, Scalar)]


def _fold_padding(document: Document, layers: Sequence[Message]) -> tuple[set[int], dict[int, dict[str, str]]]:
    """Padding layers become the pad of the layer they feed.

    Returns:
        where the padding layers start, and for each layer that one feeds {"pad": PAD, "bottom": BLOB}.
    """
    maker: dict[str, Message] = {}
    pads: set[int] = set()
    rewired: dict[int, dict[str, str]] = {}
    for layer in layers:
        inner = _inner(document, layer)
        if _word(inner, "type") == "padding":
            pads.add(layer.start)
        for blob in _words(layer, "bottom"):
            source = maker.get(blob)
            if source is None or source.start not in pads:
                continue
            if _word(inner, "type") not in ("conv", "pool") or len(_words(layer, "bottom")) != 1:
                _fail(document, layer, "a padding layer may feed one convolution or pooling only", "use its pad field")
            pad = _word(_inner(document, source), "pad")
            rewired[layer.start] = {"pad": pad, "bottom": _words(source, "bottom")[0]}
        maker.update((blob, layer) for blob in _words(layer, "top"))
    return pads, rewired


def _layer_text(document: Document, layer: Message, padding: dict[str, str]) -> str:
    """A V0 layer as the text of today's layer, its comments first."""
    inner = _inner(document, layer)
    kind = _word(inner, "type")
    if kind not in V0_TYPES:
        _fail(document, inner.first("type") or inner, f"there is no V0 layer type '{kind}'", "check the spelling")
    bottoms = [f'"{padding["bottom"]}"'] if padding else [_text(document, node) for node in layer.all("bottom")]
    lines = [comment.strip() for comment in re.findall(r"^\s*(#[^\n]*)", document.text[layer.start : layer.end], re.M)]
    lines += [f"name: {_text(document, node)}" for node in inner.all("name")]
    lines += [f'type: "{V0_TYPES[kind]}"']
    lines += [f"bottom: {bottom}" for bottom in bottoms]
    lines += [f"top: {_text(document, node)}" for node in layer.all("top")]
    lines += _param_lines(document, inner)
    for message, fields in _grouped(document, inner, kind, padding).items():
        lines += [f"{message} {{", *(f"  {field}" for field in fields), "}"]
    lines += [document.text[field.start : field.end] for field in inner.fields if field.name == "hdf5_output_param"]
    return "layer {\n" + "".join(f"  {line}\n" for line in lines) + "}"


def _param_lines(document: Document, inner: Message) -> list[str]:
    rates, decays = inner.all("blobs_lr"), inner.all("weight_decay")
    lines = []
    for number in range(max(len(rates), len(decays))):
        parts = [f"lr_mult: {_text(document, rates[number])}"] if number < len(rates) else []
        parts += [f"decay_mult: {_text(document, decays[number])}"] if number < len(decays) else []
        lines.append(f"param {{ {' '.join(parts)} }}")
    return lines


def _grouped(document: Document, inner: Message, kind: str, padding: dict[str, str]) -> dict[str, list[str]]:
    """The layer's remaining fields, by the message that they live in today."""
    groups: dict[str, list[str]] = {}
    for field in inner.fields:
        if field.name in _TRANSFORM:
            message, name = "transform_param", _TRANSFORM[field.name]
        elif field.name in _FIELDS and kind in _FIELDS[field.name][1]:
            name, homes = _FIELDS[field.name]
            message = homes[kind]
        else:
            continue
        if not (padding and name == "pad"):
            groups.setdefault(message, []).extend(_lines(document, field, name))
    if padding:
        groups.setdefault(dict([_CONV, _POOL])[kind], []).append(f"pad: {padding['pad']}")
    return groups


def _lines(document: Document, field: Field, name: str) -> list[str]:
    return [
        f"{name} {_text(document, value)}" if isinstance(value, Message) else f"{name}: {_text(document, value)}"
        for value in field.values
    ]

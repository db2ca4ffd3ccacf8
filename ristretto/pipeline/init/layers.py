"""The layers that make a deploy net one that can be scored, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ristretto.caffe.edit import UNIT, Edits
from ristretto.caffe.netspec import LayerSpec, NetSpec, Phase, Shape
from ristretto.caffe.shapes import FED_TYPES, declared_shapes
from ristretto.caffe.textproto import Document, Field
from ristretto.errors import NetError, UsageError

_TOP_5_FROM = 10
"""So many classes make a top-5 accuracy worth telling."""


@dataclass(frozen=True, slots=True)
class Input:
    """What a deploy net is fed.

    Attributes:
        layer: the layer to replace.
        blob: its images.
        shape: (n, channels, height, width).
    """

    layer: LayerSpec
    blob: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data layer reads.

    Attributes:
        path: an image list, or an LMDB.
        is_list: which of the two.
        labelled: whether the layer has a second top.
        fields: of transform_param.
        size: height and width that images of a list are resized to, or None.
        gray: whether images of a list are read gray.
        batch_size: images per batch.
    """

    path: Path
    is_list: bool
    labelled: bool
    fields: tuple[str, ...]
    size: tuple[int, int] | None
    gray: bool
    batch_size: int


@dataclass(frozen=True, slots=True)
class Scores:
    """The blobs that the answer of a classifier is in.

    Attributes:
        blob: the scores; before a Softmax, if there is one that does not work in place.
        classes: how many.
        probabilities: the blob that a Softmax makes of them; "" where there is none.
        normalised: whether ``blob`` itself holds probabilities.
    """

    blob: str
    classes: int
    probabilities: str = ""
    normalised: bool = False


def find_input(net: NetSpec) -> Input:
    """The one blob of images that a net is fed.

    Raises:
        UsageError: it reads data of its own, or is fed several blobs, or none.
        NetError: the shape is not stated, or is none of images.
    """
    fed = [layer for layer in net.layers if layer.type in FED_TYPES]
    own = [layer for layer in fed if layer.type not in ("Input", "MemoryData")]
    if own:
        what = f"the net has a data layer already, of type {own[0].type}"
        cure = "it can be quantized as it is: ristretto doctor says what may be missing"
        raise UsageError(what, file=net.file, layer=own[0].name, cure=cure)
    if not fed:
        raise UsageError("the net has no input", file=net.file, cure="give a deploy prototxt, with an Input layer")
    blobs = [top for layer in fed for top in (layer.tops[:1] if layer.type == "MemoryData" else layer.tops)]
    if len(blobs) > 1:
        what = f"the net has {len(blobs)} inputs: {', '.join(blobs)}"
        cure = "a data layer fills one blob with images; give arrays for all with --inputs, in ristretto quantize"
        raise UsageError(what, file=net.file, cure=cure)
    layer = fed[0]
    shapes = declared_shapes(layer)
    if shapes is None:
        cure = f"add input_param {{ shape {{ dim: 1 dim: 3 dim: 224 dim: 224 }} }} with the shape of '{blobs[0]}'"
        raise layer.view.error("the input states no shape", cure=cure)
    if len(shapes[0]) != 4 or min(shapes[0]) < 1:
        what = f"the input has shape {list(shapes[0])}, images need four axes: batch, channels, height, width"
        raise layer.view.error(what, cure="give arrays of other shapes with --inputs, in ristretto quantize")
    return Input(layer, blobs[0], shapes[0])


def find_scores(net: NetSpec, shapes: Mapping[str, Shape], asked: str | None) -> Scores:
    """Where a classifier's scores are.

    Args:
        net: the net.
        shapes: the shape of each value.
        asked: the blob that the user names, or None.

    Raises:
        UsageError: there are several outputs and none is named, or there is no such blob.
        NetError: the blob does not hold one vector of scores per image.
    """
    if asked is not None and asked not in net.finals:
        cure = f"the net's outputs are {', '.join(net.outputs)}"
        raise UsageError(f"there is no blob '{asked}'", file=net.file, cure=cure)
    if asked is None and len(net.outputs) != 1:
        what = f"the net has {len(net.outputs)} outputs: {', '.join(net.outputs)}"
        raise UsageError(what, file=net.file, cure="name the one with the classes' scores with --score")
    blob = asked or net.outputs[0]
    shape = shapes[net.finals[blob]]
    if len(shape) < 2 or math.prod(shape[2:]) != 1 or shape[1] < 2:
        what = f"blob '{blob}' of shape {list(shape)} is no vector of scores for each image"
        cure = "name the one that is with --score, or give images without labels: then agreement is scored"
        raise NetError(what, file=net.file, cure=cure)
    maker = net.producer(net.finals[blob])
    if maker is None or maker.type != "Softmax":
        return Scores(blob, shape[1])
    before = maker.bottoms[0]
    if net.finals[before] != maker.inputs[0]:  # overwritten since, as by a Softmax in place
        return Scores(blob, shape[1], normalised=True)
    return Scores(before, shape[1], blob)


def with_data(document: Document, fed: Input, train: Source, test: Source, label: str) -> Document:
    """The prototxt with data layers in the place of its input."""
    edits = Edits(document)
    lines = [*_data_layer(fed, train, label, "TRAIN"), *_data_layer(fed, test, label, "TEST")]
    edits.replace_field(_field_of(document, fed.layer), lines)
    return edits.apply()


def with_scores(document: Document, net: NetSpec, scores: Scores, label: str) -> Document:
    """The prototxt with accuracies and a loss at its end."""
    blobs, names = set(net.finals), {layer.name for layer in net.layers}
    tops = {"accuracy": 1, "accuracy_top5": 5} if scores.classes >= _TOP_5_FROM else {"accuracy": 1}
    edits = Edits(document)
    for name, top_k in tops.items():
        chosen = _free(name, blobs | names)
        k = [f"accuracy_param {{ top_k: {top_k} }}"] if top_k > 1 else []
        edits.add_message(document.root, "layer", _layer(chosen, "Accuracy", (scores.blob, label), chosen, k))
    loss = _free("loss", blobs | names)
    kind = "MultinomialLogisticLoss" if scores.normalised else "SoftmaxWithLoss"
    edits.add_message(document.root, "layer", _layer(loss, kind, (scores.blob, label), loss, []))
    if scores.probabilities in net.outputs:
        # Nobody reads the probabilities any more; as an output they would be told, class by class, with every batch.
        name = _free("silence", blobs | names)
        edits.add_message(document.root, "layer", _layer(name, "Silence", (scores.probabilities,), "", []))
    return edits.apply()


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _layer(name: str, kind: str, bottoms: Sequence[str], top: str, more: Sequence[str]) -> list[str]:
    tops = [f"top: {quoted(top)}"] if top else []
    return [f"name: {quoted(name)}", f'type: "{kind}"', *(f"bottom: {quoted(each)}" for each in bottoms), *tops, *more]


def _data_layer(fed: Input, source: Source, label: str, phase: Phase) -> list[str]:
    tops = (fed.blob, label) if source.labelled else (fed.blob,)
    content = [
        f"name: {quoted(fed.layer.name)}",
        f'type: "{"ImageData" if source.is_list else "Data"}"',
        *(f"top: {quoted(top)}" for top in tops),
        f"include {{ phase: {phase} }}",
    ]
    if source.fields:
        content += ["transform_param {", *(UNIT + field for field in source.fields), "}"]
    own = [f"source: {quoted(str(source.path))}", f"batch_size: {source.batch_size}"]
    if source.is_list:
        own += [f"new_height: {source.size[0]}", f"new_width: {source.size[1]}"] if source.size is not None else []
        own += ["is_color: false"] if source.gray else []
        content += ["image_data_param {", *(UNIT + field for field in own), "}"]
    else:
        content += ["data_param {", *(UNIT + field for field in own), f"{UNIT}backend: LMDB", "}"]
    return ["layer {", *(UNIT + line for line in content), "}"]


def _field_of(document: Document, layer: LayerSpec) -> Field:
    return next(field for field in document.root.named("layer") if layer.view.message in field.values)


def quoted(text: str) -> str:
    """A string as it stands in a prototxt."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'

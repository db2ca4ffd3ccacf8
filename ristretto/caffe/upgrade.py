"""Bringing old nets to today's format as edits of their text (BVLC/caffe, src/caffe/util/upgrade_proto.cpp)."""

from __future__ import annotations

from collections.abc import Sequence

from ristretto.caffe.edit import Edits
from ristretto.caffe.schema import message_class
from ristretto.caffe.textproto import Document, Message, parse
from ristretto.caffe.upgrade_v0 import edit_v0_layers
from ristretto.caffe.upgrade_v1 import edit_v1_layer
from ristretto.caffe.view import View
from ristretto.caffe.wire import BYTES, WireError, fields, prefixed
from ristretto.errors import NetError, WeightsError

_LAYER_FIELDS = {"v2": (1, 7), "v1": (4, 6), "v0": (1, 50)}
"""Field numbers of name and blobs in the three kinds of layer."""


def needs_upgrade(document: Document) -> bool:
    """Whether the net is of the V0 or V1 kind, with ``layers`` in place of ``layer``."""
    return any(True for _ in document.root.named("layers"))


def upgrade_net(document: Document) -> Document:
    """A V0 or V1 net in today's form; order, comments between layers and unknown fields stay.

    Raises:
        NetError: the net mixes the forms, or a padding layer is used as no net can use it.
    """
    if not needs_upgrade(document):
        return document
    mixed = next(document.root.named("layer"), None)
    if mixed is not None:
        line, column = document.position(mixed.start)
        what = "the net has both 'layer' and 'layers'"
        raise NetError(what, file=document.file, line=line, column=column, cure="write all of them as 'layer'")
    layers = [node for node in document.root.all("layers") if isinstance(node, Message)]
    edits = Edits(document)
    if any(isinstance(node.first("layer"), Message) for node in layers):
        edit_v0_layers(document, edits, layers)
    else:
        for field in document.root.named("layers"):
            edits.replace(field.start, field.name_end, "layer")
            for node in field.values:
                if isinstance(node, Message):
                    edit_v1_layer(document, edits, node)
    return edits.apply()


def upgrade_inputs(document: Document) -> Document:
    """A net whose ``input`` fields have become an Input layer, first among the layers (UpgradeNetInput)."""
    root = View.of(document, "NetParameter")
    names = root.texts("input")
    if not names:
        return document
    shapes = [view.integers("dim") for view in root.children("input_shape")]
    if not shapes:
        dims = root.integers("input_dim")
        if len(dims) != 4 * len(names):
            what = f"{len(names)} inputs need {4 * len(names)} input_dim, there are {len(dims)}"
            raise root.error(what, field="input", cure="give four for each input, or use input_shape")
        shapes = [dims[start : start + 4] for start in range(0, len(dims), 4)]
    if len(shapes) != len(names):
        raise root.error(f"{len(names)} inputs and {len(shapes)} shapes", field="input", cure="give each its shape")
    edits = Edits(document)
    for name in ("input", "input_dim", "input_shape"):
        for field in document.root.named(name):
            edits.remove(field)
    edits = Edits(edits.apply())
    first = next((field for field in edits.document.root.fields if field.name == "layer"), None)
    at = len(edits.document.text) if first is None else first.start
    edits.replace(at, at, _input_layer(names, shapes))
    return edits.apply()


def _input_layer(names: Sequence[str], shapes: Sequence[Sequence[int]]) -> str:
    tops = "".join(f'  top: "{name}"\n' for name in names)
    dims = "".join(f"    shape {{ {' '.join(f'dim: {dim}' for dim in shape)} }}\n" for shape in shapes)
    return f'layer {{\n  name: "input"\n  type: "Input"\n{tops}  input_param {{\n{dims}  }}\n}}\n'


def upgrade_binary(data: bytes, file: str) -> bytes:
    """A V0 or V1 .caffemodel in today's form. Blobs are moved as the bytes they are.

    Args:
        data: the file's content.
        file: its name, for errors.

    Raises:
        WeightsError: it is no such file.
    """
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    try:
        bare, blobs = _without_blobs(memoryview(data))
        net = message_class("NetParameter").FromString(bare)
    except (WireError, DecodeError) as error:
        cure = "give the .caffemodel that Caffe saved"
        raise WeightsError(f"this is no weights file: {error}", file=file, cure=cure) from error
    document = parse(text_format.MessageToString(net), file)
    upgraded = upgrade_inputs(upgrade_net(document))
    modern = text_format.Parse(upgraded.text, message_class("NetParameter")())
    for layer in modern.layer:
        held = blobs.get(layer.name)
        if held:
            layer.MergeFromString(b"".join(prefixed(7, len(blob)) + blob for blob in held.pop(0)))
    serialized: bytes = modern.SerializeToString()
    return serialized


def _without_blobs(data: memoryview) -> tuple[bytes, dict[str, list[list[bytes]]]]:
    """The net without its weights, and the blobs of each layer by name, in the order of the file."""
    pieces: list[bytes] = []
    blobs: dict[str, list[list[bytes]]] = {}
    position = 0
    for number, wire, low, high in fields(data, 0, len(data)):
        end = high
        if wire == BYTES and number in (2, 100):
            layer, name, held = _strip_layer(data, low, high, "v2" if number == 100 else "v1")
            pieces.append(prefixed(number, len(layer)) + layer)
            if held:
                blobs.setdefault(name, []).append(held)
        else:
            pieces.append(bytes(data[position:end]))
        position = end
    return b"".join(pieces), blobs


def _strip_layer(data: memoryview, start: int, end: int, kind: str) -> tuple[bytes, str, list[bytes]]:
    """A layer without its blobs, its name, and the blobs."""
    name_field, blob_field = _LAYER_FIELDS[kind]
    pieces: list[bytes] = []
    name, held, position = "", list[bytes](), start
    for number, wire, low, high in fields(data, start, end):
        if kind == "v1" and number == 1 and wire == BYTES:
            inner, name, held = _strip_layer(data, low, high, "v0")
            pieces.append(prefixed(1, len(inner)) + inner)
        elif number == blob_field and wire == BYTES:
            held.append(bytes(data[low:high]))
        else:
            if number == name_field and wire == BYTES:
                name = bytes(data[low:high]).decode("utf-8", "replace")
            pieces.append(bytes(data[position:high]))
        position = high
    return b"".join(pieces), name, held

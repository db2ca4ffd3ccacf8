"""Old .caffemodel files brought to today's format; the weights themselves are moved as bytes and never decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from ristretto.caffe import schema
from ristretto.caffe.textproto import parse
from ristretto.caffe.upgrade_inputs import upgrade_inputs
from ristretto.caffe.upgrade_v0 import upgrade_v0
from ristretto.caffe.upgrade_v1 import upgrade_v1
from ristretto.caffe.wire import BYTES, WireError, fields, prefixed
from ristretto.errors import WeightsError

_V1_LAYER, _LAYER = 2, 100
_BLOBS = {_LAYER: 7, _V1_LAYER: 6}
_V0_LAYER, _V0_BLOBS = 1, 50

_Pieces = list[bytes | memoryview]


@dataclass
class _Split:
    """A net on the wire without its blobs, and the blobs of each layer in order."""

    bare: _Pieces = field(default_factory=list)
    blobs: list[_Pieces] = field(default_factory=list)


def upgrade_binary(data: bytes, file: str = "") -> bytes:
    """A .caffemodel in today's form; one that has nothing old comes back as it is.

    Args:
        data: the file's content.
        file: its name, for errors.

    Raises:
        WeightsError: the bytes are no NetParameter, or a name or path in it is not UTF-8.
        NetError: the net inside cannot be upgraded.
    """
    try:
        split = _split(memoryview(data))
        net = schema.message_class("NetParameter").FromString(b"".join(split.bare))
        if net.layers:
            new = _upgraded(net, file)
            blobs = [held for layer, held in zip(net.layers, split.blobs, strict=True) if not _is_padding(layer)]
        elif net.input:
            new, blobs = _with_input_layer(net, file), split.blobs
        else:
            return data
    except (WireError, DecodeError, text_format.ParseError) as error:
        what = f"damaged or no weights file: {error}"
        raise WeightsError(what, file=file, cure="give the .caffemodel that Caffe saved") from error
    added = len(new.layer) - len(blobs)  # 1 where the net's inputs became its first layer
    return _joined(new, [[] for _ in range(added)] + blobs)


def _split(data: memoryview) -> _Split:
    """Take the blobs out of every layer of a net."""
    found = _Split()
    position = 0
    for number, wire, low, high in fields(data, 0, len(data)):
        if wire == BYTES and number in _BLOBS:
            bare, blobs = _take_blobs(data, low, high, number)
            found.bare += [prefixed(number, sum(map(len, bare))), *bare]
            found.blobs.append(blobs)
        else:
            found.bare.append(data[position:high])
        position = high
    return found


def _take_blobs(data: memoryview, start: int, end: int, kind: int) -> tuple[_Pieces, _Pieces]:
    """The fields of a layer but its blobs, and the content of its blobs; kind is the layer's field number."""
    bare: _Pieces = []
    blobs: _Pieces = []
    position = start
    for number, wire, low, high in fields(data, start, end):
        if wire == BYTES and number == _BLOBS.get(kind, _V0_BLOBS):
            blobs.append(data[low:high])
        elif wire == BYTES and (kind, number) == (_V1_LAYER, _V0_LAYER):
            inner, found = _take_blobs(data, low, high, 0)
            bare += [prefixed(number, sum(map(len, inner))), *inner]
            blobs += found
        else:
            bare.append(data[position:high])
        position = high
    return bare, blobs


def _is_padding(layer: Any) -> bool:
    """Whether an upgrade takes a layer away."""
    return bool(layer.layer.type == "padding")


def _upgraded(net: Any, file: str) -> Any:
    """The old net through its text; a net saved without the shapes of its inputs loses the inputs, as in Caffe."""
    if not (net.input_dim or net.input_shape):
        del net.input[:]
    document = parse(text_format.MessageToString(net), file)
    document = upgrade_inputs(upgrade_v1(upgrade_v0(document)))
    return text_format.Parse(document.text, schema.message_class("NetParameter")())


def _with_input_layer(net: Any, file: str) -> Any:
    """A modern net whose inputs are a layer; all else stays, fields that the schema lacks included."""
    inputs = type(net)(input=net.input, input_dim=net.input_dim, input_shape=net.input_shape)
    new = type(net)()
    new.CopyFrom(net)
    for name in ("input", "input_dim", "input_shape", "layer"):
        new.ClearField(name)
    new.layer.extend([*_upgraded(inputs, file).layer, *net.layer])
    return new


def _joined(net: Any, blobs: list[_Pieces]) -> bytes:
    """A net on the wire with the blobs of each layer behind the layer's other fields."""
    layers = [layer.SerializePartialToString() for layer in net.layer]
    net.ClearField("layer")
    pieces: _Pieces = [net.SerializePartialToString()]
    for layer, found in zip(layers, blobs, strict=True):
        content: _Pieces = [layer]
        for blob in found:
            content += [prefixed(_BLOBS[_LAYER], len(blob)), blob]
        pieces += [prefixed(_LAYER, sum(map(len, content))), *content]
    return b"".join(pieces)

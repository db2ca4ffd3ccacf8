"""V0 nets, whose ``layers`` each hold a ``layer``, brought to V1 (BVLC/caffe upgrade_proto.cpp, UpgradeV0Net)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ristretto.caffe.edit import UNIT, Edits
from ristretto.caffe.textproto import Document, Field, Message
from ristretto.caffe.view import View
from ristretto.errors import NetError

V1_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "ACCURACY",
        "bnll": "BNLL",
        "concat": "CONCAT",
        "conv": "CONVOLUTION",
        "data": "DATA",
        "dropout": "DROPOUT",
        "euclidean_loss": "EUCLIDEAN_LOSS",
        "flatten": "FLATTEN",
        "hdf5_data": "HDF5_DATA",
        "hdf5_output": "HDF5_OUTPUT",
        "im2col": "IM2COL",
        "images": "IMAGE_DATA",
        "infogain_loss": "INFOGAIN_LOSS",
        "innerproduct": "INNER_PRODUCT",
        "lrn": "LRN",
        "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
        "pool": "POOLING",
        "relu": "RELU",
        "sigmoid": "SIGMOID",
        "softmax": "SOFTMAX",
        "softmax_loss": "SOFTMAX_LOSS",
        "split": "SPLIT",
        "tanh": "TANH",
        "window_data": "WINDOW_DATA",
    }
)
"""V0's type strings in V1's words (UpgradeV0LayerType)."""

_PARAMS = {
    "concat": "concat_param",
    "conv": "convolution_param",
    "data": "data_param",
    "dropout": "dropout_param",
    "hdf5_data": "hdf5_data_param",
    "images": "image_data_param",
    "infogain_loss": "infogain_loss_param",
    "innerproduct": "inner_product_param",
    "lrn": "lrn_param",
    "pool": "pooling_param",
    "window_data": "window_data_param",
}
_MOVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "num_output": ("num_output", ("conv", "innerproduct")),
    "biasterm": ("bias_term", ("conv", "innerproduct")),
    "weight_filler": ("weight_filler", ("conv", "innerproduct")),
    "bias_filler": ("bias_filler", ("conv", "innerproduct")),
    "pad": ("pad", ("conv", "pool")),
    "kernelsize": ("kernel_size", ("conv", "pool")),
    "group": ("group", ("conv",)),
    "stride": ("stride", ("conv", "pool")),
    "pool": ("pool", ("pool",)),
    "dropout_ratio": ("dropout_ratio", ("dropout",)),
    "local_size": ("local_size", ("lrn",)),
    "alpha": ("alpha", ("lrn",)),
    "beta": ("beta", ("lrn",)),
    "k": ("k", ("lrn",)),
    "source": ("source", ("data", "hdf5_data", "images", "window_data", "infogain_loss")),
    "batchsize": ("batch_size", ("data", "hdf5_data", "images", "window_data")),
    "rand_skip": ("rand_skip", ("data", "images")),
    "shuffle_images": ("shuffle", ("images",)),
    "new_height": ("new_height", ("images",)),
    "new_width": ("new_width", ("images",)),
    "concat_dim": ("concat_dim", ("concat",)),
    "det_fg_threshold": ("fg_threshold", ("window_data",)),
    "det_bg_threshold": ("bg_threshold", ("window_data",)),
    "det_fg_fraction": ("fg_fraction", ("window_data",)),
    "det_context_pad": ("context_pad", ("window_data",)),
    "det_crop_mode": ("crop_mode", ("window_data",)),
}
"""V0 field: the V1 field in the type's own parameters, and the types that have it (UpgradeV0LayerParameter)."""

_TRANSFORMS = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_DROPPED = frozenset({"new_num", "new_channels"})
_COMMENT = re.compile(r"#[^\r\n]*")
_NEWLINE = re.compile(r"\r?\n")
_INDENT = re.compile(r"[ \t]*")


def upgrade_v0(document: Document) -> Document:
    """A V0 net in V1 form; padding layers are folded into the layers that they pad. Others come back as they are.

    A parameter that its layer's type does not have is kept as a comment; Caffe drops it.

    Raises:
        NetError: a type that Caffe never had, or a padding layer that feeds anything but one conv or pool.
    """
    layers = View.of(document, "NetParameter").children("layers")
    if not any(layer.has("layer") for layer in layers):
        return document
    paddings = _paddings(layers)
    edits = Edits(document)
    for entry in document.root.named("layers"):
        kept = [
            view
            for node in entry.values
            if isinstance(node, Message) and not _is_padding(view := View(document, node, "V1LayerParameter"))
        ]
        if kept:
            edits.replace_field(entry, [line for view in kept for line in _Layer(view, paddings).lines()])
        else:
            edits.remove(entry)
    return edits.apply()


def _is_padding(layer: View) -> bool:
    return layer.child("layer").text("type") == "padding"


@dataclass(frozen=True, slots=True)
class _Padding:
    """What a padding layer leaves to the layer that it feeds: its pad, in pixels, and its bottom as written."""

    pad: int
    bottom: str


def _paddings(layers: tuple[View, ...]) -> dict[int, _Padding]:
    """What to fold into each layer, by the layer's place in the text (UpgradeV0PaddingLayers)."""
    found = {}
    makers: dict[str, View] = {}
    for layer in layers:
        for blob in layer.texts("bottom"):
            if blob in makers and _is_padding(makers[blob]):
                found[layer.message.start] = _fold(layer, makers[blob])
        makers |= dict.fromkeys(layer.texts("top"), layer)
    return found


def _fold(layer: View, padding: View) -> _Padding:
    kind, bottoms = layer.child("layer").text("type"), padding.message.all("bottom")
    if kind not in ("conv", "pool"):
        raise _error(layer, f"a padding layer feeds a layer of type '{kind}'", "only conv and pool can be padded")
    if len(layer.texts("bottom")) != 1:
        count = len(layer.texts("bottom"))
        raise _error(layer, f"a padded layer has one bottom, not {count}", "give it a pad of its own")
    if len(bottoms) != 1 or len(padding.texts("top")) != 1:
        raise _error(padding, "a padding layer has one bottom and one top", "mend them")
    text = padding.document.text[bottoms[0].start : bottoms[0].end]
    return _Padding(padding.child("layer").integer("pad"), text)


def _error(layer: View, what: str, cure: str) -> NetError:
    """An error about a V0 layer, whose name is an inner field."""
    place = layer.error(what)
    name = layer.child("layer").text("name")
    return NetError(what, cure=cure, file=place.file, line=place.line, column=place.column, layer=name)


@dataclass
class _Item:
    """A field of the new layer: the comments before it, its lines, the comment behind it."""

    before: list[str]
    lines: list[str]
    behind: str = ""

    def rendered(self) -> list[str]:
        """The lines, comments included."""
        *lines, last = self.lines
        return [*self.before, *lines, f"{last}  {self.behind}" if self.behind else last]


@dataclass
class _Group:
    """A parameter message of the new layer."""

    name: str
    items: list[_Item] = field(default_factory=list)

    def rendered(self) -> list[str]:
        """The lines of the message."""
        return [f"{self.name} {{", *(UNIT + line for item in self.items for line in item.rendered()), "}"]


class _Layer:
    """One entry of ``layers``, on its way to the lines of a V1 layer."""

    def __init__(self, view: View, paddings: Mapping[int, _Padding]) -> None:
        self.view = view
        self.text = view.document.text
        self.padding = paddings.get(view.message.start)
        self.kind = view.child("layer").text("type")
        self.content: list[_Item | _Group] = []
        self.groups: dict[str, _Group] = {}
        self.last: _Item | None = None

    def lines(self) -> list[str]:
        comments = self._walk(self.view.message, [], inner=False)
        if self.padding is not None and not self.view.child("layer").has("pad"):
            self._group(_PARAMS[self.kind]).items.append(_Item([], [f"pad: {self.padding.pad}"]))
        content = [line for part in self.content for line in part.rendered()]
        return ["layers {", *(UNIT + line for line in [*content, *comments]), "}"]

    def _walk(self, message: Message, pending: list[str], *, inner: bool) -> list[str]:
        """Place every field of a message after the comments pending; gives those that no field follows."""
        position = message.body_start
        for entry in message.fields:
            pending += self._comments(position, entry.start)
            position = entry.end
            if entry.name == "layer" and not inner:
                node = self.view.child("layer").message
                self.last = None
                pending += self._comments(entry.name_end, node.start)
                pending = self._walk(node, pending, inner=True)
                self.last = None
                continue
            item, pending = _Item(pending, []), []
            (self._place_inner if inner else self._place_outer)(entry, item)
            self.last = item
        return pending + self._comments(position, message.body_end)

    def _comments(self, start: int, end: int) -> list[str]:
        """The comments of a gap between fields; one on the line of the last field goes to that field."""
        found = []
        for match in _COMMENT.finditer(self.text, start, end):
            if self.last is not None and not self.last.behind and "\n" not in self.text[start : match.start()]:
                self.last.behind = match.group()
            else:
                found.append(match.group())
        return found

    def _group(self, name: str) -> _Group:
        if name not in self.groups:
            self.groups[name] = _Group(name)
            self.content.append(self.groups[name])
        return self.groups[name]

    def _place_outer(self, entry: Field, item: _Item) -> None:
        item.lines = self._slice(entry, entry.name)
        if entry.name == "bottom" and self.padding is not None:
            item.lines = [f"bottom: {self.padding.bottom}"]
        self.content.append(item)

    def _place_inner(self, entry: Field, item: _Item) -> None:
        name, group = entry.name, ""
        if name in _TRANSFORMS:
            name, group = _TRANSFORMS[name], "transform_param"
        elif name in _MOVES and self.kind in _MOVES[name][1]:
            name, group = _MOVES[name][0], _PARAMS[self.kind]
        item.lines = self._slice(entry, name)
        if name == "pad" and self.padding is not None:
            item.lines = [f"pad: {self.padding.pad}"]
        elif name == "type":
            item.lines = [f"type: {self._v1_type()}"]
        elif not group and self._is_dropped(name):
            item.lines = [f"# {line}" for line in item.lines]
        if group:
            self._group(group).items.append(item)
        else:
            self.content.append(item)

    def _is_dropped(self, name: str) -> bool:
        return name in _MOVES or name in _DROPPED or (name == "hdf5_output_param" and self.kind != "hdf5_output")

    def _v1_type(self) -> str:
        if self.kind not in V1_TYPES:
            raise _error(self.view, f"unknown V0 layer type '{self.kind}'", "check the spelling")
        return V1_TYPES[self.kind]

    def _slice(self, entry: Field, name: str) -> list[str]:
        """A field's own text under a name, its lines freed from the indentation that they have in the file."""
        start = self.text.rfind("\n", 0, entry.start) + 1
        match = _INDENT.match(self.text, start)
        indent = match.end() - start if match else 0
        first, *others = _NEWLINE.split(name + self.text[entry.name_end : entry.end])
        return [first, *(line[min(indent, len(line) - len(line.lstrip())) :] for line in others)]

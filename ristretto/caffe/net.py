"""From a prototxt to the typed net of one phase: rules applied, in-place layers resolved, every value written once."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ristretto.caffe.confined import Confined
from ristretto.caffe.limits import LAYERS, PROTOTXT_MB, check_layers, limit, read_at_most, to_raise
from ristretto.caffe.netspec import LayerSpec, NetSpec, type_of
from ristretto.caffe.rules import NetState, is_included, net_state
from ristretto.caffe.textproto import Document, Scalar, parse
from ristretto.caffe.upgrade import needs_upgrade, upgrade_inputs, upgrade_net
from ristretto.caffe.view import View
from ristretto.errors import NetError, RistrettoError, UsageError

_log = logging.getLogger(__name__)

Forgive = Callable[[RistrettoError], None]
"""Hears of an error that does not end the walk."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What no name can hold: it would break lines of the log, or steer a terminal."""

AUTOMATIC_TOP = "(automatic)"

_LOSS_TYPES = frozenset(
    {
        "SoftmaxWithLoss",
        "EuclideanLoss",
        "HingeLoss",
        "InfogainLoss",
        "MultinomialLogisticLoss",
        "SigmoidCrossEntropyLoss",
        "ContrastiveLoss",
    }
)


def read_prototxt(path: Path, confined: Confined | None = None) -> Document:
    """Read and parse a prototxt.

    Args:
        path: the file.
        confined: the folders that paths in it must not leave; None where it is trusted.

    Raises:
        UsageError: the file cannot be read.
        PrototxtError: it is not well-formed.
    """
    try:
        data = read_at_most(path, PROTOTXT_MB, "prototxt")
    except (OSError, ValueError) as error:
        what = f"cannot read the prototxt: {getattr(error, 'strerror', None) or error}"
        raise UsageError(what, file=str(path), cure="check the path given") from error
    _log.debug("read %s: %d bytes", path, len(data))
    if b"\0" in data[:4096]:
        what = "this is a binary file, not a prototxt"
        raise UsageError(what, file=str(path), cure="are --model and --weights swapped, or is it not UTF-8 text?")
    document = parse(data, str(path), confined)
    layers = (field for field in document.root.fields if field.name in ("layer", "layers"))
    check_layers(sum(len(field.values) for field in layers), document.file, limit(LAYERS))
    return document


def modernise(document: Document) -> Document:
    """Bring a V0 or V1 net, or one with ``input:`` fields, to today's form; a modern one is returned as it is."""
    if needs_upgrade(document):
        document = upgrade_net(document)
    return upgrade_inputs(document)


def is_loss(type_name: str) -> bool:
    """Whether a layer type is one of Caffe's losses (its first top has weight 1 unless told otherwise)."""
    return type_name in _LOSS_TYPES


@dataclass
class _Blobs:
    """Blob bookkeeping while the layers are walked in order (Net::AppendTop, Net::AppendBottom)."""

    versions: dict[str, list[int]] = field(default_factory=dict)
    available: set[str] = field(default_factory=set)
    makers: list[tuple[str, str]] = field(default_factory=list)
    forgive: Forgive | None = None

    def complain(self, error: RistrettoError) -> None:
        if self.forgive is None:
            raise error
        self.forgive(error)

    def lend(self, blob: str) -> None:
        """Let a blob be read that no layer makes, so that it is complained of once."""
        if blob not in self.versions:
            self.makers.append((blob, ""))
            self.versions[blob] = [len(self.makers) - 1]

    def read(self, layer: View, blob: str) -> int:
        if blob not in self.versions:
            cure = "no layer before this one makes it in this phase: check the name, the order and the phase rules"
            self.complain(layer.error(f"unknown bottom blob '{blob}'", cure=cure, field="bottom"))
            self.lend(blob)
        self.available.discard(blob)
        return self.versions[blob][-1]

    def write(self, layer: View, name: str, blob: str, in_place: bool) -> int:
        if blob in self.versions and not in_place:
            cure = "give the top another name, or the bottom the same one if the layer is to work in place"
            self.complain(layer.error(f"top blob '{blob}' is made by more than one layer", cure=cure, field="top"))
        self.makers.append((blob, name))
        self.versions.setdefault(blob, []).append(len(self.makers) - 1)
        self.available.add(blob)
        return len(self.makers) - 1

    def value_names(self) -> list[str]:
        """A name for every version: the last one of a blob has the blob's own."""
        names, taken = [], set(self.versions)
        last = {versions[-1] for versions in self.versions.values()}
        marks: dict[str, int] = {}
        for number, (blob, maker) in enumerate(self.makers):
            name = blob
            if number not in last:
                plain = f"{blob}@{maker}"
                name = plain + _mark(marks.get(plain, 0))
                while name in taken:
                    marks[plain] = marks.get(plain, 0) + 1
                    name = plain + _mark(marks[plain])
            taken.add(name)
            names.append(name)
        return names


def _mark(count: int) -> str:
    """What tells values of one name apart: a prime or two, or a number where many layers have one name."""
    return "'" * count if count < 4 else f"'{count}"


def build_net(document: Document, state: NetState | None = None, forgive: Forgive | None = None) -> NetSpec:
    """The typed net of a prototxt in one state.

    Args:
        document: the prototxt.
        state: the phase to build it in, with a level and stages if the net has rules for them; None takes the state
            that the net itself states, phase TEST where it states none.
        forgive: hears of each error in a layer, and the walk goes on: a layer that makes no sense is left out, a blob
            that nobody makes is there all the same. None raises the first one.

    Raises:
        PrototxtError: a field's value does not suit its type.
        NetError: the layers do not make a net (an unknown bottom, a top made twice, contradicting rules).
    """
    root = View.of(modernise(document), "NetParameter")
    state = net_state(root, state)
    blobs = _Blobs(forgive=forgive)
    layers = list(_included(root.children("layer"), state, blobs))
    if not layers:
        cure = "is this a solver, or a net of another phase?"
        raise NetError(f"the net has no layer in phase {state.phase}", file=document.file, cure=cure)
    wired: list[tuple[_Layer, list[int], list[int]]] = []
    for layer in layers:
        reads = [blobs.read(layer.view, blob) for blob in layer.bottoms]
        writes = [
            blobs.write(layer.view, layer.name, top, position < len(layer.bottoms) and layer.bottoms[position] == top)
            for position, top in enumerate(layer.tops)
        ]
        wired.append((layer, reads, writes))
    names = blobs.value_names()
    specs = tuple(
        LayerSpec(
            name=layer.name,
            type=layer.type,
            bottoms=layer.bottoms,
            tops=layer.tops,
            inputs=tuple(names[number] for number in reads),
            outputs=tuple(names[number] for number in writes),
            view=layer.view,
            phase=state.phase,
            index=layer.index,
        )
        for layer, reads, writes in wired
    )
    finals = {blob: names[versions[-1]] for blob, versions in blobs.versions.items()}
    return NetSpec(root.text("name"), state.phase, document.file, specs, finals, tuple(sorted(blobs.available)))


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer as it stands in the file, before its blobs are known."""

    index: int
    view: View
    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]


def _included(views: Iterable[View], state: NetState, blobs: _Blobs) -> Iterator[_Layer]:
    """The layers of a state. The tops of one that makes no sense may be read, or all that follows would be at fault."""
    for index, view in enumerate(views):
        layer = None
        try:
            if is_included(view, state):
                layer = _layer(index, view)
        except RistrettoError as error:
            blobs.complain(error)
            for top in view.raw("top"):
                if isinstance(top, Scalar):
                    blobs.lend(top.text)
        if layer is not None:
            yield layer


def _layer(index: int, view: View) -> _Layer:
    layer = _Layer(index, view, view.text("name"), type_of(view), view.texts("bottom"), _tops(view))
    if len(layer.bottoms) + len(layer.tops) > limit(LAYERS) // 10:
        what = f"the layer has {len(layer.bottoms)} bottoms and {len(layer.tops)} tops, more than {limit(LAYERS) // 10}"
        raise view.error(what, cure=to_raise(LAYERS))
    named = (("name", (layer.name,)), ("type", (layer.type,)), ("bottom", layer.bottoms), ("top", layer.tops))
    for field_name, texts in named:
        if any(map(_CONTROL.search, texts)):
            what = f"the {field_name} holds a control character"
            raise view.error(what, field=field_name, cure="names are words on one line")
    return layer


def _tops(view: View) -> tuple[str, ...]:
    """A layer's tops; a loss that names none gets one, as Caffe gives it (Layer::AutoTopBlobs)."""
    tops = view.texts("top")
    if not tops and view.text("type") in _LOSS_TYPES:
        return (AUTOMATIC_TOP,)
    return tops

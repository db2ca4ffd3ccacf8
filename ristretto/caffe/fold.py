"""BatchNorm, Scale and Bias folded into the layer before them: the prototxt edited, the weights multiplied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ristretto.caffe.edit import Edits
from ristretto.caffe.fold_rules import Wiring
from ristretto.caffe.fold_weights import (
    AFFINE_TYPES,
    Affine,
    Blobs,
    CannotFoldError,
    Linear,
    linear_param,
    read_affine,
    read_linear,
)
from ristretto.caffe.netspec import LayerSpec
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import Document
from ristretto.caffe.upgrade import needs_upgrade, upgrade_net
from ristretto.caffe.view import View
from ristretto.caffe.weights import Weights


@dataclass(frozen=True, slots=True)
class FoldedChain:
    """What one layer has taken in.

    Attributes:
        into: the name of the layer that stays.
        layers: the names of those that are gone, in order.
    """

    into: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Folded:
    """A net without the layers that could be folded.

    Attributes:
        document, weights: the new net; where nothing was folded, the very ones given.
        folded: what was taken in, in the order of the net.
        declined: for each BatchNorm, Scale and Bias that stays, its name and the reason.
    """

    document: Document
    weights: Weights
    folded: tuple[FoldedChain, ...]
    declined: tuple[tuple[str, str], ...]


@dataclass
class _Chain:
    """A linear layer and what it has taken in so far.

    Attributes:
        layer: the linear layer.
        linear: its weights as they were.
        affine: what the layers taken in do, all together.
        blobs: its weights with them multiplied in.
        taken: the layers taken in.
    """

    layer: LayerSpec
    linear: Linear
    affine: Affine
    blobs: Blobs
    taken: list[LayerSpec] = field(default_factory=list)


def fold(document: Document, weights: Weights, state: NetState | None = None) -> Folded:
    """Multiply every BatchNorm, Scale and Bias that directly follows a linear layer into that layer.

    In the state given the new net computes what the old one did, but for rounding. The edit holds for all states that
    the layers run in; layers whose states differ are not folded. V0 and V1 nets have no such layers.

    Args:
        document: the net's prototxt.
        weights: its weights.
        state: the state in which the net is to stay the same; None takes the one that the net itself states.

    Raises:
        PrototxtError: a field's value does not suit its type.
        NetError: the layers do not make a net in that state.
    """
    wiring = Wiring(upgrade_net(document) if needs_upgrade(document) else document, state)
    chains: dict[str, _Chain] = {}
    declined: list[tuple[str, str]] = []
    for layer in wiring.net.layers:
        if layer.type not in AFFINE_TYPES or not layer.inputs:
            continue
        try:
            chain = _extended(wiring, weights, chains.get(layer.inputs[0]), layer)
        except CannotFoldError as reason:
            declined.append((layer.name, str(reason)))
        else:
            chains.pop(layer.inputs[0], None)
            chains[layer.outputs[0]] = chain
    if not chains:
        return Folded(document, weights, (), tuple(declined))
    done = sorted(chains.values(), key=lambda chain: chain.layer.index)
    edited = _edited(wiring, done)
    folded = tuple(FoldedChain(chain.layer.name, tuple(layer.name for layer in chain.taken)) for chain in done)
    return Folded(edited, _rewritten(weights, edited, done), folded, tuple(declined))


def _extended(wiring: Wiring, weights: Weights, chain: _Chain | None, layer: LayerSpec) -> _Chain:
    """The chain before a layer, or a new one, with the layer taken in."""
    before = wiring.before(layer)
    if chain is None:
        wiring.check_follower(layer)
    host = before if chain is None else chain.layer
    try:
        wiring.check_layer(layer)
        wiring.check_layer(host)
        wiring.check_link(before, layer)
        linear = read_linear(host, weights) if chain is None else chain.linear
        affine = read_affine(layer, weights, linear.channels, linear.rank)
        if chain is not None:
            affine = chain.affine.then(affine)
        taken = [] if chain is None else chain.taken
        return _Chain(host, linear, affine, linear.multiplied(affine), [*taken, layer])
    except CannotFoldError as reason:
        raise CannotFoldError(f"not into '{host.name}': {reason}") from reason


def _edited(wiring: Wiring, chains: Iterable[_Chain]) -> Document:
    """The file with the layers taken in gone; the layer that stays makes the last one's top and has a bias."""
    edits = Edits(wiring.document)
    for chain in chains:
        last, _ = wiring.in_file(chain.taken[-1])
        view, _ = wiring.in_file(chain.layer)
        if chain.layer.tops != chain.taken[-1].tops:
            top = last.message.first("top")
            assert top is not None  # check_layer has seen to it
            edits.set_scalar(view.message, "top", wiring.document.text[top.start : top.end])
        param = linear_param(replace(chain.layer, view=view))
        if not param.flag("bias_term"):
            edits.set_scalar(param.message, "bias_term", "true")
        edits.remove_blocks([wiring.in_file(layer)[1] for layer in chain.taken])
    return edits.apply()


def _rewritten(weights: Weights, document: Document, chains: Iterable[_Chain]) -> Weights:
    """The weights of the edited net: one set for each layer, under the types and blobs that the net gives them."""
    changed = {chain.layer.name: chain.blobs for chain in chains}
    gone = {layer.name for chain in chains for layer in chain.taken}
    views: dict[str, View] = {}
    for view in View.of(document, "NetParameter").children("layer"):
        views.setdefault(view.text("name"), view)
    last = {held.name: number for number, held in enumerate(weights.layers) if held.blobs}
    layers = []
    for number, held in enumerate(weights.layers):
        if held.name in gone or (held.blobs and last[held.name] != number):
            continue
        found = views.get(held.name)
        if found is not None:
            held = replace(held, type=found.text("type"), bottoms=found.texts("bottom"), tops=found.texts("top"))
        layers.append(replace(held, blobs=changed.get(held.name, held.blobs) if held.blobs else ()))
    return Weights(tuple(layers), weights.files)

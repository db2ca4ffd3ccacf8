"""The part of a net that a job runs: layers that nobody knows are left out where the job does not need them."""

from __future__ import annotations

from collections.abc import Iterable

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.prune import without_unknown
from ristretto.caffe.shapes import FED_TYPES
from ristretto.graph.build import runnable_types


def runnable(net: NetSpec, needed: Iterable[str]) -> tuple[NetSpec, list[str]]:
    """A net without what cannot be run and is not needed, and a warning for each layer left out.

    Args:
        net: the net.
        needed: values that the job needs; a layer they follow from stays, and is told as a mistake when it is run.
    """
    known = runnable_types() | FED_TYPES
    pruned = without_unknown(net, known, needed)
    return pruned.net, [_warning(layer, known) for layer in pruned.dropped]


def _warning(layer: LayerSpec, known: frozenset[str]) -> str:
    left_out = f"layer '{layer.name}' of phase {layer.phase} is left out"
    if layer.type in known:
        return f"{left_out} with the layer that it reads from"
    return f"{left_out}: its type '{layer.type}' is not known, and nothing that counts here follows from it"

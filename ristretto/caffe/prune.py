"""Leaving out what a job does not need, so that a layer nobody knows fails only where it matters."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from ristretto.caffe.netspec import LayerSpec, NetSpec


@dataclass(frozen=True, slots=True)
class Pruned:
    """A net, and the layers that were taken out of it."""

    net: NetSpec
    dropped: tuple[LayerSpec, ...]


def without_unknown(net: NetSpec, known: Collection[str], needed: Iterable[str] = ()) -> Pruned:
    """A net without the layers of unknown types and all that follows from them.

    Args:
        net: the net.
        known: the types that can be run.
        needed: values that the job needs. Where one of them follows from an unknown layer nothing is taken out, and the
            layer is told as the mistake it is.
    """
    lost: set[str] = set()
    kept, dropped = [], []
    for layer in net.layers:
        if layer.type not in known or lost.intersection(layer.inputs):
            dropped.append(layer)
            lost.update(layer.outputs)
        else:
            kept.append(layer)
    if not dropped or lost.intersection(needed):
        return Pruned(net, ())
    finals = {blob: value for blob, value in net.finals.items() if value not in lost}
    outputs = tuple(blob for blob in net.outputs if blob in finals)
    return Pruned(replace(net, layers=tuple(kept), finals=finals, outputs=outputs), tuple(dropped))

"""Nets of prototxts that are half nonsense, as far as they can be built."""

from __future__ import annotations

from ristretto.caffe.net import build_net
from ristretto.caffe.netspec import NetSpec, Phase, Shape
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import FED_TYPES, NetShapes, infer_shapes
from ristretto.caffe.textproto import Document
from ristretto.errors import RistrettoError

FED: Shape = (2, 3, 8, 8)
"""What is fed where the net does not say."""


def built_net(document: Document, phase: Phase) -> tuple[NetSpec, NetShapes | None] | None:
    """The net of a phase and its shapes, as far as they make sense."""
    try:
        net = build_net(document, NetState(phase))
    except RistrettoError:
        return None
    fed = {top: FED for layer in net.layers if layer.type in FED_TYPES - {"Input"} for top in layer.tops}
    try:
        return net, infer_shapes(net, fed)
    except RistrettoError:
        return net, None

"""Old nets brought to today's format: text to text, keeping comments, order and fields that nobody knows.

After BVLC/caffe src/caffe/util/upgrade_proto.cpp. A V0 net goes by way of V1. Inputs are a step of their own, because
a net that keeps its ``input`` fields is a modern net all the same.
"""

from __future__ import annotations

from ristretto.caffe.textproto import Document
from ristretto.caffe.upgrade_binary import upgrade_binary
from ristretto.caffe.upgrade_inputs import upgrade_batch_norm, upgrade_inputs, upgrade_solver
from ristretto.caffe.upgrade_v0 import upgrade_v0
from ristretto.caffe.upgrade_v1 import upgrade_v1

__all__ = [
    "needs_upgrade",
    "upgrade_batch_norm",
    "upgrade_binary",
    "upgrade_inputs",
    "upgrade_net",
    "upgrade_solver",
]


def needs_upgrade(document: Document) -> bool:
    """Whether the net is of the V0 or V1 kind, with ``layers`` in place of ``layer``."""
    return any(True for _ in document.root.named("layers"))


def upgrade_net(document: Document) -> Document:
    """A V0 or V1 net in today's form; a modern one comes back as it is.

    Raises:
        NetError: the net mixes the forms, or has layers that Caffe never had.
        PrototxtError: a value does not suit its field.
    """
    return upgrade_v1(upgrade_v0(document))

"""Bringing old nets to today's format."""

from __future__ import annotations

from ristretto.caffe.textproto import Document


def needs_upgrade(document: Document) -> bool:
    """Whether the net is of the V0 or V1 kind."""
    return any(True for _ in document.root.named("layers"))


def upgrade_net(document: Document) -> Document:
    raise NotImplementedError


def upgrade_inputs(document: Document) -> Document:
    return document


def upgrade_binary(data: bytes, file: str) -> bytes:
    raise NotImplementedError

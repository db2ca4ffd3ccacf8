"""Tiny nets lowered to ONNX, with and without formats; they are not run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

import numpy as np
from built_nets import built_net
from text_seeds import NUMBERS, nets, schema_words

from ristretto.caffe.textproto import parse
from ristretto.dialects.registry import plan_of
from ristretto.errors import RistrettoError
from ristretto.graph.build import Simulation, build
from ristretto.numerics.arithmetic import Arithmetic

SMALL = 100_000
"""Values in all weights of a net, at most."""

LONGEST = 4096
"""Bytes of an input: nets are long."""


def seeds() -> Iterable[bytes]:
    yield from nets()


@cache
def words() -> tuple[str, ...]:
    return (*schema_words("LayerParameter"), *NUMBERS)


def one_input(data: bytes) -> None:
    try:
        found = built_net(parse(data, "net.prototxt"), "TEST")
    except RistrettoError:
        return
    if found is None or found[1] is None:
        return
    net, shapes = found
    assert shapes is not None
    if sum(math.prod(blob) for layer in shapes.layers for blob in layer.blobs) > SMALL:
        return
    weights = [tuple(np.zeros(blob, np.float32) for blob in layer.blobs) for layer in shapes.layers]
    outputs = [net.finals[blob] for blob in net.outputs]
    for arithmetic in Arithmetic:
        with suppress(RistrettoError):
            simulation = Simulation(plan_of(net, nearest=True).layers, arithmetic=arithmetic)
            build(net, shapes, weights, outputs=outputs, simulation=simulation)

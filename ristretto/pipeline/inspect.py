"""What a net is made of: layers, shapes, parameters, operations, ranges of the weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ristretto.caffe.confined import confined_to
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import NetSpec, Phase, Shape
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import NetShapes, declared_shapes, infer_shapes
from ristretto.caffe.weights import Weights, read_weights
from ristretto.errors import RistrettoError, WeightsError
from ristretto.pipeline.feed import fed_layers, open_feed
from ristretto.pipeline.plugins import load_plugins
from ristretto.pipeline.signs import ignored_fields
from ristretto.report.inspection import BlobFacts, LayerFacts, NetFacts


def inspect(
    model: Path,
    weights: tuple[Path, ...] = (),
    phase: Phase = "TEST",
    data_root: Path | None = None,
    plugins: tuple[str, ...] = (),
    level: int = 0,
    stages: tuple[str, ...] = (),
    untrusted: bool = False,
) -> NetFacts:
    """Look at a net. Where its data cannot be opened or a layer is unknown, shapes are left out and the reason kept.

    Raises:
        RistrettoError: the net or the weights cannot be read.
    """
    load_plugins(plugins)
    net = build_net(read_prototxt(model, confined_to(untrusted, model, data_root)), NetState(phase, level, stages))
    loaded = read_weights(weights, untrusted=untrusted) if weights else None
    reason = ""
    shapes = None
    try:
        shapes = infer_shapes(net, _fed_shapes(net, data_root))
    except RistrettoError as error:
        reason = str(error)
    layers = []
    for number, layer in enumerate(net.layers):
        rule = shapes.layers[number] if shapes is not None else None
        layers.append(
            LayerFacts(
                layer.name,
                layer.type,
                layer.bottoms,
                layer.tops,
                rule.outputs if rule else (),
                sum(map(math.prod, rule.blobs)) if rule else None,
                rule.macs if rule else None,
                _blob_facts(loaded, layer.name),
            )
        )
    names = {layer.name for layer in net.layers}
    unused = (
        ()
        if loaded is None
        else tuple(layer.name for layer in loaded.layers if layer.blobs and layer.name not in names)
    )
    warnings = list(ignored_fields(net))
    if loaded is not None:
        warnings += _foreign_weights(net, shapes, loaded, weights)
    return NetFacts(net.name, phase, tuple(layers), net.outputs, reason, unused, tuple(warnings))


def _foreign_weights(net: NetSpec, shapes: NetShapes | None, loaded: Weights, files: tuple[Path, ...]) -> list[str]:
    """Signs that weights belong to another net."""
    where = ", ".join(map(str, files))
    held = {layer.name for layer in loaded.layers if layer.blobs}
    if not held.intersection(layer.name for layer in net.layers):
        return [f"{where}: no layer has the name of one of the net's: do the weights belong to another net?"]
    if shapes is None:
        return []
    try:
        fit_weights(net, shapes, loaded)
    except WeightsError as error:
        return [str(error)]
    return []


def _fed_shapes(net: NetSpec, data_root: Path | None) -> dict[str, Shape]:
    if all(declared_shapes(layer) is not None for layer in fed_layers(net)):
        return {}
    return open_feed(net, inputs=None, data_root=data_root, seed=0).shapes


def _blob_facts(weights: Weights | None, name: str) -> tuple[BlobFacts, ...]:
    blobs = (weights.get(name) if weights is not None else None) or ()
    return tuple(
        BlobFacts(
            blob.shape,
            float(blob.min()),
            float(blob.max()),
            float(blob.std()),
            int(np.count_nonzero(blob == 0)),
        )
        for blob in blobs
        if blob.size
    )

"""The weights of each layer: found by name, checked against the shapes, shared where the net says so."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, NetSpec, Shape
from ristretto.caffe.shapes import NetShapes
from ristretto.caffe.weights import LayerWeights, Weights
from ristretto.errors import WeightsError

Blobs = tuple[NDArray[np.float32], ...]


def fit_weights(net: NetSpec, shapes: NetShapes, weights: Weights | None) -> tuple[Blobs, ...]:
    """The weight blobs of every layer, in the order of ``NetSpec.layers``, each of the shape its layer expects.

    A parameter with a name is shared: all layers that name it use the blob of the first one (Net::AppendParam).

    Raises:
        WeightsError: a layer has no weights in the files (all such layers are named), a wrong number of blobs, or a
            blob whose shape does not fit (both shapes are named).
    """
    users = {place: places for places in _shared_owners(net).values() for place in places}
    missing = []
    fitted: list[Blobs] = []
    for number, layer in enumerate(net.layers):
        wanted = shapes.layers[number].blobs
        if not wanted:
            fitted.append(())
            continue
        blobs = []
        for position, shape in enumerate(wanted):
            blob = _find(net, users, weights, number, position, shape, len(wanted))
            if blob is None:
                missing.append(layer)
                break
            blobs.append(blob)
        fitted.append(tuple(blobs))
    if missing:
        _complain(net, missing, weights)
    return tuple(fitted)


def with_shared(net: NetSpec, weights: Weights) -> Weights:
    """The same weights, in which every layer that shares parameters has those of the first that names them.

    Caffe writes them for each layer, others may not; what a layer that is not the first has of its own counts nothing.
    """
    held = {layer.name: list(layer.blobs) for layer in weights.layers if layer.blobs}
    changed: dict[str, str] = {}
    for (owner, at), *users in _shared_owners(net).values():
        blobs = held.get(net.layers[owner].name, [])
        for number, position in users if at < len(blobs) else ():
            layer = net.layers[number]
            own = held.setdefault(layer.name, [])
            if position < len(own) and own[position] is not blobs[at]:
                own[position] = blobs[at]
            elif position == len(own):
                own.append(blobs[at])
            else:
                continue
            changed[layer.name] = layer.type
    there = {layer.name for layer in weights.layers if layer.blobs}
    layers = tuple(
        replace(layer, blobs=tuple(held[layer.name])) if layer.blobs and layer.name in changed else layer
        for layer in weights.layers
    )
    new = [LayerWeights(name, kind, tuple(held[name])) for name, kind in changed.items() if name not in there]
    return Weights((*layers, *new), weights.files) if changed else weights


def _shared_owners(net: NetSpec) -> dict[str, list[tuple[int, int]]]:
    """For each parameter name the (layer number, blob position) pairs that use it, in order."""
    owners: dict[str, list[tuple[int, int]]] = {}
    for number, layer in enumerate(net.layers):
        for position, param in enumerate(layer.view.children("param")):
            if param.text("name"):
                owners.setdefault(param.text("name"), []).append((number, position))
    return owners


def _find(
    net: NetSpec,
    users: dict[tuple[int, int], list[tuple[int, int]]],
    weights: Weights | None,
    number: int,
    position: int,
    shape: Shape,
    count: int,
) -> NDArray[np.float32] | None:
    """One blob: the owner's if the parameter is shared, else the layer's own."""
    candidates = users.get((number, position), [(number, position)])
    if weights is None:
        return None
    for user, at in candidates:
        layer = net.layers[user]
        blobs = weights.get(layer.name)
        if blobs is None or at >= len(blobs):
            if blobs is not None and user == number:
                what = f"the weights file holds {len(blobs)} blobs for it, the layer needs {count}"
                raise WeightsError(what, layer=layer.name, file=net.file, cure=_blob_cure(len(blobs), count))
            continue
        if len(blobs) > count and user == number:
            what = f"the weights file holds {len(blobs)} blobs for it, the layer needs {count}"
            raise WeightsError(what, layer=layer.name, file=net.file, cure=_blob_cure(len(blobs), count))
        return _shaped(net.layers[number], blobs[at], shape, position, net.file)
    return None


def _blob_cure(found: int, wanted: int) -> str:
    more = "true" if found > wanted else "false"
    return f"set bias_term: {more} if that is the difference, or use the prototxt the net was trained with"


def _stripped(shape: Shape) -> Shape:
    """A shape without its leading ones, which old files pad to four axes."""
    start = 0
    while start < len(shape) - 1 and shape[start] == 1:
        start += 1
    return shape[start:]


def _shaped(layer: LayerSpec, blob: NDArray[np.float32], shape: Shape, position: int, file: str) -> NDArray[np.float32]:
    if _stripped(blob.shape) != _stripped(shape) or blob.size != math.prod(shape):
        what = f"blob {position} in the weights file has shape {list(blob.shape)}, the layer expects {list(shape)}"
        cure = "use the prototxt the weights were trained with, or rename the layer"
        raise WeightsError(what, layer=layer.name, file=file, line=layer.view.line, cure=cure)
    return blob.reshape(shape)


def _complain(net: NetSpec, missing: list[LayerSpec], weights: Weights | None) -> None:
    names = ", ".join(f"'{layer.name}'" for layer in missing[:8])
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    if weights is None:
        cure = "give the trained weights with --weights"
        raise WeightsError(f"{len(missing)} layers need weights: {names}{more}", file=net.file, cure=cure)
    files = ", ".join(str(file) for file in weights.files)
    cure = "is it the weights file of this net? layers are matched by name"
    raise WeightsError(f"no weights for {len(missing)} layers: {names}{more}", file=files, cure=cure)

"""Small nets whose channels have very different ranges, run before and after they are equalised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fold_nets import SHAPE, Array, weights
from numpy.typing import NDArray

from ristretto.caffe.equalize import Equalized, equalize
from ristretto.caffe.net import build_net
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import Document
from ristretto.caffe.weights import LayerWeights, Weights
from ristretto.pipeline.runner import Runner


def uneven(document: Document, seed: int = 0, state: NetState | None = None, spread: float = 8.0) -> Weights:
    """Random weights of which each index along each of the first two axes has a magnitude of its own."""
    rng = np.random.default_rng(seed)

    def scaled(blob: Array) -> Array:
        for axis in range(min(blob.ndim, 2)):
            factors = np.exp2(rng.uniform(-spread, spread, blob.shape[axis])).astype(np.float32)
            blob = blob * np.expand_dims(factors, tuple(range(1, blob.ndim - axis)))
        return blob

    held = weights(document, seed, state)
    return Weights(tuple(replace(item, blobs=tuple(map(scaled, item.blobs))) for item in held.layers), held.files)


def outputs(document: Document, held: Weights) -> dict[str, Array]:
    """What the net makes of one random input, by output blob."""
    spec = build_net(document)
    runner = Runner(spec, held, [spec.finals[blob] for blob in spec.outputs], threads=1)
    return runner.run({"x": np.random.default_rng(1).standard_normal(SHAPE, dtype=np.float32)})[0]


def equalized_equal(document: Document, held: Weights) -> Equalized:
    """Equalise a net and see that not a bit of what it computes changes, though the weights do."""
    done = equalize(build_net(document), held)
    before, after = outputs(document, held), outputs(document, done.weights)
    assert before.keys() == after.keys()
    for blob, wanted in before.items():
        assert np.isfinite(wanted).all()
        np.testing.assert_array_equal(after[blob], wanted)
    assert (done.weights is held) == all(pair.channels == 0 for pair in done.pairs)
    return done


def made_range(kind: str, weight: Array, transpose: bool = False, group: int = 1) -> NDArray[np.float64]:
    """The largest weight of each output channel, written down once more from Caffe's layouts."""
    if kind == "Deconvolution":
        parts = [np.abs(part).swapaxes(0, 1) for part in np.split(weight, group)]
        weight = np.concatenate(parts)
    elif transpose:
        weight = weight.T
    return np.array([np.abs(row).max() for row in weight], np.float64)


def read_range(kind: str, weight: Array, channels: int, transpose: bool = False, group: int = 1) -> NDArray[np.float64]:
    """The largest weight of each input channel."""
    if kind == "Deconvolution":
        return np.array([np.abs(row).max() for row in weight], np.float64)
    if kind == "InnerProduct":
        columns = weight if transpose else weight.T
        return np.array([np.abs(rows).max() for rows in np.split(columns, channels)], np.float64)
    found = [np.abs(part[:, column]).max() for part in np.split(weight, group) for column in range(weight.shape[1])]
    return np.array(found, np.float64)


def blobs(held: Weights, name: str) -> tuple[Array, ...]:
    found = held.get(name)
    assert found is not None
    return found


def replaced(held: Weights, **changed: tuple[Array, ...]) -> Weights:
    """Weights with the blobs of some layers replaced."""
    layers = [LayerWeights(item.name, item.type, changed.get(item.name, item.blobs)) for item in held.layers]
    return Weights(tuple(layers), held.files)

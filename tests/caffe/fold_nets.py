"""Small nets with weights, run before and after they are folded."""

from __future__ import annotations

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray

from ristretto.caffe.fold import Folded, fold
from ristretto.caffe.net import build_net
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.rules import NetState
from ristretto.caffe.schema import message_class
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import Document, parse
from ristretto.caffe.weights import LayerWeights, Weights
from ristretto.graph.build import build
from ristretto.runtime.session import Session

Array = NDArray[np.float32]
SHAPE = (2, 4, 5, 6)
INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 5 dim: 6 } } }'


def layer(name: str, kind: str, bottom: str, top: str, *fields: str) -> str:
    bottoms = " ".join(f'bottom: "{blob}"' for blob in bottom.split())
    return " ".join(["layer {", f'name: "{name}" type: "{kind}"', bottoms, f'top: "{top}"', *fields, "}"])


def conv(name: str = "conv", bottom: str = "x", top: str = "c", *fields: str, param: str = "") -> str:
    return layer(
        name, "Convolution", bottom, top, f"convolution_param {{ num_output: 4 kernel_size: 3 {param} }}", *fields
    )


def norm(name: str = "bn", bottom: str = "c", top: str = "c", *fields: str) -> str:
    return layer(name, "BatchNorm", bottom, top, *fields)


def net(*layers: str) -> Document:
    return parse("\n".join([INPUT, *layers]) + "\n", "net.prototxt")


def weights(document: Document, seed: int = 0, state: NetState | None = None, factor: float = 3.0) -> Weights:
    """Weights for every layer, with statistics as training leaves them."""
    rng = np.random.default_rng(seed)
    spec = build_net(document, state)
    held = []
    for item, shapes in zip(spec.layers, infer_shapes(spec, {"x": SHAPE}).layers, strict=True):
        blobs = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes.blobs]
        if item.type == "BatchNorm":
            blobs[1:] = rng.uniform(0.1, 4.0, shapes.blobs[1]).astype(np.float32) * np.float32(factor or 1), [factor]
            blobs[0] *= np.float32(factor or 1)
            blobs[2] = np.array([factor], np.float32)
        held.append(LayerWeights(item.name, item.type, tuple(blobs)))
    return Weights(tuple(held), ())


def outputs(document: Document, held: Weights, state: NetState | None = None) -> dict[str, Array]:
    """What the net makes of one random input, by output blob."""
    spec = build_net(document, state)
    shapes = infer_shapes(spec, {})
    values = [spec.finals[blob] for blob in spec.outputs]
    built = build(spec, shapes, fit_weights(spec, shapes, held), outputs=values)
    feed = np.random.default_rng(1).standard_normal(SHAPE, dtype=np.float32)
    results = Session(built.model.SerializeToString(), threads=1).run(
        {built.inputs["x"]: feed}, list(built.fetches.values())
    )
    return {blob: results[built.fetches[spec.finals[blob]]] for blob in spec.outputs}


def folded_equal(document: Document, held: Weights, state: NetState | None = None) -> Folded:
    """Fold a net and see that nothing which it computes changes."""
    done = fold(document, held, state)
    before, after = outputs(document, held, state), outputs(done.document, done.weights, state)
    assert list(before) == list(after)
    for blob, wanted in before.items():
        np.testing.assert_allclose(after[blob], wanted, rtol=0, atol=1e-5 * float(np.abs(wanted).max()))
    text_format.Parse(done.document.text, message_class("NetParameter")())
    return done


def names(document: Document) -> list[str]:
    return [item.name for item in build_net(document).layers]


def reason(*layers: str, held: Weights | None = None, at: str = "bn", state: NetState | None = None) -> str:
    """Why a layer of a net is kept; then nothing at all changes."""
    document = net(*layers)
    given_weights = weights(document, state=state) if held is None else held
    done = fold(document, given_weights, state)
    assert done.document is document
    assert done.weights is given_weights
    assert done.folded == ()
    return dict(done.declined)[at]

"""Real-world prototxt files: each net is typed in both phases, or refused with an error to act on, and built."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import LayerSpec, NetSpec, Phase, Shape
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import FED_TYPES, NetShapes, declared_shapes, infer_shapes
from ristretto.errors import NetError, PrototxtError, RistrettoError
from ristretto.graph.build import build
from ristretto.graph.registry import emitted_types
from tests.golden.shared import SHARED, needs_shared

pytestmark = needs_shared

CORPUS = SHARED / "prototxt_corpus"

NOT_WELL_FORMED = {"HolmesShuan__solver.prototxt", "luoyetx__prototxt__s3_deploy.prototxt.template"}

NOT_A_NET = {
    "345ishaan__lenet_train_test.prototxt TRAIN": "unknown bottom blob 'label'",
    "lim0606__deploy.prototxt TRAIN": "the net has both 'layer' and 'layers' fields",
    "lim0606__deploy.prototxt TEST": "the net has both 'layer' and 'layers' fields",
}
"""Nets that make no net whatever is done; besides them, nets whose data layers run in the other phase only."""

INPUTS_UNKNOWN = {
    "Hi-king__train_test.prototxt": "its labels are vectors, which only its data could tell",
    "intel__models__intel_optimized_models__ssd__VGGNet__coco__SSD_300x300_webcam__test.prototxt": "it reads a webcam",
}
"""Nets whose input shapes are neither in the file nor among the usual ones."""

USUAL_SIZES = ((3, 224, 224), (1, 28, 28), (3, 32, 32), (1, 224, 224))


def nets() -> list[Path]:
    """The files that hold a net."""
    found = []
    for path in sorted(CORPUS.glob("*")):
        if path.name == "MANIFEST.tsv" or path.name in NOT_WELL_FORMED:
            continue
        fields = {field.name for field in read_prototxt(path).root.fields}
        if fields & {"layer", "layers"}:
            found.append(path)
    return found


def test_the_corpus_is_there() -> None:
    assert len(nets()) == 102


@pytest.mark.parametrize("name", sorted(NOT_WELL_FORMED))
def test_what_is_not_well_formed_is_placed(name: str) -> None:
    with pytest.raises(PrototxtError) as caught:
        read_prototxt(CORPUS / name)
    assert caught.value.line > 0
    assert caught.value.cure


def fed_shapes(layer: LayerSpec, size: Shape) -> list[Shape]:
    """Shapes for a data layer: its crop, else a usual size; two images."""
    crop = layer.view.child("transform_param").integer("crop_size")
    image = (size[0], crop, crop) if crop else size
    return [(2, *image), *[(2,)] * (len(layer.tops) - 1)]


def shapes_of(net: NetSpec) -> NetShapes:
    """The net's shapes at the first usual size that fits."""
    first: NetError | None = None
    for size in USUAL_SIZES:
        fed: dict[str, Shape] = {}
        for layer in net.layers:
            if layer.type in FED_TYPES and declared_shapes(layer) is None:
                fed.update(zip(layer.tops, fed_shapes(layer, size), strict=True))
        try:
            shapes = infer_shapes(net, fed)
        except NetError as error:
            first = first or error
            continue
        if sum(math.prod(blob) for layer in shapes.layers for blob in layer.blobs) < 160_000_000:
            return shapes
    assert first is not None, "all sizes give more weights than any net of the corpus has"
    raise first


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("path", nets(), ids=lambda path: path.name)
def test_a_net_is_typed_and_built(path: Path, phase: Phase) -> None:
    document = read_prototxt(path)
    try:
        net = build_net(document, NetState(phase))
    except RistrettoError as error:
        expected = NOT_A_NET.get(f"{path.name} {phase}", "unknown bottom blob 'data'")
        assert expected in error.what
        assert error.line > 0
        assert error.cure
        return
    unknown = sorted({layer.type for layer in net.layers} - emitted_types() - FED_TYPES)
    if unknown:
        with pytest.raises(NetError) as caught:
            infer_shapes(net, {})
        assert all(f"'{kind}'" in str(caught.value) for kind in unknown)
        return
    try:
        shapes = shapes_of(net)
    except NetError as error:
        assert path.name in INPUTS_UNKNOWN
        assert error.line > 0
        return
    weights = [tuple(np.zeros(blob, np.float32) for blob in layer.blobs) for layer in shapes.layers]
    built = build(net, shapes, weights, outputs=[net.finals[blob] for blob in net.outputs])
    assert len(built.model.graph.node) > 0
    assert set(built.fetches) == {net.finals[blob] for blob in net.outputs}
    assert all(all(size > 0 for size in shapes.values[net.finals[blob]]) for blob in net.outputs)

"""Layers computed with torch: what they make is what the ONNX model makes, and their gradients are right."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.weights import read_weights
from ristretto.dialects.fields import read_plan
from ristretto.finetune.net import Rounded, TorchNet
from ristretto.finetune.registry import trained_types
from ristretto.graph.build import Simulation, build, runnable_types
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from tests.cli.runner import MODELS as MODELS_HERE
from tests.finetune.needed import needs_torch
from tests.golden.shared import cases, needs_shared
from tests.layers.harness import run_model

UNTRAINED = {"ArgMax", "DetectionOutput", "PriorBox", "LRNRistretto", "ROIPooling", "PSROIPooling"}
"""Types that have no gradient, an arithmetic of their own inside, or belong to detectors' second stage."""

LAYERS = [path.parent for path in cases("golden/layers/*/net.prototxt")]
MODELS = [
    path.parent / f"{path.name.removeprefix('golden_').removesuffix('_inputs.npz')}.prototxt"
    for path in cases("models/*/golden_*_inputs.npz")
]


def test_all_types_that_run_can_be_trained_but_those_without_gradient() -> None:
    assert runnable_types() - trained_types() <= UNTRAINED
    assert not trained_types() - runnable_types()


def compare(prototxt: Path, caffemodel: Path, inputs: dict[str, np.ndarray], tolerance: float) -> None:
    """Run both on the same inputs, rounding as the net says, and compare all output blobs."""
    net = build_net(read_prototxt(prototxt))
    formats = read_plan(net).layers
    untrained = [layer.type for layer in net.layers if layer.type in UNTRAINED]
    if untrained:
        pytest.skip(f"{untrained[0]} is not trained")
    shapes = infer_shapes(net, {blob: array.shape for blob, array in inputs.items()})
    learned = any(layer.blobs for layer in shapes.layers)
    blobs = fit_weights(net, shapes, read_weights([caffemodel]) if learned else None)
    values = [net.finals[blob] for blob in net.outputs]
    wanted = run_model(build(net, shapes, blobs, outputs=values, simulation=Simulation(formats)), inputs)
    kept = Simulation({name: replace(layer, output=None) for name, layer in formats.items()})
    unrounded = dict(
        zip(values, run_model(build(net, shapes, blobs, outputs=values, simulation=kept), inputs), strict=True)
    )
    rounding = Rounded(formats, Rounding.HALF_EVEN, activations=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        passed = TorchNet(net, blobs, {}, rounding).forward(inputs)
    for value, expected in zip(values, wanted, strict=True):
        made = passed.values[value].detach().numpy()
        assert made.shape == expected.shape
        scale = np.abs(expected).max(initial=0.0, where=np.isfinite(expected))
        # Where float sums differ in their last bit, a value half way between two steps goes to the one or to the other.
        apart = np.abs(made - expected) > tolerance * scale
        np.testing.assert_allclose(((made + expected) / 2)[apart], unrounded[value][apart], rtol=0, atol=1e-6 * scale)


@needs_torch
@needs_shared
@pytest.mark.parametrize("folder", LAYERS, ids=lambda folder: folder.name)
def test_layer_makes_what_the_model_makes(folder: Path) -> None:
    with np.load(folder / "inputs.npz") as given:
        compare(folder / "net.prototxt", folder / "net.caffemodel", dict(given), 1e-5)


@needs_torch
@needs_shared
@pytest.mark.parametrize("prototxt", MODELS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_net_makes_what_the_model_makes(prototxt: Path) -> None:
    weights = sorted(prototxt.parent.glob("*.caffemodel"))
    own = [path for path in weights if prototxt.stem.startswith(path.stem)] or weights
    with np.load(prototxt.parent / f"golden_{prototxt.stem}_inputs.npz") as given:
        compare(prototxt, own[0], dict(given), 1e-5)


@needs_torch
@pytest.mark.parametrize("in_place", [True, False])
def test_a_quantized_net_rounds_where_the_model_rounds(in_place: bool) -> None:
    """Skip connections in memory that others round, at four bits: what is rounded elsewhere would show everywhere.

    Where float sums of the two differ in the last bit a value may round to the other neighbour; few do.
    """
    folder = MODELS_HERE / "digits_resnet"
    net = build_net(read_prototxt(folder / "deploy.prototxt"))
    narrow, wide = DynamicFixedPoint(4, 1), DynamicFixedPoint(6, 2)
    formats = {
        layer.name: LayerFormats(narrow, wide, DynamicFixedPoint(5, 4), wide, in_place=in_place)
        for layer in net.layers
        if layer.type in ("Convolution", "InnerProduct")
    }
    inputs = {"data": np.random.default_rng(0).random((8, 1, 16, 16), np.float32)}
    shapes = infer_shapes(net, {"data": (8, 1, 16, 16)})
    blobs = fit_weights(net, shapes, read_weights([folder / "digits_resnet.caffemodel"]))
    values = [value for layer in net.layers for value in layer.outputs]
    wanted = run_model(build(net, shapes, blobs, outputs=values, simulation=Simulation(formats)), inputs)
    rounding = Rounded(formats, Rounding.HALF_EVEN, activations=True)
    made = TorchNet(net, blobs, {}, rounding).forward(inputs).values
    for value, expected in zip(values, wanted, strict=True):
        alike = np.isclose(made[value].detach().numpy(), expected, rtol=1e-5, atol=1e-5)
        assert alike.mean() > 0.98, value

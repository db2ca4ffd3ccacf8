"""What a net computes does not depend on the number of threads: every operation that nets are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.weights import LayerWeights, Weights
from ristretto.graph.build import Simulation
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.runner import Runner

SHAPES = ((3, 23, 19, 17), (2, 64, 31, 33))

LAYERS = {
    "convolution": 'type: "Convolution" convolution_param { num_output: 37 kernel_size: 3 pad: 1 }',
    "depthwise": 'type: "DepthwiseConvolution" convolution_param { num_output: %C kernel_size: 3 }',
    "inner product": 'type: "InnerProduct" inner_product_param { num_output: 71 }',
    "across channels": 'type: "LRN" lrn_param { local_size: 5 }',
    "another power": 'type: "LRN" lrn_param { local_size: 3 beta: 0.6 alpha: 0.5 k: 2 }',
    "within channel": 'type: "LRN" lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }',
    "mean and variance": 'type: "MVN" mvn_param { across_channels: true }',
    "of each channel": 'type: "MVN"',
    "batch statistics": 'type: "BatchNorm" batch_norm_param { use_global_stats: false }',
    "average": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
    "global average": 'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
    "softmax": 'type: "Softmax"',
    "exp": 'type: "Exp"',
    "log": 'type: "Log" log_param { shift: 9 }',
    "power": 'type: "Power" power_param { power: 0.7 shift: 9 }',
    "elu": 'type: "ELU"',
    "bnll": 'type: "BNLL"',
    "sigmoid": 'type: "Sigmoid"',
    "tanh": 'type: "TanH"',
    "sum": 'type: "Reduction" reduction_param { axis: 1 }',
    "mean": 'type: "Reduction" reduction_param { axis: 0 operation: MEAN }',
}

REWRITTEN = ("across channels", "another power", "log", "elu", "bnll")

FLOAT = Simulation()


def results(
    layer: str,
    shape: tuple[int, ...],
    folder: Path,
    threads: int,
    *,
    behind: str = 'type: "Split"',
    simulation: Simulation = FLOAT,
) -> bytes:
    """What a layer, and another one behind it, make of random values."""
    dims = " ".join(f"dim: {size}" for size in shape)
    path = folder / "net.prototxt"
    text = layer.replace("%C", str(shape[1]))
    path.write_text(
        f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}\n'
        f'layer {{ name: "y" bottom: "x" top: "y" {text} }}\n'
        f'layer {{ name: "z" bottom: "y" top: "z" {behind} }}\n'
    )
    net = build_net(read_prototxt(path), NetState("TEST"))
    rng = np.random.default_rng(1)
    shapes = infer_shapes(net, {"x": shape})
    blobs = [tuple(rng.standard_normal(each).astype(np.float32) for each in one.blobs) for one in shapes.layers]
    named = zip(net.layers, blobs, strict=True)
    weights = Weights(tuple(LayerWeights(one.name, "", each) for one, each in named if each), ())
    values = rng.standard_normal(shape).astype(np.float32)
    made, _ = Runner(net, weights, [net.finals["z"]], threads=threads, simulation=simulation).run({"x": values})
    return made[net.finals["z"]].tobytes()


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers(layer: str, tmp_path: Path) -> None:
    for shape in SHAPES:
        one = results(layer, shape, tmp_path, 1)
        assert all(results(layer, shape, tmp_path, threads) == one for threads in (2, 3, 7)), shape


@pytest.mark.parametrize("name", REWRITTEN)
def test_behind_sums_in_float64(name: str, tmp_path: Path) -> None:
    """Sums of 16-bit codes are put together in float64; what stands behind them is float32 all the same."""
    wide, within_8 = DynamicFixedPoint(16, 8), DynamicFixedPoint(16, 12)
    simulation = Simulation({"y": LayerFormats(wide, within_8, wide, None)}, arithmetic=Arithmetic.INTEGER)
    first = 'type: "Convolution" convolution_param { num_output: 24 kernel_size: 3 pad: 1 }'
    made = [
        results(first, SHAPES[0], tmp_path, threads, behind=LAYERS[name], simulation=simulation)
        for threads in (1, 2, 3, 7)
    ]
    assert set(made) == {made[0]}


@pytest.mark.parametrize("name", REWRITTEN)
def test_what_is_computed_otherwise_is_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = np.frombuffer(results(LAYERS[name], SHAPES[0], tmp_path, 1), np.float32)
    monkeypatch.setattr("ristretto.pipeline.runner.steady", lambda model, double: model)
    theirs = np.frombuffer(results(LAYERS[name], SHAPES[0], tmp_path, 1), np.float32)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-7)

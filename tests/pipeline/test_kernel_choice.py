"""Which kernels a net gets, and that no choice hides a NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import LayerWeights, Weights, read_weights
from ristretto.errors import UsageError
from ristretto.graph.build import Simulation
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline import kernels
from ristretto.pipeline.kernels import kernels_for
from ristretto.pipeline.runner import Runner

MODELS = Path(__file__).parents[2] / "models"
FMT = DynamicFixedPoint(8, 4)
FORMATS = Simulation({"conv1": LayerFormats(FMT, FMT, FMT, FMT), "conv2": LayerFormats(FMT, FMT, FMT, FMT)})


def lenet() -> tuple[NetSpec, Weights]:
    net = build_net(read_prototxt(MODELS / "digits_lenet/deploy.prototxt"))
    return net, read_weights([MODELS / "digits_lenet/digits_lenet.caffemodel"])


def choice(net: NetSpec, weights: Weights, simulation: Simulation) -> str:
    return kernels_for(net, fit_weights(net, infer_shapes(net, {}), weights), simulation)


@pytest.mark.parametrize(
    ("exact", "pairs", "chosen"),
    [(True, True, "integers"), (True, False, "integers"), (False, True, "pairs"), (False, False, "rounding")],
)
def test_the_machine_decides(monkeypatch: pytest.MonkeyPatch, exact: bool, pairs: bool, chosen: str) -> None:
    monkeypatch.setattr(kernels, "exact_integer_kernels", lambda: exact)
    monkeypatch.setattr(kernels, "exact_in_pairs", lambda: pairs)
    monkeypatch.delenv(kernels.SWITCH, raising=False)
    net, weights = lenet()
    assert choice(net, weights, FORMATS) == chosen
    assert choice(net, weights, Simulation()) == "plain"
    assert choice(net, weights, Simulation(FORMATS.formats, arithmetic=Arithmetic.INTEGER)) == "plain"


@pytest.mark.parametrize("asked", ["plain", "rounding", "pairs", "integers", "", "fast"])
def test_the_environment_may_decide(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr(kernels, "exact_integer_kernels", lambda: True)
    monkeypatch.setattr(kernels, "exact_in_pairs", lambda: True)
    monkeypatch.setenv(kernels.SWITCH, asked)
    net, weights = lenet()
    if asked == "fast":
        with pytest.raises(UsageError, match="RISTRETTO_KERNELS=fast: there are no such kernels"):
            choice(net, weights, FORMATS)
    else:
        assert choice(net, weights, FORMATS) == (asked or "integers")


def with_blob(weights: Weights, value: float) -> Weights:
    """The weights with one of them replaced."""
    layers = list(weights.layers)
    number = next(number for number, layer in enumerate(layers) if layer.name == "conv2")
    blob = layers[number].blobs[0].copy()
    blob.flat[3] = value
    layers[number] = LayerWeights("conv2", "Convolution", (blob, *layers[number].blobs[1:]))
    return Weights(tuple(layers), ())


def test_a_net_that_may_make_nan_gets_plain_nodes() -> None:
    net, weights = lenet()
    for value in (np.nan, np.inf):
        assert choice(net, with_blob(weights, value), FORMATS) == "plain"
    text = (MODELS / "digits_lenet/deploy.prototxt").read_text()
    text += 'layer { name: "e" type: "Log" bottom: "conv1" top: "e" }\n'
    assert choice(build_net(parse(text, "net.prototxt")), weights, FORMATS) == "plain"


def test_what_is_fed_keeps_its_nan() -> None:
    net, weights = lenet()
    value = next(layer.outputs[0] for layer in net.layers if layer.name == "conv1")  # a maximum drops NaN
    runner = Runner(net, weights, [value], (), FORMATS)
    (blob,) = net.layers[0].tops
    shape = runner.prepare({})[net.layers[0].outputs[0]]
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    clean = runner.run({blob: x})[0][value]
    assert np.isfinite(clean).all()
    broken = x.copy()
    broken[0, 0, 2, 2] = np.nan
    assert np.isnan(runner.run({blob: broken})[0][value][0]).any()
    np.testing.assert_array_equal(runner.run({blob: x})[0][value], clean)

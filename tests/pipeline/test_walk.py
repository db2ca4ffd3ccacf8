"""Walking a net section by section gives what one run gives, rounding in place included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.weights import read_weights
from ristretto.graph.build import Section, Simulation, live_values
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.runner import Halfway, Runner
from ristretto.pipeline.walk import Walk

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("name", ["digits_lenet", "digits_resnet"])
@pytest.mark.parametrize("in_place", [True, False])
def test_any_cut_changes_nothing(name: str, in_place: bool) -> None:
    net = build_net(read_prototxt(MODELS / name / "deploy.prototxt"))
    weights = read_weights([MODELS / name / f"{name}.caffemodel"])
    fmt = DynamicFixedPoint(5, 2)
    formats = {
        layer.name: LayerFormats(fmt, fmt, fmt, fmt, in_place=in_place)
        for layer in net.layers
        if layer.type in ("Convolution", "InnerProduct")
    }
    (blob,) = net.layers[0].tops
    rng = np.random.default_rng(0)
    shape = Runner(net, weights, [net.finals[net.outputs[0]]]).prepare({})[net.layers[0].outputs[0]]
    batches = [{blob: rng.uniform(0, 1, (size, *shape[1:])).astype(np.float32)} for size in (3, 2)]
    final = net.finals[net.outputs[0]]
    for rounding in (Rounding.HALF_EVEN, Rounding.STOCHASTIC):
        whole = Runner(net, weights, [final], (), Simulation(formats, rounding, seed=4))
        expected = [whole.run(batch)[0][final] for batch in batches]
        for cut in range(1, len(net.layers)):
            first = Runner(
                net,
                weights,
                live_values(net, cut, [final]),
                (),
                Simulation(formats, rounding, 4),
                section=Section(0, cut),
            )
            second = Runner(net, weights, [final], (), Simulation(formats, rounding, 4), section=Section(cut))
            for batch, wanted in zip(batches, expected, strict=True):
                fed = {name: array.shape for name, array in batch.items()}
                halfway = Halfway(fed, first.run(Halfway(fed, batch))[0])
                np.testing.assert_array_equal(second.run(halfway)[0][final], wanted)


def test_a_walk_sees_what_a_layer_finds_and_makes() -> None:
    net = build_net(read_prototxt(MODELS / "digits_lenet/deploy.prototxt"))
    weights = read_weights([MODELS / "digits_lenet/digits_lenet.caffemodel"])
    (blob,) = net.layers[0].tops
    shape = Runner(net, weights, [net.finals[net.outputs[0]]]).prepare({})[net.layers[0].outputs[0]]
    x = np.random.default_rng(0).uniform(0, 1, (4, *shape[1:])).astype(np.float32)
    number = next(n for n, layer in enumerate(net.layers) if layer.type == "InnerProduct")
    layer = net.layers[number]
    walk = Walk(net, [{blob: x}])
    walk.advance(number, weights, {})
    values = [layer.inputs[0], layer.outputs[0]]
    expected = Runner(net, weights, values).run({blob: x})[0]
    np.testing.assert_array_equal(walk.values(values[0])[0], expected[values[0]])
    np.testing.assert_array_equal(walk.outputs(values[1], weights, {})[0], expected[values[1]])
    assert walk.position == number

"""What a rounding would change, summed up inside the model."""

from __future__ import annotations

import numpy as np

from ristretto.caffe.net import build_net
from ristretto.caffe.textproto import parse
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.pipeline.runner import Runner

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 5 } } }
layer { name: "in_place" type: "ReLU" bottom: "x" top: "x" }
"""


def test_squared_errors_are_those_of_the_value_as_it_was_made() -> None:
    net = build_net(parse(NET))
    x = np.random.default_rng(1).normal(0, 3, (4, 5)).astype(np.float32)
    made, final = net.layers[0].outputs[0], net.finals["x"]
    formats = [DynamicFixedPoint(4, fl) for fl in (0, 1, 2)]
    runner = Runner(net, None, [final], errors=[(value, fmt) for value in (made, final) for fmt in formats])
    found = runner.losses({"x": x})
    for value, array in ((made, x), (final, np.maximum(x, 0))):
        for fmt in formats:
            np.testing.assert_allclose(found[value, fmt], ((fmt.quantize(array) - array) ** 2).sum(), rtol=1e-5)


def test_large_values_are_sampled() -> None:
    text = NET.replace("dim: 4 dim: 5", "dim: 2 dim: 300 dim: 700")
    net = build_net(parse(text))
    x = np.random.default_rng(1).normal(0, 3, (2, 300, 700)).astype(np.float32)
    value, fmt = net.layers[0].outputs[0], DynamicFixedPoint(4, 1)
    found = Runner(net, None, [value], errors=[(value, fmt)]).losses({"x": x})[value, fmt]
    sample = x.ravel()[::3]
    assert sample.size > 65_536
    np.testing.assert_allclose(found, ((fmt.quantize(sample) - sample) ** 2).sum(), rtol=1e-4)

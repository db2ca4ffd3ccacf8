"""LRNRistretto against loops over channels in numpy, rounding after every step."""

from __future__ import annotations

import numpy as np
import pytest

from ristretto.caffe.net import build_net
from ristretto.caffe.textproto import parse
from ristretto.dialects.fields import read_plan
from ristretto.errors import NetError
from ristretto.graph.build import Simulation
from ristretto.numerics.formats import Minifloat
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.runner import Runner


def net_text(quantization: str, size: int = 5, region: str = "ACROSS_CHANNELS") -> str:
    return f"""
    layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 9 dim: 3 dim: 4 }} }} }}
    layer {{ name: "n" type: "LRNRistretto" bottom: "x" top: "y"
      lrn_param {{ local_size: {size} alpha: 0.5 beta: 0.75 k: 1.5 norm_region: {region} }}
      quantization_param {{ {quantization} }} }}"""


def run(text: str, x: np.ndarray, rounding: Rounding) -> np.ndarray:
    net = build_net(parse(text, "lrn.prototxt"))
    runner = Runner(net, None, ["y"], simulation=Simulation(read_plan(net).layers, rounding))
    return runner.run({"x": x})[0]["y"]


def reference(x: np.ndarray, fmt: Minifloat, size: int, rounding: Rounding) -> np.ndarray:
    def trim(value: np.ndarray) -> np.ndarray:
        return fmt.quantize(np.asarray(value, np.float32), rounding)

    x = trim(x)
    channels, after = x.shape[1], size - (size - 1) // 2 - 1
    total = np.zeros_like(x[:, 0])
    result = np.zeros_like(x)
    for head in range(channels + after):
        if head < channels:
            total = trim(total + trim(x[:, head] * x[:, head]))
        if head - size >= 0:
            total = trim(total - trim(x[:, head - size] * x[:, head - size]))
        if head >= after:
            scale = trim(np.float32(1.5) + trim(np.float32(0.5 / size) * total))
            result[:, head - after] = trim(x[:, head - after] * trim(scale ** np.float32(-0.75)))
    return result


@pytest.mark.parametrize("size", [1, 3, 5, 7])
@pytest.mark.parametrize("fmt", [Minifloat(5, 4), Minifloat(6, 9), Minifloat(4, 2)], ids=str)
@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.HALF_AWAY], ids=lambda rounding: rounding.value)
def test_equals_loops(size: int, fmt: Minifloat, rounding: Rounding) -> None:
    x = np.random.default_rng(size).normal(0, 3, (2, 9, 3, 4)).astype(np.float32)
    quantization = f"precision: MINIFLOAT mant_bits: {fmt.mant_bits} exp_bits: {fmt.exp_bits}"
    result = run(net_text(quantization, size), x, rounding)
    expected = reference(x, fmt, size, rounding)
    # pow of onnxruntime and numpy may differ in the last bit of float32 and so, rarely, by one unit of the format
    differing = result != expected
    assert differing.mean() <= 0.01
    np.testing.assert_allclose(result, expected, rtol=2.0**-fmt.mant_bits, atol=0)


def test_complaints() -> None:
    x = np.zeros((2, 9, 3, 4), np.float32)
    with pytest.raises(NetError, match="layer 'n': an LRNRistretto layer knows minifloat only; set precision"):
        run(net_text("bw_layer_in: 8"), x, Rounding.HALF_EVEN)
    with pytest.raises(NetError, match="normalizes across channels only"):
        run(net_text("precision: MINIFLOAT", region="WITHIN_CHANNEL"), x, Rounding.HALF_EVEN)

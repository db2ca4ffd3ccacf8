"""Single quantized layers run by the original's CPU build, which rounds half away from zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.dialects.fields import read_formats
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.evaluate import NetOptions, run
from tests.golden.shared import SHARED, cases, needs_shared

pytestmark = needs_shared

FLOAT_ACTIVATIONS = {"q_fc_pow2", "q_conv_pow2"}
"""The original's CPU build leaves activations float in this mode, a fault that its documentation does not have."""


@pytest.mark.parametrize("arithmetic", [Arithmetic.FLOAT32, Arithmetic.FLOAT64], ids=lambda a: a.value)
@pytest.mark.parametrize("case", cases("golden/layers/q_*"), ids=lambda path: path.name)
def test_quantized_layer(case: Path, arithmetic: Arithmetic) -> None:
    """At 8 bits and below float32 is exact, so that float64 gives the same."""
    expected = np.load(case / "outputs.npz")
    options = NetOptions(
        case / "net.prototxt",
        (case / "net.caffemodel",),
        inputs=case / "inputs.npz",
        rounding=Rounding.HALF_AWAY,
        arithmetic=arithmetic,
    )
    values = run(options, tuple(expected.files))
    layer = next(layer for layer in build_net(read_prototxt(options.model)).layers if layer.type.endswith("Ristretto"))
    formats = read_formats(layer)
    used = [fmt for fmt in (formats.input, formats.output, formats.params) if fmt is not None]
    for blob in expected.files:
        assert values[blob].shape == expected[blob].shape
        assert values[blob].dtype == arithmetic.value
        if case.name in FLOAT_ACTIVATIONS:
            limit = 1e-4 * float(np.abs(expected[blob]).max())
        elif all(not isinstance(fmt, DynamicFixedPoint) or fmt.bw <= 8 for fmt in used):
            limit = 0.0
        else:
            assert isinstance(formats.output, DynamicFixedPoint)
            limit = formats.output.step
        np.testing.assert_allclose(values[blob], expected[blob], rtol=0, atol=limit)


@needs_shared
def test_half_even_differs_where_there_are_ties() -> None:
    """The check above can fail: with the GPU's rounding the same case gives other values."""
    case = SHARED / "golden/layers/q_conv_dfp888"
    options = NetOptions(case / "net.prototxt", (case / "net.caffemodel",), inputs=case / "inputs.npz")
    values = run(options)["y"]
    expected = np.load(case / "outputs.npz")["y"]
    differing = values != expected
    assert 0 < differing.mean() < 0.5
    assert np.abs(values - expected).max() == 2.0**-4

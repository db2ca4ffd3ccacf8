"""What is wrong inside a net is named where no output shows it; limits beyond float32 make no noise."""

from __future__ import annotations

import math
import warnings

import numpy as np
import onnx.numpy_helper as onnx_arrays
import pytest
from numpy.typing import NDArray

from ristretto.graph.nodes import NodeList
from tests.numbers.nets import NET, Place
from tests.numbers.test_lies import npz

INFINITE = "layer 'conv1' makes infinity of numbers (image 0 of batch 0), which no output shows"
LOGARITHM = """
layer { name: "log" type: "Log" bottom: "data" top: "log" }
layer { name: "exp" type: "Exp" bottom: "log" top: "exp" }
layer { name: "mean" type: "Reduction" bottom: "exp" top: "mean" reduction_param { operation: MEAN } }
"""


@pytest.fixture(autouse=True)
def no_bare_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def test_infinity_that_a_relu_hides(here: Place) -> None:
    assert here.quantize("--save_ranges", "ranges.json").status == 0
    assert not any("makes" in text for text in here.report()["warnings"])
    here.weights("conv1", 0, lambda blob: blob[3].fill(-3e38))
    assert here.test().status == 0
    assert INFINITE in here.report("t.json")["warnings"]
    refused = here.quantize()
    assert refused.status == 2
    assert "layer 'conv1': makes infinity of numbers (image 0 of batch 0, phase TRAIN)" in refused.message
    assert here.quantize("--ranges", "ranges.json").status == 0
    assert here.report()["warnings"].count(INFINITE) == 1
    looked = here.call("doctor", NET, "net.caffemodel")
    assert looked.status == 2
    assert "layer 'conv1': makes infinity of numbers (image " in looked.out
    assert "of the source), which no output shows: quantize refuses it" in looked.out


def test_infinity_that_no_range_is_measured_of_is_a_warning(here: Place) -> None:
    text = (here.folder / NET).read_text()
    (here.folder / NET).write_text(text + LOGARITHM)
    said = INFINITE.replace("conv1", "log")
    assert here.test().status == 0
    assert said in here.report("t.json")["warnings"]
    assert here.quantize().status == 0
    assert said in here.report()["warnings"]
    looked = here.call("doctor", NET, "net.caffemodel")
    assert looked.status == 0
    assert "layer 'log': makes infinity of numbers (image " in looked.out
    assert "quantize refuses it" not in looked.out


def test_a_sound_net_is_not_named(here: Place) -> None:
    assert here.test().status == 0
    assert here.report("t.json")["warnings"] == []


def scale(factor: float):
    def change(blob: NDArray[np.float32]) -> None:
        blob *= np.float32(factor)

    return change


def test_limits_beyond_float32(here: Place) -> None:
    here.weights("ip2", 0, scale(1e37))
    assert here.quantize().status == 0
    assert here.report()["combined"]["score"] > 0.9


def test_constants_within_float32() -> None:
    nodes = NodeList()
    nodes.floats((2.18e40, -1e300, math.inf, 1.5))
    greatest = np.finfo(np.float32).max
    np.testing.assert_array_equal(
        onnx_arrays.to_array(nodes.initializers[0]), np.float32([greatest, -greatest, math.inf, 1.5])
    )
    double = NodeList(double=True)
    double.floats(2.18e40)
    assert onnx_arrays.to_array(double.initializers[0]) == 2.18e40


def test_classes_without_images(here: Place) -> None:
    here.edit(('top: "accuracy"\n', 'top: "accuracy"\n  top: "classes"\n'))
    said = "a class has no image in 1 of 2 batches: each adds 0 to its own accuracy"
    labels = np.array([*range(10)] * 11)
    whole = npz(here, data=np.zeros((100, 1, 16, 16)), label=labels[:100])
    assert here.test(*whole, "--iterations", "all").status == 0
    assert not any("a class has no image" in text for text in here.report("t.json")["warnings"])
    labels[50:60] = 3
    some = npz(here, data=np.zeros((60, 1, 16, 16)), label=labels[:60])
    assert here.test(*some, "--iterations", "all").status == 0
    assert said in here.report("t.json")["warnings"]
    assert here.quantize(*some, "--iterations", "all").status == 0
    assert here.report()["warnings"].count(said) == 1


def test_classes_that_nobody_asks_for(here: Place) -> None:
    some = npz(here, data=np.zeros((5, 1, 16, 16)), label=np.full(5, 3))
    assert here.test(*some, "--iterations", "all").status == 0
    assert not any("a class has no image" in text for text in here.report("t.json")["warnings"])


@pytest.mark.parametrize("batches", [18, 19])
def test_ranges_of_more_images_than_there_are(here: Place, batches: int) -> None:
    """The TRAIN source holds 1197 images, in batches of 64."""
    assert here.quantize("--calibration_batches", batches).status == 0
    said = "1216 images were asked for to measure ranges on, the TRAIN source holds 1197: some were "
    assert sum(text.startswith(said) for text in here.report()["warnings"]) == (batches == 19)

"""Signs that a result is not to be trusted are told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import ristretto
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from ristretto.decide.choose import LayerRanges
from ristretto.decide.stats import TensorStats
from ristretto.errors import WeightsError
from ristretto.pipeline.calibrate import suspicious_ranges
from ristretto.pipeline.signs import duplicate_names
from tests.cli.runner import MODELS

LENET = MODELS / "digits_lenet"
GOOD = TensorStats(-1, 1)


def test_ranges_of_nothing_and_of_nan() -> None:
    dead, broken = TensorStats(0, 0), TensorStats(math.nan, math.nan)
    ranges = {"a": LayerRanges(GOOD, dead, GOOD), "b": LayerRanges(broken, GOOD, TensorStats(-math.inf, 1))}
    assert suspicious_ranges(ranges) == [
        "layer 'a': its output is all zero, so its format means nothing",
        "layer 'b': its input holds NaN or infinity",
        "layer 'b': its weights hold NaN or infinity",
    ]
    assert suspicious_ranges({"c": LayerRanges(GOOD, GOOD, GOOD)}) == []


def changed_weights(folder: Path, value: float) -> Path:
    """The shipped LeNet with all weights of its last layer set to one value."""
    layers = read_weights([LENET / "digits_lenet.caffemodel"]).layers
    path = folder / "changed.caffemodel"
    changed = [
        LayerWeights(layer.name, layer.type, tuple(np.full_like(blob, value) for blob in layer.blobs))
        if layer.name == "ip2"
        else layer
        for layer in layers
    ]
    write_caffemodel(path, "changed", changed)
    return path


def quantize(folder: Path, value: float) -> tuple[str, ...]:
    weights = changed_weights(folder, value)
    return ristretto.quantize(LENET / "train_val.prototxt", weights, iterations=1, data_root=MODELS).warnings


def test_a_dead_layer_and_scores_that_never_move(tmp_path: Path) -> None:
    warnings = quantize(tmp_path, 0.0)
    assert "layer 'ip2': its weights are all zero, so its format means nothing" in warnings
    assert "layer 'ip2': its output is all zero, so its format means nothing" in warnings
    assert any("scores are 0: does 'accuracy' depend on the net, and are labels right?" in each for each in warnings)


def test_nan_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="layer 'ip2': NaN in 640 of the 640 values of blob 0, as in 1 more"):
        quantize(tmp_path, math.nan)


def test_fields_that_nobody_knows_are_told_and_do_no_harm(tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    text = (LENET / "train_val.prototxt").read_text()
    changed = text.replace("kernel_size: 5", "kernel_size: 5 strides: 1", 1)
    net.write_text(changed)
    line = changed[: changed.index("strides")].count("\n") + 1
    result = ristretto.evaluate(net, LENET / "digits_lenet.caffemodel", None, data_root=MODELS)
    assert abs(result.scored.score - 0.985) < 1e-6
    assert result.warnings == (
        f"{net}:{line}: layer 'conv1': field 'strides' is not known and has no effect: is 'stride' meant?",
    )


def test_two_layers_of_one_name_are_told(tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    text = (LENET / "train_val.prototxt").read_text()
    twin = 'layer { name: "conv1" type: "Scale" bottom: "ip2" top: "twin" }\n'
    net.write_text(text + twin.replace("Scale", "PReLU"))
    spec = build_net(read_prototxt(net))
    (warning,) = duplicate_names(spec)
    assert warning.startswith("two layers are named 'conv1' (lines ")
    assert duplicate_names(build_net(read_prototxt(LENET / "train_val.prototxt"))) == []

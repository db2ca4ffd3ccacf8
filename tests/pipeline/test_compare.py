"""Two nets side by side: the error of each layer alone, and what has gathered up to it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ristretto
from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from ristretto.errors import RistrettoError
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.measures import sqnr_db
from ristretto.pipeline import compare as module
from ristretto.pipeline.compare import compare
from ristretto.pipeline.evaluate import NetOptions
from ristretto.pipeline.files import apply
from ristretto.pipeline.fold import fold
from ristretto.pipeline.watched import WatchedNet
from ristretto.report.comparison import Comparison, LayerComparison
from tests.cli.runner import MODELS

LENET = MODELS / "digits_lenet" / "train_val.prototxt", MODELS / "digits_lenet" / "digits_lenet.caffemodel"
RESNET = MODELS / "digits_resnet" / "train_val.prototxt", MODELS / "digits_resnet" / "digits_resnet.caffemodel"
Array = NDArray[Any]
Formats = dict[str, dict[str, Any]]

SMALL = """
name: "Small"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 12 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 10 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "r" }
layer { name: "b" type: "InnerProduct" bottom: "r" top: "b" inner_product_param { num_output: 6 } }
layer { name: "t" type: "TanH" bottom: "b" top: "b" }
"""
SMALL_FORMATS: Formats = {
    "a": {"in": {"bw": 7, "fl": 4}, "out": {"bw": 7, "fl": 4}, "params": {"bw": 8, "fl": 5}},
    "b": {"in": {"bw": 4, "fl": 1}, "out": {"bw": 6, "fl": 2}, "params": {"bw": 7, "fl": 4}},
}


def options(net: tuple[Path, Path], inputs: Path | None = None) -> NetOptions:
    return NetOptions(net[0], (net[1],), inputs=inputs, data_root=MODELS)


def with_formats(net: Path, folder: Path, formats: Formats) -> Path:
    """The net with formats written by hand."""
    (folder / "formats.json").write_text(json.dumps({"layers": formats}))
    assert apply(net, folder / "formats.json", folder / "quantized.prototxt").missing == ()
    return folder / "quantized.prototxt"


def rows(comparison: Comparison) -> dict[str, LayerComparison]:
    return {layer.name: layer for layer in comparison.layers}


def eight_bits(*names: str) -> Formats:
    values, wide = {"bw": 8, "fl": 4}, {"bw": 10, "fl": 4}
    return {name: {"in": values, "out": wide, "params": {"bw": 8, "fl": 6}} for name in names}


class Small:
    """A net of two inner products, its inputs, and what it computes, by numpy."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(3)

        def normal(*shape: int) -> Array:
            return rng.normal(size=shape).astype(np.float32)

        self.x = normal(10, 12)
        self.weights = {"a": (normal(10, 12) / 3, normal(10)), "b": (normal(6, 10) / 2, normal(6))}
        self.net = folder / "small.prototxt", folder / "small.caffemodel"
        self.inputs = folder / "x.npz"
        self.net[0].write_text(SMALL)
        self.write(self.net[1], self.weights)
        np.savez(self.inputs, x=self.x)
        self.options = options(self.net, self.inputs)

    def write(self, path: Path, weights: dict[str, tuple[Array, Array]]) -> None:
        write_caffemodel(path, "Small", [LayerWeights(n, "InnerProduct", blobs) for n, blobs in weights.items()])

    def product(self, name: str, bottom: Array, formats: dict[str, Any] | None = None) -> Array:
        weights, bias = self.weights[name]
        if formats is None:
            return bottom @ weights.T + bias
        rounded = {role: DynamicFixedPoint(**fmt) for role, fmt in formats.items()}
        params = rounded["params"]
        product = rounded["in"].quantize(bottom) @ params.quantize(weights).T + params.quantize(bias)
        return rounded["out"].quantize(product)


@pytest.mark.parametrize("net", [LENET, RESNET], ids=["lenet", "resnet"])
def test_equal_nets_have_no_error(net: tuple[Path, Path]) -> None:
    found = compare(options(net), net[0], images=60)
    assert found.images == 60
    assert len(found.layers) >= 10
    assert all(layer.own_db == layer.so_far_db == math.inf and layer.fall_db is None for layer in found.layers)
    assert (found.worst_own, found.steepest_fall) == (None, None)
    assert (found.only_first, found.only_second, found.warnings) == ((), (), ())
    assert {"digits", "loss", "accuracy"}.isdisjoint(rows(found))


@pytest.mark.parametrize("bad", ["conv1", "conv2", "ip1", "ip2"])
def test_a_layer_of_two_bit_weights_is_to_blame(tmp_path: Path, bad: str) -> None:
    formats = eight_bits("conv1", "conv2", "ip1", "ip2")
    found = compare(options(LENET), with_formats(LENET[0], tmp_path, formats), images=20)
    good = rows(found)[bad].own_db
    formats[bad]["params"] = {"bw": 2, "fl": 0}
    found = compare(options(LENET), with_formats(LENET[0], tmp_path, formats), images=20)
    assert found.worst_own is not None
    assert found.steepest_fall is not None
    assert found.worst_own.name == found.steepest_fall.name == bad
    assert found.worst_own.own_db < good - 10


def test_blame_in_a_net_with_branches(tmp_path: Path) -> None:
    convolutions = ["conv1", "res2a_branch2a", "res2a_branch2b", "res3a_branch1", "res3a_branch2a", "res3a_branch2b"]
    formats = eight_bits(*convolutions, "fc10")
    formats["res3a_branch1"]["params"] = {"bw": 2, "fl": 0}
    found = compare(options(RESNET), with_formats(RESNET[0], tmp_path, formats), images=20)
    assert found.worst_own is not None
    assert found.worst_own.name == "res3a_branch1"
    by_name = rows(found)
    # Its sister reads the same values, and has nothing of its error; the sum of both has.
    assert by_name["res3a_branch2b"].so_far_db > by_name["res3a_branch1"].so_far_db + 10
    fall = min(by_name["scale3a_branch1"].so_far_db, by_name["scale3a_branch2b"].so_far_db) - by_name["res3a"].so_far_db
    assert by_name["res3a"].fall_db == pytest.approx(fall)


def test_figures_equal_numpy(tmp_path: Path) -> None:
    small = Small(tmp_path)
    quantized = with_formats(small.net[0], tmp_path, SMALL_FORMATS)
    found = compare(small.options, quantized, images=100)
    assert found.images == 10
    by_name = rows(found)
    assert list(by_name) == ["a", "r", "b", "t"]

    a = small.product("a", small.x)
    r = np.maximum(a, 0)
    b = small.product("b", r)
    exact: dict[str, Array] = {"a": a, "r": r, "b": b, "t": np.tanh(b)}
    made: dict[str, Array] = {"a": small.product("a", small.x, SMALL_FORMATS["a"])}
    made["r"] = np.maximum(made["a"], 0)
    made["b"] = small.product("b", made["r"], SMALL_FORMATS["b"])
    made["t"] = np.tanh(made["b"])
    for name, layer in by_name.items():
        assert layer.so_far_db == pytest.approx(sqnr_db(exact[name], made[name]), abs=1e-3), name
        assert (layer.low, layer.high) == pytest.approx((exact[name].min(), exact[name].max()), rel=1e-5)
    assert by_name["a"].own_db == pytest.approx(by_name["a"].so_far_db)
    assert by_name["b"].own_db == pytest.approx(sqnr_db(b, small.product("b", r, SMALL_FORMATS["b"])), abs=1e-3)
    assert by_name["r"].own_db == by_name["t"].own_db == math.inf

    at_end = {name: DynamicFixedPoint(**SMALL_FORMATS[name]["out"]) for name in "ab"}
    for name, fmt in at_end.items():
        assert by_name[name].output_saturated == np.mean((made[name] == fmt.min) | (made[name] == fmt.max))
    # b's <4, 1> ends at 3.5; what a's output holds beyond that is cut off when b reads it.
    beyond = float(np.mean((made["r"] >= 3.5) | (made["r"] <= -4)))
    assert 0 < beyond < 0.5
    assert by_name["b"].input_saturated == beyond
    assert by_name["r"].input_saturated is by_name["r"].output_saturated is None


def test_figures_equal_blobs_of_the_library(tmp_path: Path) -> None:
    small = Small(tmp_path)
    quantized = with_formats(small.net[0], tmp_path, SMALL_FORMATS)
    by_name = rows(compare(small.options, quantized))
    exact = ristretto.run(*small.net, ["a", "r", "b"], inputs=small.inputs)
    later = ristretto.run(quantized, small.net[1], ["a", "r", "b"], inputs=small.inputs)
    assert by_name["a"].so_far_db == pytest.approx(sqnr_db(exact["a"], later["a"]), abs=1e-3)
    assert by_name["t"].so_far_db == pytest.approx(sqnr_db(exact["b"], later["b"]), abs=1e-3)
    # After the forward pass r holds what b rounded in place; what counts is what the ReLU made.
    assert by_name["r"].so_far_db > sqnr_db(exact["r"], later["r"]) + 3


def test_falls_are_measured_from_what_a_layer_reads(tmp_path: Path) -> None:
    small = Small(tmp_path)
    by_name = rows(compare(small.options, with_formats(small.net[0], tmp_path, SMALL_FORMATS)))
    usual = (by_name["a"].own_db + by_name["b"].own_db) / 2
    assert by_name["a"].fall_db == pytest.approx(usual - by_name["a"].so_far_db)
    for name, before in {"r": "a", "b": "r", "t": "b"}.items():
        assert by_name[name].fall_db == pytest.approx(by_name[before].so_far_db - by_name[name].so_far_db)


@pytest.mark.parametrize("size", [1, 3])
def test_sums_do_not_depend_on_how_many_images_are_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    small = Small(tmp_path)
    quantized = with_formats(small.net[0], tmp_path, SMALL_FORMATS)
    whole = compare(small.options, quantized, images=9)
    an_image = 2 * 4 * (12 + 10 + 10 + 6 + 6)
    monkeypatch.setattr(module, "BYTES_AT_ONCE", size * an_image)
    seen = []
    run = WatchedNet.run

    def counting(net: Any, batch: Any) -> Any:
        seen.append(len(batch["x"]))
        return run(net, batch)

    monkeypatch.setattr(WatchedNet, "run", counting)
    parts = compare(small.options, quantized, images=9)
    assert max(seen) == size
    assert sum(seen) == 2 * 9
    assert parts.images == whole.images == 9
    for part, layer in zip(parts.layers, whole.layers, strict=True):
        assert (part.own_db, part.so_far_db) == pytest.approx((layer.own_db, layer.so_far_db), abs=1e-3)
        assert (part.low, part.high) == pytest.approx((layer.low, layer.high), rel=1e-5)
        assert (part.input_saturated, part.output_saturated) == (layer.input_saturated, layer.output_saturated)


def test_other_weights_are_an_error_of_their_own_layer(tmp_path: Path) -> None:
    small = Small(tmp_path)
    weights, bias = small.weights["b"]
    small.write(tmp_path / "other.caffemodel", small.weights | {"b": (weights, bias + 1)})
    found = compare(small.options, small.net[0], (tmp_path / "other.caffemodel",))
    own = {layer.name: layer.own_db for layer in found.layers}
    b = small.product("b", np.maximum(small.product("a", small.x), 0))
    assert own == {"a": math.inf, "r": math.inf, "b": pytest.approx(sqnr_db(b, b + 1), abs=1e-3), "t": math.inf}
    assert found.steepest_fall is not None


def test_no_sign_before_a_relu_is_no_error_and_without_one_it_is(tmp_path: Path) -> None:
    small = Small(tmp_path)
    unsigned = {"bw": 16, "fl": 12, "signed": False}
    fine: dict[str, Any] = {"params": {"bw": 24, "fl": 20}, "in": {"bw": 24, "fl": 20}}
    formats = {"a": fine | {"out": unsigned}, "b": fine | {"out": unsigned}}
    by_name = rows(compare(small.options, with_formats(small.net[0], tmp_path, formats)))
    assert by_name["a"].low < -1
    assert 60 < by_name["a"].own_db < math.inf
    assert by_name["r"].so_far_db == pytest.approx(by_name["a"].so_far_db)
    assert by_name["b"].own_db < 10
    # Zeros at the lower end are what the values are, not what a format made of them.
    assert by_name["a"].output_saturated == 0


def test_folded_layers_are_compared_as_one(tmp_path: Path) -> None:
    folded = tmp_path / "f.prototxt", tmp_path / "f.caffemodel"
    fold(RESNET[0], (RESNET[1],), *folded)
    found = compare(options(RESNET), folded[0], (folded[1],), images=20)
    by_name = rows(found)
    assert by_name["conv1"].folded == ("bn_conv1", "scale_conv1")
    assert by_name["res3b"].folded == ()
    assert (found.only_first, found.only_second) == ((), ())
    assert all(layer.own_db > 100 and layer.so_far_db > 100 for layer in found.layers)
    assert by_name["conv1"].own_db < math.inf

    formats = eight_bits("conv1", "res2a_branch2b", "fc10")
    formats["res2a_branch2b"]["params"] = {"bw": 2, "fl": 0}
    found = compare(options(RESNET), with_formats(folded[0], tmp_path, formats), (folded[1],), images=20)
    assert found.worst_own is not None
    assert found.worst_own.name == "res2a_branch2b"


def test_layers_that_one_net_lacks_are_named(tmp_path: Path) -> None:
    small = Small(tmp_path)
    short = tmp_path / "short.prototxt"
    short.write_text(SMALL.replace('layer { name: "t" type: "TanH"', 'layer { name: "u" type: "TanH"'))
    found = compare(small.options, short)
    assert (found.only_first, found.only_second) == (("t",), ("u",))
    assert list(rows(found)) == ["a", "r", "b"]


def test_nan_is_no_number_and_no_blame(tmp_path: Path) -> None:
    small = Small(tmp_path)
    weights, bias = small.weights["b"]
    small.write(tmp_path / "nan.caffemodel", small.weights | {"b": (weights, bias * np.float32(math.nan))})
    found = compare(small.options, small.net[0], (tmp_path / "nan.caffemodel",))
    by_name = rows(found)
    assert math.isnan(by_name["b"].own_db)
    assert math.isnan(by_name["t"].so_far_db)
    assert (found.worst_own, found.steepest_fall) == (None, None)


def test_mistakes(tmp_path: Path) -> None:
    small = Small(tmp_path)
    other = tmp_path / "other.prototxt"

    def mistake(text: str, weights: tuple[Path, ...] = ()) -> str:
        other.write_text(text)
        with pytest.raises(RistrettoError) as caught:
            compare(small.options, other, weights)
        return str(caught.value).replace(f"{tmp_path}/", "")

    renamed = SMALL
    for name in "arbt":
        renamed = renamed.replace(f'{{ name: "{name}"', f'{{ name: "{name}2"')
    assert mistake(renamed).startswith("other.prototxt: the net has no layer in common with small.prototxt; ")
    wide = SMALL.replace("dim: 4 dim: 12", "dim: 4 dim: 13")
    shapes = "layer 'x': this net reads 'x' of shape [4, 13], small.prototxt is fed [4, 12]"
    assert mistake(wide).startswith(f"other.prototxt: {shapes}; ")
    blob = SMALL.replace('top: "x"', 'top: "y"').replace('bottom: "x"', 'bottom: "y"')
    assert "this net reads a blob 'y', small.prototxt reads x" in mistake(blob)
    small.write(
        tmp_path / "big.caffemodel", small.weights | {"b": (np.ones((7, 10), np.float32), np.ones(7, np.float32))}
    )
    more = mistake(SMALL.replace("num_output: 6", "num_output: 7"), (tmp_path / "big.caffemodel",))
    assert more.startswith("other.prototxt: layer 'b': its blob 'b@b' has shape [4, 7], in small.prototxt [4, 6]; ")
    with pytest.raises(RistrettoError, match="at least one image"):
        compare(small.options, small.net[0], images=0)


def test_weights_of_the_first_net_serve_both(tmp_path: Path) -> None:
    small = Small(tmp_path)
    quantized = with_formats(small.net[0], tmp_path, SMALL_FORMATS)
    alone = compare(small.options, quantized)
    assert alone == compare(small.options, quantized, (small.net[1],))
    assert [layer.name for layer in read_weights([small.net[1]]).layers] == ["a", "b"]

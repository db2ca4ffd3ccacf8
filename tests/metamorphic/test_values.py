"""Changes of data, batches and numbers whose effect on scores and formats is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ristretto
from ristretto.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from tests.metamorphic.outcome import MODES, applied, outcome, quantized, same, score, score_as
from tests.metamorphic.project import MODELS, NETS, Layer, Project, rewritten

IMAGES = 600

FORMATS: Mapping[str, Any] = {
    "conv1": {"in": {"bw": 8, "fl": 7}, "out": {"bw": 8, "fl": 5}, "params": {"bw": 8, "fl": 7}},
    "conv2": {"in": {"bw": 8, "fl": 5}, "out": {"bw": 8, "fl": 4}, "params": {"bw": 8, "fl": 7}},
    "ip1": {"in": {"bw": 8, "fl": 4}, "out": {"bw": 8, "fl": 4}, "params": {"bw": 8, "fl": 7}},
    "ip2": {"in": {"bw": 8, "fl": 4}, "out": {"bw": 8, "fl": 3}, "params": {"bw": 8, "fl": 7}},
}
"""Formats for the LeNet; its sums have fewer than 24 bits, so that float32 adds them up exactly in any order."""


@cache
def lenet() -> Project:
    return Project.of("digits_lenet")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All test images as the net reads them, with their labels."""
    model, weights = lenet().write(tmp_path_factory.mktemp("images"))
    read = [
        ristretto.run(model, weights, blobs=["data", "label"], batch=number, data_root=MODELS) for number in range(12)
    ]
    return {blob: np.concatenate([batch[blob] for batch in read]) for blob in ("data", "label")}


def save(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def with_batch_size(project: Project, size: int) -> Project:
    """The same net with other batches of test images."""

    def change(layer: Layer) -> Layer:
        tested = layer.type == "Data" and layer.phase == "TEST"
        return rewritten(layer, {r"batch_size: 50": f"batch_size: {size}"}) if tested else layer

    return project.mapped(change)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [25, 10, 120, 600, 7])
def test_other_batches(name: str, size: int, tmp_path: Path) -> None:
    """The same images in other batches; the last batch may hold fewer."""
    changed = with_batch_size(Project.of(name), size)
    first, second = (
        score(net, tmp_path / str(number), iterations="all") for number, net in enumerate((changed, Project.of(name)))
    )
    near(first, second)


def test_the_search_in_other_batches(tmp_path: Path) -> None:
    changed = with_batch_size(lenet(), 20)
    first = quantized(changed, tmp_path / "other", iterations=30)
    second = quantized(lenet(), tmp_path / "same", iterations=12)
    assert first.plan == second.plan
    near(first.combined.outputs, second.combined.outputs)


def near(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """The same means: each batch's accuracy is rounded to float32, so the last digits depend on the batches."""
    assert found.keys() == wanted.keys()
    for blob, values in wanted.items():
        np.testing.assert_allclose(found[blob], values, rtol=2e-6)
        if "accuracy" in blob:
            assert round(found[blob][0] * IMAGES) == round(values[0] * IMAGES)


@pytest.mark.parametrize("mode", MODES)
def test_images_in_another_order(mode: str, images: dict[str, Any], tmp_path: Path) -> None:
    order = np.random.default_rng(5).permutation(IMAGES)
    shuffled = save(tmp_path / "shuffled.npz", {blob: array[order] for blob, array in images.items()})
    straight = save(tmp_path / "straight.npz", images)
    # Ranges are measured on the first images, so that all have to be looked at.
    options = {"trimming_mode": mode, "calibration_batches": 12, "calibration_phase": "TEST"}
    first, second = (quantized(lenet(), tmp_path / path.stem, inputs=path, **options) for path in (straight, shuffled))
    assert first.plan == second.plan
    near(first.baseline.outputs, second.baseline.outputs)
    near(first.combined.outputs, second.combined.outputs)


def test_images_from_an_array_or_a_database(images: dict[str, Any], tmp_path: Path) -> None:
    straight = save(tmp_path / "straight.npz", images)
    found = score(lenet(), tmp_path / "array", inputs=straight)
    near(found, score(lenet(), tmp_path / "database"))


def test_images_twice(images: dict[str, Any], tmp_path: Path) -> None:
    """Every image twice has the mean of every image once."""
    twice = save(tmp_path / "twice.npz", {blob: np.repeat(array, 2, axis=0) for blob, array in images.items()})
    near(score(lenet(), tmp_path / "twice", inputs=twice), score(lenet(), tmp_path / "once"))


@pytest.mark.parametrize("rule", ["max", "squared_error", "percentile"])
def test_twice_the_input_and_half_the_weights(rule: str, tmp_path: Path) -> None:
    """A factor of two moves to the other side: each format moves by one bit, and nothing else changes."""
    net = lenet()
    conv = net.layer("conv1")
    doubled = net.mapped(
        lambda layer: rewritten(layer, {r"scale: 0\.00390625": "scale: 0.0078125"}) if layer.type == "Data" else layer
    ).changed("conv1", lambda layer: replace(layer, blobs=(conv.blobs[0] / 2, conv.blobs[1])))
    first, second = (
        quantized(each, tmp_path / str(number), range_rule=rule) for number, each in enumerate((net, doubled))
    )
    assert second.baseline.outputs == first.baseline.outputs
    assert outcome(second).trials == outcome(first).trials
    assert second.combined.outputs == first.combined.outputs
    for name, formats in first.plan.layers.items():
        moved = second.plan.layers[name]
        if name != "conv1":
            assert moved == formats
            continue
        assert lengths(moved) == {"input": lengths(formats)["input"] - 1, "params": lengths(formats)["params"] + 1}
        assert (moved.output, moved.bias) == (formats.output, formats.bias)


def lengths(formats: LayerFormats) -> dict[str, int]:
    """The fractional lengths of what a layer reads and of its weights."""
    found = {"input": formats.input, "params": formats.params}
    assert all(isinstance(fmt, DynamicFixedPoint) for fmt in found.values())
    return {role: fmt.fl for role, fmt in found.items() if isinstance(fmt, DynamicFixedPoint)}


@pytest.mark.parametrize("arithmetic", ["float32", "integer"])
def test_channels_in_another_order(arithmetic: str, tmp_path: Path) -> None:
    """Sums of quantized values are exact, so that the order of channels does not matter to the last bit."""
    net = lenet()
    order = np.random.default_rng(1).permutation(16)
    first, second = net.layer("conv1"), net.layer("conv2")
    changed = net.changed(
        "conv1", lambda layer: replace(layer, blobs=tuple(blob[order] for blob in first.blobs))
    ).changed("conv2", lambda layer: replace(layer, blobs=(second.blobs[0][:, order], second.blobs[1])))
    found = score_as(changed, FORMATS, tmp_path / "changed", arithmetic=arithmetic)
    same(found, score_as(net, FORMATS, tmp_path / "net", arithmetic=arithmetic))


@pytest.mark.parametrize("arithmetic", ["float32", "integer"])
def test_a_group_or_two_layers(arithmetic: str, tmp_path: Path) -> None:
    """A convolution of two groups is two convolutions side by side."""
    net = lenet()
    conv = net.layer("conv2")
    weights, bias = conv.blobs
    grouped = rewritten(replace(conv, blobs=(weights[:, :8], bias)), {r"num_output: 32": "num_output: 32 group: 2"})
    halves = [
        replace(
            rewritten(conv, {r"num_output: 32": "num_output: 16"}),
            name=f"half{number}",
            bottoms=(f"half{number}_in",),
            tops=(f"half{number}",),
            blobs=(weights[16 * number : 16 * number + 16, :8], bias[16 * number : 16 * number + 16]),
        )
        for number in range(2)
    ]
    cut = Layer("cut", "Slice", ("pool1",), ("half0_in", "half1_in"), ("slice_param { axis: 1 }",))
    joined = Layer("join", "Concat", ("half0", "half1"), ("conv2",))
    one = net.replaced("conv2", grouped)
    two = net.replaced("conv2", cut, *halves, joined)
    split = {**{name: each for name, each in FORMATS.items() if name != "conv2"}}
    split |= {"half0": FORMATS["conv2"], "half1": FORMATS["conv2"]}
    same(score(two, tmp_path / "two"), score(one, tmp_path / "one"))
    found = score_as(two, split, tmp_path / "quantized two", arithmetic=arithmetic)
    same(found, score_as(one, FORMATS, tmp_path / "quantized one", arithmetic=arithmetic))


@pytest.mark.parametrize("name", NETS)
def test_folding_changes_no_answer(name: str, tmp_path: Path) -> None:
    model, weights = Project.of(name).write(tmp_path)
    ristretto.fold(model, weights, tmp_path / "folded.prototxt", tmp_path / "folded.caffemodel")
    found = ristretto.evaluate(
        tmp_path / "folded.prototxt", tmp_path / "folded.caffemodel", iterations="all", data_root=MODELS
    ).scored.outputs
    wanted = score(Project.of(name), tmp_path / "net", iterations="all")
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-4)
    assert found["accuracy"] == wanted["accuracy"]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mode", MODES)
def test_values_on_a_grid_stay(name: str, mode: str, tmp_path: Path) -> None:
    """Weights that were quantized once are quantized to themselves; formats are written again as they were."""
    net = Project.of(name)
    report = quantized(net, tmp_path / "net", trimming_mode=mode, ladder=(8, 6), error_margin=100)
    model, _ = net.write(tmp_path / "again")
    quantized_prototxt = tmp_path / "net" / "quantized.prototxt"
    ristretto.apply(model, report, tmp_path / "applied.prototxt")
    assert (tmp_path / "applied.prototxt").read_bytes() == quantized_prototxt.read_bytes()
    ristretto.apply(tmp_path / "applied.prototxt", report, tmp_path / "twice.prototxt")
    assert (tmp_path / "twice.prototxt").read_bytes() == quantized_prototxt.read_bytes()

    def rounded(layer: Layer) -> Layer:
        formats = report.plan.layers.get(layer.name)
        if formats is None or formats.params is None:
            return layer
        return replace(layer, blobs=(formats.params.quantize(layer.blobs[0]).astype(np.float32), *layer.blobs[1:]))

    once = net.mapped(rounded)
    pairs = [(a.blobs[0], b.blobs[0]) for a, b in zip(net.layers, once.layers, strict=True) if a.blobs]
    assert not all(np.array_equal(*pair) for pair in pairs)
    same(score_as(once, report, tmp_path / "once"), report.combined.outputs)
    twice = once.mapped(rounded)
    for first, second in zip(once.layers, twice.layers, strict=True):
        assert all(map(np.array_equal, first.blobs, second.blobs))


def test_more_bits_never_make_a_layer_worse(tmp_path: Path) -> None:
    """One bit more, at the same integer length, is a grid that holds the coarser one: no value gets farther away.

    So for every value, and for all together: what rounding a layer's input, output or weights loses never rises.
    """
    model, weights = lenet().write(tmp_path)
    values = {"in": ristretto.run(model, weights, blobs=["data"], data_root=MODELS)["data"]}
    values["out"] = np.maximum(ristretto.run(model, weights, blobs=["conv1"], data_root=MODELS)["conv1"], 0)
    values["params"] = lenet().layer("conv1").blobs[0]
    for role, il in (("in", 1), ("out", 3), ("params", 1)):
        lost = []
        for bw in range(2, 15):
            if role == "params":
                made = DynamicFixedPoint(bw, bw - il).quantize(values[role])
            else:
                path = applied(model, {"conv1": {role: {"bw": bw, "fl": bw - il}}}, tmp_path)
                blob = {"in": "data", "out": "conv1"}[role]
                made = ristretto.run(path, weights, blobs=[blob], data_root=MODELS)[blob]
            lost.append(np.abs(made - values[role]))
        assert lost[0].max() > 0, role
        for wider, narrower in zip(lost[1:], lost, strict=False):
            assert (wider <= narrower).all(), role


def test_more_bits_never_make_the_compared_layer_worse(tmp_path: Path) -> None:
    """The same as ``compare`` says it: the noise that a layer itself adds, by the width of its output."""
    model, weights = lenet().write(tmp_path)
    for layer in ("conv2", "ip1"):
        found = []
        for bw in (4, 5, 6, 7, 9, 12):
            path = applied(model, {layer: {"out": {"bw": bw, "fl": bw - 6}}}, tmp_path)
            compared = ristretto.compare(model, weights, path, data_root=MODELS, images=32)
            found.append(next(each.own_db for each in compared.layers if each.name == layer))
        assert found == sorted(found)
        assert found[-1] > found[0] + 20


@pytest.mark.parametrize("name", NETS)
def test_32_bits_are_float(name: str, tmp_path: Path) -> None:
    report = quantized(Project.of(name), tmp_path, bw_conv_params=32, bw_fc_params=32, bw_activations=32)
    np.testing.assert_allclose(report.combined.outputs["loss"], report.baseline.outputs["loss"], rtol=1e-5)
    assert report.combined.score == report.baseline.score

"""What a net computes does not depend on how it is written: names, order, blobs, files, layers that do nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ristretto
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import LayerWeights, write_caffemodel
from tests.metamorphic.outcome import MODES, iterations_of, outcome, quantized, same, score, score_as
from tests.metamorphic.project import MODELS, NETS, Layer, Project, own_blobs, renamed, reordered

PLAIN = {"Power": "power_param { power: 1 scale: 1 shift: 0 }", "ReLU": "relu_param { negative_slope: 1 }"}
PLAIN |= {"Reshape": "reshape_param { shape { dim: 0 } num_axes: 1 }"}
PLAIN |= dict.fromkeys(("Dropout", "Split", "Concat", "Slice"), "")
"""Layers that do nothing, with their fields."""

KINDS = (*PLAIN, "Scale", "Bias", "PReLU", "in place", "Silence")


@cache
def of(name: str) -> Project:
    return Project.of(name)


@cache
def float_scores(name: str) -> dict[str, tuple[float, ...]]:
    with TemporaryDirectory() as folder:
        return score(of(name), Path(folder))


@cache
def reports(name: str, mode: str) -> ristretto.Report:
    with TemporaryDirectory() as folder:
        return quantized(of(name), Path(folder), trimming_mode=mode)


def noop(kind: str, number: int, project: Project) -> Project:
    """A layer that does nothing behind the layer with a number."""
    if kind in PLAIN:
        return project.between(number, kind, PLAIN[kind])
    if kind == "in place":
        return project.between(number, "Dropout", in_place=True)
    if kind == "Silence":
        return project.with_layers(number + 1, Layer("noop", "Silence", project.layers[number].tops[:1], ()))
    ones, zeros = (np.full(channels_of(project, number), value, np.float32) for value in (1, 0))
    blobs = {"Scale": (ones, zeros), "Bias": (zeros,), "PReLU": (ones,)}[kind]
    changed = project.between(number, kind, "scale_param { bias_term: true }" if kind == "Scale" else "")
    return changed.changed(f"noop{number}", lambda new: replace(new, blobs=blobs))


def channels_of(project: Project, number: int) -> int:
    """The channels of the first top of a layer."""
    blob = project.layers[number].tops[0]
    for layer in reversed(project.layers[: number + 1]):
        if layer.tops and layer.tops[0] == blob:
            if layer.type in ("Convolution", "InnerProduct"):
                return int(layer.blobs[0].shape[0])
            if not layer.bottoms:
                return 1
            blob = layer.bottoms[0]
    raise AssertionError(blob)


def places(project: Project) -> list[int]:
    """The layers behind which a layer may be put that makes no difference: all whose top another reads as numbers."""
    return [n for n, layer in enumerate(project.layers) if layer.type not in ("Accuracy", "SoftmaxWithLoss", "Data")]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_does_nothing(name: str, kind: str, tmp_path: Path) -> None:
    net = of(name)
    number = Random(f"{name} {kind}").choice(places(net))
    changed = noop(kind, number, net)
    assert len(changed.layers) == len(net.layers) + 1
    same(score(changed, tmp_path / "float"), float_scores(name))
    for mode in MODES:
        report = reports(name, mode)
        same(score_as(changed, report, tmp_path / mode), report.combined.outputs)


@pytest.mark.parametrize("kind", ["Dropout", "Split", "Reshape", "Concat", "in place", "Silence"])
def test_the_search_sees_through_it(kind: str, tmp_path: Path) -> None:
    net = of("digits_lenet")
    changed = noop(kind, net.at("relu2"), net)
    calibrated: dict[str, Any] = {"calibration_phase": "TEST"}  # in TRAIN a Dropout does something
    report, wanted = (quantized(each, tmp_path / each.layers[-1].name, **calibrated) for each in (changed, net))
    assert outcome(report) == outcome(wanted)


@pytest.mark.parametrize("name", NETS)
def test_other_names(name: str, tmp_path: Path) -> None:
    back: dict[str, str] = {}

    def new_name(layer: str) -> str:
        new = f"µ/{layer[::-1]} {len(layer)}"
        back[new] = layer
        return new

    changed = renamed(of(name), new_name, lambda blob: blob if blob == "label" else f"blob of {blob}")
    report = quantized(changed, tmp_path, score="blob of accuracy")
    assert outcome(report, back.__getitem__) == outcome(reports(name, "dynamic_fixed_point"))
    wanted = {f"blob of {blob}": values for blob, values in float_scores(name).items()}
    same(report.baseline.outputs, wanted)


@pytest.mark.parametrize("name", NETS)
def test_another_order(name: str, tmp_path: Path) -> None:
    rng = Random(name)
    changed = reordered(of(name), rng.randrange)
    assert changed != of(name)
    report = quantized(changed, tmp_path)
    assert outcome(report) == outcome(reports(name, "dynamic_fixed_point"))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mode", MODES)
def test_in_place_or_not(name: str, mode: str, tmp_path: Path) -> None:
    changed = own_blobs(of(name))
    assert not any(layer.in_place for layer in changed.layers)
    report = quantized(changed, tmp_path, trimming_mode=mode)
    assert outcome(report) == outcome(reports(name, mode))
    same(report.baseline.outputs, float_scores(name))


@pytest.mark.parametrize("name", NETS)
def test_weights_in_another_file(name: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    net = of(name)
    model, weights = net.write(tmp_path)
    with h5py.File(tmp_path / "net.caffemodel.h5", "w") as file:
        data = file.create_group("data")
        for layer in net.layers:
            for number, blob in enumerate(layer.blobs):
                data.require_group(layer.name).create_dataset(str(number), data=blob)
    halves = [tmp_path / "first.caffemodel", tmp_path / "second.caffemodel"]
    for half, layers in zip(halves, (net.layers[::2], net.layers[1::2]), strict=True):
        write_caffemodel(half, "", [LayerWeights(each.name, each.type, each.blobs) for each in layers])
    for files in ([tmp_path / "net.caffemodel.h5"], halves, [weights, *halves]):
        found = ristretto.evaluate(model, files, iterations=iterations_of(net), data_root=MODELS)
        assert found.scored.outputs == float_scores(name)


def shuffled_fields(text: str) -> str:
    """The fields of each layer in another order, all on a line, with comments and separators."""
    layers = re.findall(r"^layer \{\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL)
    rng = Random(7)
    written = []
    for body in layers:
        document = fields_of(body)
        ends = [field for field in document if field.startswith(("bottom", "top", "param "))]
        rest = [field for field in document if field not in ends]
        rng.shuffle(rest)
        written.append("layer:{" + "; ".join([*rest, *ends]).replace("\n", " ") + "} # {")
    return "\n".join(["# upside down", *written])


def fields_of(body: str) -> list[str]:
    document = parse(re.sub(r"#.*", "", body))
    return [document.text[field.start : field.end] for field in document.root.fields]


@pytest.mark.parametrize("name", NETS)
def test_another_writing(name: str, tmp_path: Path) -> None:
    net = of(name)
    text = shuffled_fields(net.text())
    model, weights = net.write(tmp_path, text)
    found = ristretto.evaluate(model, weights, iterations=iterations_of(net), data_root=MODELS)
    assert found.scored.outputs == float_scores(name)
    report = reports(name, "dynamic_fixed_point")
    ristretto.apply(model, report, tmp_path / "quantized.prototxt")
    options: dict[str, Any] = {"iterations": iterations_of(net), "data_root": MODELS}
    again = ristretto.evaluate(tmp_path / "quantized.prototxt", weights, **options)
    assert again.scored.outputs == report.combined.outputs


V1 = {
    "Data": "DATA", "Convolution": "CONVOLUTION", "InnerProduct": "INNER_PRODUCT", "ReLU": "RELU", "Pooling": "POOLING",
    "Dropout": "DROPOUT", "Accuracy": "ACCURACY", "SoftmaxWithLoss": "SOFTMAX_LOSS",
}  # fmt: skip


def as_v1(project: Project) -> str:
    """The net as Caffe wrote nets in 2014."""

    def field(text: str) -> str:
        rate = re.fullmatch(r"param\s*\{\s*lr_mult:\s*(\S+)\s+decay_mult:\s*(\S+)\s*\}", text)
        return f"blobs_lr: {rate[1]} weight_decay: {rate[2]}" if rate else text

    layers = []
    for layer in project.layers:
        ends = [*(f'bottom: "{b}"' for b in layer.bottoms), *(f'top: "{t}"' for t in layer.tops)]
        fields = [f'name: "{layer.name}"', f"type: {V1[layer.type]}", *ends, *map(field, layer.rest)]
        layers.append("layers {\n" + "\n".join(fields) + "\n}\n")
    return "".join(layers)


def test_the_old_form(tmp_path: Path) -> None:
    net = of("digits_lenet")
    model, weights = net.write(tmp_path, as_v1(net))
    ristretto.upgrade(model, tmp_path / "upgraded.prototxt")
    for written in (model, tmp_path / "upgraded.prototxt"):
        found = ristretto.evaluate(written, weights, iterations="all", data_root=MODELS)
        assert found.scored.outputs == float_scores("digits_lenet")
    report = ristretto.quantize(
        model, weights, model_quantized=tmp_path / "q", iterations="all", data_root=MODELS, error_margin=1,
        calibration_batches=2,
    )  # fmt: skip
    assert outcome(report) == outcome(reports("digits_lenet", "dynamic_fixed_point"))


def test_shared_blobs_or_copies(tmp_path: Path) -> None:
    """The same convolution twice, once with the weights of the other by name and once with a copy of them."""
    net = of("digits_lenet")
    conv = net.layer("conv1")

    def twice(second: Layer, first: Layer) -> Project:
        greater = Layer("both", "Eltwise", ("conv1", "twin"), ("greater",), ("eltwise_param { operation: MAX }",))
        changed = net.replaced("conv1", first, second, greater)
        layers = []
        for number, layer in enumerate(changed.layers):
            later = number > changed.at("both")
            bottoms, tops = (
                tuple("greater" if later and blob == "conv1" else blob for blob in end)
                for end in (layer.bottoms, layer.tops)
            )
            layers.append(replace(layer, bottoms=bottoms, tops=tops))
        return Project(tuple(layers))

    plain = tuple(field for field in conv.rest if not field.startswith("param"))
    names = ('param { name: "w" }', 'param { name: "b" }')
    twin = replace(conv, name="twin", tops=("twin",), rest=plain)
    copied = twice(twin, replace(conv, rest=plain))
    shared = twice(replace(twin, rest=(*plain, *names), blobs=()), replace(conv, rest=(*plain, *names)))
    wanted = score(copied, tmp_path / "copied")
    assert score(shared, tmp_path / "shared") == wanted
    same(wanted, float_scores("digits_lenet"))
    first, second = (quantized(net, tmp_path / f"q{number}") for number, net in enumerate((copied, shared)))
    assert outcome(first) == outcome(second)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_several_at_once(data: st.DataObject) -> None:
    """Any of these changes after any other, in any place: the float net and a quantized one keep their scores."""
    name = data.draw(st.sampled_from(NETS))
    mode = data.draw(st.sampled_from(MODES))
    project = of(name)
    steps: list[tuple[str, Callable[[Project], Project]]] = [
        ("own blobs", own_blobs),
        ("order", lambda net: reordered(net, Random(data.draw(st.integers(0, 999))).randrange)),
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from((*KINDS, "own blobs", "order")))
        if kind in dict(steps):
            project = dict(steps)[kind](project)
            continue
        number = data.draw(st.sampled_from(places(project)))
        if project.layers[number].name.startswith("noop") or any(
            layer.name == f"noop{number}" for layer in project.layers
        ):
            continue
        project = noop(kind, number, project)
    with TemporaryDirectory() as folder:
        same(score(project, Path(folder)), float_scores(name))
        report = reports(name, mode)
        same(score_as(project, report, Path(folder)), report.combined.outputs)

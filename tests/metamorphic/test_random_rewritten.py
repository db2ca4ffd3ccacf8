"""The same net written otherwise: random nets, every kind of number format, float32 and integers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ristretto
from ristretto.formats import FixedPoint, LayerFormats
from tests.metamorphic import rewrites
from tests.metamorphic.nets import Files, SmallNet, caffemodel, quantizable
from tests.metamorphic.relation import MODES, Outcome, check_same, close, compare, computed, quantized, scores_of
from tests.metamorphic.test_no_ops import SEEDS, quiet


@dataclass(frozen=True)
class Rewritten:
    """A net, what is called what in it, and whether the default rules have to choose the same formats."""

    net: SmallNet
    layers: Mapping[str, str] = field(default_factory=dict)
    blobs: Mapping[str, str] = field(default_factory=dict)
    formats: bool = True


def renamed(net: SmallNet, chance: random.Random) -> Rewritten:
    return Rewritten(*rewrites.renamed(net, chance))


def reordered(net: SmallNet, chance: random.Random) -> Rewritten:
    """The operand of a sum that is made last is added from the accumulator: which one that is depends on the order."""
    return Rewritten(rewrites.reordered(net, chance), formats=not any(layer.type == "Eltwise" for layer in net.layers))


def permuted_images(net: SmallNet, chance: random.Random) -> Rewritten:
    order = list(range(len(net.feeds["data"])))
    chance.shuffle(order)
    return Rewritten(replace(net, feeds={blob: array[order] for blob, array in net.feeds.items()}))


REWRITES: Mapping[str, Callable[[SmallNet, random.Random], Rewritten]] = {
    "renamed": renamed,
    "reordered": reordered,
    "own blobs": lambda net, _: Rewritten(rewrites.with_own_blobs(net)),
    "in place": lambda net, _: Rewritten(rewrites.in_place(net)),
    "rows for columns": lambda net, _: Rewritten(rewrites.transposed(net)),
    "images in another order": permuted_images,
}


def check(kind: str, seed: int, mode: str, folder: Path) -> None:
    net, chance = quantizable(seed), random.Random(seed)
    made = REWRITES[kind](net, chance)
    if made.formats or mode == "original":
        score = made.blobs.get("accuracy", "accuracy")
        means = close(2e-6)  # of the images, which float32 adds up in their order
        check_same(net, made.net, folder, mode, layers=made.layers, blobs=made.blobs, score=score, same=means)


@pytest.mark.parametrize(("kind", "mode"), [(kind, list(MODES)[n % len(MODES)]) for n, kind in enumerate(REWRITES)])
def test_random_nets(kind: str, mode: str, tmp_path: Path) -> None:
    @settings(quiet, max_examples=1)
    @given(SEEDS)
    def run(seed: int) -> None:
        check(kind, seed, mode, tmp_path)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", REWRITES)
def test_many_random_nets(kind: str, tmp_path: Path) -> None:
    @settings(quiet, max_examples=6)
    @given(SEEDS, st.sampled_from(list(MODES)))
    def run(seed: int, mode: str) -> None:
        check(kind, seed, mode, tmp_path)

    run()


def test_another_writing(tmp_path: Path) -> None:
    """Comments, white space and the order of fields."""

    @settings(quiet, max_examples=4)
    @given(SEEDS)
    def run(seed: int) -> None:
        net = quantizable(seed)
        files = net.write(tmp_path / "net")
        wanted = computed(files)
        files.model.write_text(rewrites.other_text(net, random.Random(seed)), newline="")
        compare(wanted, computed(files))

    run()


@pytest.mark.parametrize("factor", [2.0, 0.5, 16.0])
def test_other_units(factor: float, tmp_path: Path) -> None:
    """Twice the input and half the weights: lengths move by one, and no result moves at all."""
    net, bits = quantizable(7), int(np.log2(factor))
    first = next(layer for layer in net.layers if "data" in layer.bottoms)
    outcomes = []
    for name, each in (("one", net), ("other", rewrites.rescaled(net, factor))):
        outcomes.append(quantized(each.write(tmp_path / name), tmp_path / name, "recommended"))
    one, other = outcomes
    for name, found in one.formats.items():
        wanted = found
        if name == first.name:
            assert isinstance(found.input, FixedPoint)
            assert isinstance(found.params, FixedPoint)
            moved = replace(found.input, fl=found.input.fl - bits), replace(found.params, fl=found.params.fl + bits)
            wanted = replace(found, input=moved[0], params=moved[1])
        assert other.formats[name] == wanted, name
    check_equal(one, other)


def check_equal(one: Outcome, other: Outcome) -> None:
    compare(one.baseline, other.baseline)
    compare(one.combined, other.combined)
    for arithmetic, scored in one.tests.items():
        compare(scored, other.tests[arithmetic])


@pytest.mark.parametrize("mode", ["recommended", "powers of two"])
def test_shared_weights_or_copies(mode: str, tmp_path: Path) -> None:
    shared, copies = (rewrites.siamese(5, shared=shared) for shared in (True, False))
    check_same(copies, shared, tmp_path, mode)
    files = shared.write(tmp_path / "owners")
    wanted = computed(files)
    files.weights.write_bytes(rewrites.owners_only(shared))
    assert len(files.weights.read_bytes()) < len(caffemodel(shared.layers))
    compare(wanted, computed(files))


@pytest.mark.parametrize("arithmetic", ["float32", "integer", "float64"])
def test_a_group_or_layers(arithmetic: str, tmp_path: Path) -> None:
    """A convolution in groups is a convolution for each group."""
    whole, parts = (net.write(tmp_path / str(n)) for n, net in enumerate(rewrites.in_groups(3)))
    formats = LayerFormats(FixedPoint(8, 5), FixedPoint(8, 4), FixedPoint(8, 7), FixedPoint(16, 12))
    results = []
    for files, names in ((whole, ["conv"]), (parts, ["conv0", "conv1"])):
        path = files.model.with_name("q.prototxt")
        ristretto.apply(files.model, dict.fromkeys(names, formats), path)
        results.append(computed(Files(path, files.weights, files.inputs), arithmetic=arithmetic))
        plain = computed(files, arithmetic="float64")
        np.testing.assert_allclose(plain["y"], results[-1]["y"], rtol=0, atol=0.5)
    compare(*results)


def test_hdf5_or_binary(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    net = quantizable(11)
    files = net.write(tmp_path)
    path = tmp_path / "net.caffemodel.h5"
    with h5py.File(path, "w") as stored:
        for layer in net.layers:
            for number, blob in enumerate(layer.blobs):
                stored[f"data/{layer.name}/{number}"] = blob
    wanted = quantized(files, tmp_path / "one", "recommended")
    found = quantized(Files(files.model, path, files.inputs), tmp_path / "other", "recommended")
    assert found.formats == wanted.formats
    check_equal(wanted, found)


def test_batches(tmp_path: Path) -> None:
    """The same images in batches of another size: means of means, rounded in float32 otherwise."""
    net = quantizable(13)
    files = net.write(tmp_path)
    wanted = quantized(files, tmp_path, "recommended", iterations="all")
    text = files.model.read_text()
    for size in (6, 1):
        files.model.write_text(re.sub(r"shape \{ dim: \d+", f"shape {{ dim: {size}", text))
        batches = {"iterations": 12 // size, "calibration_batches": 12 // size}
        found = quantized(files, tmp_path / str(size), "recommended", **batches)
        assert found.formats == wanted.formats
        compare(wanted.combined, found.combined, None, close(1e-6))
        compare(scores_of(files, 12 // size), wanted.baseline, None, close(1e-6))

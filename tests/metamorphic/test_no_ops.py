"""A layer that hands on what it reads changes nothing, wherever it is put.

In formats the results are the same to the last bit. The float net's may differ in the last bit of float32, since
onnxruntime joins other layers where there is one more. Layers that only move values leave the chosen formats as they
are, too. Those that compute leave them with ``preset original``; by default a result with which anything is computed is
kept wide until it is stored, so formats differ there by design: then those of the one net are applied to the other.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ristretto
from tests.layers.test_random_nets import nets
from tests.metamorphic.nets import Files, SmallNet, digits, of_random, quantizable
from tests.metamorphic.no_ops import (
    COMPUTING,
    MOVING,
    NO_OPS,
    anywhere,
    by_channel,
    places,
    rectified_twice,
    with_no_op,
)
from tests.metamorphic.relation import MODES, check_same, close, compare, computed, quantized, scores_of

quiet = settings(
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SEEDS = st.integers(0, 2**32)


def with_all(net: SmallNet, kinds: list[str]) -> SmallNet:
    """One layer of each kind, each behind another blob than the one before."""
    for number, kind in enumerate(kinds):
        spots = places(net)
        turned = spots[number % len(spots) :] + spots[: number % len(spots)]
        made = (with_no_op(net, kind, blob, mark=f" {number}") for blob in turned)
        net = next(changed for changed in made if changed is not None)
    return net


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_one_of_each_kind(name: str, tmp_path: Path) -> None:
    """All kinds in one net of those that come with the project: the original's rules choose the same formats."""
    net = digits(name)
    changed = with_all(net, list(NO_OPS))
    assert len(changed.layers) >= len(net.layers) + len(NO_OPS)
    check_same(net, changed, tmp_path, "original", same=close(1e-6))


def check_applied(net: SmallNet, changed: SmallNet, folder: Path, mode: str) -> None:
    """The formats of one net, written into the other by ``apply``, compute the same."""
    one, other = (each.write(folder / name) for name, each in (("one", net), ("other", changed)))
    outcome = quantized(one, folder / "one", mode)
    path = folder / "applied.prototxt"
    ristretto.apply(other.model, outcome.formats, path)
    for arithmetic, scored in outcome.tests.items():
        compare(scored, scores_of(Files(path, other.weights, other.inputs), arithmetic=arithmetic))


def check_anywhere(seed: int, mode: str, folder: Path) -> None:
    net, chance = quantizable(seed), random.Random(seed)
    _, changed = anywhere(net, chance, list(MOVING))
    check_same(net, changed, folder, mode)
    _, changed = anywhere(net, chance, list(COMPUTING))
    if mode == "original":
        check_same(net, changed, folder, mode)
    else:
        check_applied(net, changed, folder, mode)


@pytest.mark.parametrize("mode", MODES)
def test_in_random_nets(mode: str, tmp_path: Path) -> None:
    @settings(quiet, max_examples=1)
    @given(SEEDS)
    def run(seed: int) -> None:
        check_anywhere(seed, mode, tmp_path)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_in_many_random_nets(mode: str, tmp_path: Path) -> None:
    @settings(quiet, max_examples=6)
    @given(SEEDS)
    def run(seed: int) -> None:
        check_anywhere(seed, mode, tmp_path)

    run()


def check_any_layers(net: SmallNet, chance: random.Random, folder: Path) -> None:
    """A net of any layer types in float: all that the changed net computes, bit for bit or nearly."""
    if not places(net):
        return
    kinds = list(NO_OPS)
    _, changed = anywhere(net, chance, kinds)
    one, other = (computed(each.write(folder / name)) for name, each in (("one", net), ("other", changed)))
    if one:  # not every net leaves an output
        compare(one, other, None, close(1e-4))


def test_among_layers_of_all_types(tmp_path: Path) -> None:
    @settings(quiet, max_examples=8)
    @given(nets(5), SEEDS)
    def run(net: object, seed: int) -> None:
        check_any_layers(of_random(net), random.Random(seed), tmp_path)  # type: ignore[arg-type]

    run()


@pytest.mark.slow
def test_among_many_layers_of_all_types(tmp_path: Path) -> None:
    @settings(quiet, max_examples=80)
    @given(nets(7), SEEDS)
    def run(net: object, seed: int) -> None:
        check_any_layers(of_random(net), random.Random(seed), tmp_path)  # type: ignore[arg-type]

    run()


def test_relu_twice(tmp_path: Path) -> None:
    net = digits("lenet")
    check_same(net, rectified_twice(net), tmp_path, "recommended")


@pytest.mark.parametrize("kind", ["Dropout", "Reshape", "Split"])
def test_behind_the_images(kind: str, tmp_path: Path) -> None:
    """What is fed keeps its whole range, moved or not: a rule of its own, which shows where ranges decide alone."""
    net = quantizable(2)
    changed = with_no_op(net, kind, "data")
    assert changed is not None
    one, other = (
        quantized(each.write(tmp_path / name), tmp_path / name, "recommended", range_rule="max")
        for name, each in (("one", net), ("other", changed))
    )
    assert one.formats == other.formats
    compare(one.combined, other.combined)


def test_a_layer_that_does_something_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison sees a factor that is 1/64 away from one."""
    net = quantizable(1)
    monkeypatch.setitem(NO_OPS, "Scale", by_channel("Scale", "", 1 + 2**-6))  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        check_same(net, with_all(net, ["Scale"]), tmp_path, "original")

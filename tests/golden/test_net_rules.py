"""The nets of Caffe's own tests for phase, level and stage rules and for the splitting of shared blobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.rules import NetState, is_included, net_state
from ristretto.caffe.splits import Wiring, insert_splits
from ristretto.caffe.textproto import parse
from ristretto.caffe.view import View
from tests.golden.shared import cases, needs_shared


def layers_of(path: Path) -> tuple[View, list[View]]:
    root = View.of(read_prototxt(path), "NetParameter")
    return root, list(root.children("layer"))


def expected_of(path: Path) -> Path:
    return path.with_name(path.name.replace(".input.", ".expected."))


@needs_shared
@pytest.mark.parametrize("path", cases("golden/net_rules/FilterNetTest*.input.prototxt"), ids=lambda path: path.name)
def test_rules(path: Path) -> None:
    root, layers = layers_of(path)
    state = net_state(root, None)
    left = [layer for layer in layers if is_included(layer, state)]
    _, wanted = layers_of(expected_of(path))
    assert [layer.document.text[layer.message.start : layer.message.end] for layer in left] == [
        layer.document.text[layer.message.start : layer.message.end] for layer in wanted
    ]


def wiring(layer: View) -> Wiring:
    return Wiring(
        layer.text("name"),
        layer.text("type"),
        layer.texts("bottom"),
        layer.texts("top"),
        layer.numbers("loss_weight"),
    )


@needs_shared
@pytest.mark.parametrize("path", cases("golden/net_rules/InsertionTest*.input.prototxt"), ids=lambda path: path.name)
def test_splits(path: Path) -> None:
    given = [wiring(layer) for layer in layers_of(path)[1]]
    wanted = [wiring(layer) for layer in layers_of(expected_of(path))[1]]
    assert list(insert_splits(given)) == wanted
    assert list(insert_splits(insert_splits(given))) == wanted


NET = """
state { phase: TRAIN level: 2 stage: "own" }
layer { name: "d" type: "Input" top: "d" }
layer { name: "train" type: "ReLU" bottom: "d" top: "a" include { phase: TRAIN } }
layer { name: "test" type: "ReLU" bottom: "d" top: "b" include { phase: TEST } }
layer { name: "deep" type: "ReLU" bottom: "d" top: "c" include { min_level: 2 } }
layer { name: "own" type: "ReLU" bottom: "d" top: "e" include { stage: "own" } }
layer { name: "both" type: "ReLU" bottom: "d" top: "f" include { stage: "own" stage: "given" } }
"""


@pytest.mark.parametrize(
    ("state", "names"),
    [
        (None, ["d", "train", "deep", "own"]),
        (NetState("TEST"), ["d", "test", "deep", "own"]),
        (NetState("TEST", 1, ("given",)), ["d", "test", "own", "both"]),
    ],
)
def test_a_nets_own_state_joins_the_one_given(state: NetState | None, names: list[str]) -> None:
    assert [layer.name for layer in build_net(parse(NET), state).layers] == names

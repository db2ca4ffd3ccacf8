"""Layers that map every value by itself, against numpy's functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.layers.harness import (
    Arrays,
    Case,
    cases,
    check,
    check_free_batch,
    complaint,
    layer_text,
    run_case,
    shapes_of,
    stored,
)
from tests.layers.reference import Array, sigmoid


def mapped(function: Callable[[Array], Array]):
    return lambda bottoms, _: function(bottoms[0].astype(np.float64))


def case(id_: str, function: Callable[[Array], Array], message: str = "", fields: str = "", **more: object) -> Case:
    type_name = id_.split("-")[0]
    text = layer_text(type_name, message, fields) if message else f'type: "{type_name}"'
    return Case(id_, text, mapped(function), **more)


POSITIVE = np.random.default_rng(0).random((2, 3, 4)) + 0.1
WIDE = np.linspace(-30.0, 30.0, 61)

CASES = (
    case("ReLU", lambda x: np.maximum(x, 0)),
    case("ReLU-slope", lambda x: np.maximum(x, 0) + 0.25 * np.minimum(x, 0), "relu_param", "negative_slope: 0.25"),
    case("ReLU-steep", lambda x: np.maximum(x, 0) + 3 * np.minimum(x, 0), "relu_param", "negative_slope: 3"),
    case("ReLU6", lambda x: np.clip(x, 0, 6), inputs=(WIDE,)),
    case("ReLU6-slope", lambda x: np.clip(x, 0, 6) + np.minimum(x, 0) / 4, "relu6_param", "negative_slope: 0.25"),
    case("TanH", np.tanh, inputs=(WIDE,)),
    case("Sigmoid", sigmoid, inputs=(WIDE,)),
    case("ELU", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    case(
        "ELU-alpha",
        lambda x: np.where(x > 0, x, stored(0.3) * np.expm1(np.minimum(x, 0))),
        "elu_param",
        "alpha: 0.3",
    ),
    case("Swish", lambda x: x * sigmoid(x)),
    case("Swish-beta", lambda x: x * sigmoid(-2 * x), "swish_param", "beta: -2"),
    case("Clip", lambda x: np.clip(x, -0.5, 1.25), "clip_param", "min: -0.5 max: 1.25"),
    case("AbsVal", np.abs),
    case("Power", lambda x: x),
    case("Power-square", lambda x: (1.5 - 2 * x) ** 2, "power_param", "power: 2 scale: -2 shift: 1.5"),
    case("Power-root", lambda x: x ** stored(0.3), "power_param", "power: 0.3", inputs=(POSITIVE,)),
    case("Power-inverse", lambda x: 1 / (x + 1), "power_param", "power: -1 shift: 1", inputs=(POSITIVE,)),
    case("Power-zero", lambda x: np.ones(x.shape), "power_param", "power: 0 scale: 3"),
    case("Power-constant", lambda x: np.full(x.shape, 8.0), "power_param", "power: 3 scale: 0 shift: 2"),
    case("Power-infinite", lambda x: np.full(x.shape, np.inf), "power_param", "power: -1 scale: 0"),
    case("Exp", np.exp),
    case("Exp-base", lambda x: 0.5 ** (1 + 2 * x), "exp_param", "base: 0.5 scale: 2 shift: 1"),
    case("Exp-shift", lambda x: np.exp(x - 1), "exp_param", "shift: -1"),
    case("Log", np.log, inputs=(POSITIVE,)),
    case("Log-base", lambda x: np.log2(0.5 + 3 * x), "log_param", "base: 2 scale: 3 shift: 0.5", inputs=(POSITIVE,)),
    case("BNLL", lambda x: np.logaddexp(0, x), inputs=(WIDE,)),
    case("Threshold", lambda x: x > 0),
    case("Threshold-at", lambda x: x > 0.5, "threshold_param", "threshold: 0.5", inputs=([0.25, 0.5, 0.75],)),
    case("Dropout", lambda x: x, "dropout_param", "dropout_ratio: 0.9"),
)


@cases(*CASES)
def test_values(case: Case) -> None:
    check(case)


@cases(*CASES)
def test_any_batch(case: Case) -> None:
    check_free_batch(case, 3)


def leaky(bottoms: Arrays, blobs: Arrays) -> Array:
    """Channels are the second axis."""
    x, slopes = bottoms[0].astype(np.float64), np.broadcast_to(blobs[0], bottoms[0].shape[1:2])
    top = x.copy()
    for place in np.ndindex(x.shape):
        if x[place] < 0:
            top[place] *= slopes[place[1]]
    return top


@cases(
    Case("matrix", 'type: "PReLU"', leaky, ((3, 4),)),
    Case("rank-3", 'type: "PReLU"', leaky, ((2, 4, 3),)),
    Case("images", 'type: "PReLU"', leaky),
    Case("rank-5", 'type: "PReLU"', leaky, ((2, 3, 2, 2, 2),)),
    Case("shared", layer_text("PReLU", "prelu_param", "channel_shared: true"), leaky),
    Case("shared-matrix", layer_text("PReLU", "prelu_param", "channel_shared: true"), leaky, ((3, 4),)),
)
def test_prelu(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_prelu_slopes() -> None:
    assert shapes_of('type: "PReLU"', (2, 5, 3)).blobs == ((5,),)
    assert shapes_of(layer_text("PReLU", "prelu_param", "channel_shared: true"), (2, 5, 3)).blobs == ((),)


DROPOUT = Case(
    "dropout",
    layer_text("Dropout", "dropout_param", "dropout_ratio: 0.75"),
    lambda bottoms, _: bottoms[0],
    (np.ones((50, 40)),),
    phase="TRAIN",
)


def test_dropout_in_train_keeps_the_mean() -> None:
    (top,), _, _ = run_case(DROPOUT, seed=3)
    assert set(np.unique(top)) == {0.0, 4.0}
    assert abs(top.mean() - 1.0) < 0.15


def test_dropout_follows_from_the_seed() -> None:
    tops = [run_case(DROPOUT, seed)[0][0] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(tops[0], tops[1])
    assert (tops[0] != tops[2]).any()


def test_dropout_of_nothing_is_the_bottom() -> None:
    check(replace(DROPOUT, layer=layer_text("Dropout", "dropout_param", "dropout_ratio: 0"), tolerance=0.0))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layer_text("Clip", "clip_param", "min: 1"), "the layer needs max; add max to clip_param"),
        (layer_text("Clip", "clip_param", "min: 1 max: 0.5"), "min 1 is larger than max 0.5"),
        (
            layer_text("Exp", "exp_param", "base: 0"),
            "0 cannot be the base of a layer of type 'Exp'; give a positive base, or -1 for e",
        ),
        (
            layer_text("Log", "log_param", "base: 1"),
            "1 cannot be the base of a layer of type 'Log'; give a positive base, or -1 for e",
        ),
        (
            layer_text("Dropout", "dropout_param", "dropout_ratio: 1"),
            "dropout_ratio 1 is not in [0, 1); give the probability of a value to be dropped",
        ),
    ],
)
def test_complaints_of_the_emitter(layer: str, message: str) -> None:
    assert complaint(layer, (2, 3), run=True) == message


def test_prelu_needs_channels() -> None:
    message = "a layer of type 'PReLU' needs a bottom with at least 2 axes, not one of shape (4,)"
    assert complaint('type: "PReLU"', (4,)) == message


def test_one_bottom_and_one_top() -> None:
    message = "a layer of type 'ReLU' takes 1 bottom, 2 given; take a bottom away"
    assert complaint('type: "ReLU"', (4,), (4,)) == message
    assert complaint('type: "ReLU"', (4,), tops=2) == "a layer of type 'ReLU' takes 1 top, 2 given; take a top away"

"""Rounding in the forward pass, BatchNorm's statistics, shared weights, learned formats: nets that are trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ristretto.caffe.net import build_net
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.rules import NetState
from ristretto.caffe.solver import RatePolicy, UpdateRule
from ristretto.caffe.textproto import parse
from ristretto.dialects.fields import read_plan
from ristretto.errors import NetError
from ristretto.finetune.backend import torch
from ristretto.finetune.net import Draw, Rounded, TorchNet
from ristretto.finetune.parameters import Parameters
from ristretto.finetune.rounding import rounded, rounded_activation, straight_through
from ristretto.finetune.thresholds import Threshold, Thresholds
from ristretto.finetune.trainer import Trainer
from ristretto.numerics.formats import NAMED, ChannelFixedPoint, DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from tests.finetune.needed import needs_torch

pytestmark = needs_torch

X = np.random.default_rng(1).normal(0, 1, (4, 3)).astype(np.float32)
LABELS = np.array([0, 1, 1, 0], np.float32)
INPUT = (
    'layer { name: "x" type: "Input" top: "x" top: "label" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }\n'
)
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }'
FC = 'layer { name: "fc" type: "FcRistretto" bottom: "x" top: "y" inner_product_param { num_output: 2 } '
FORMATS = (
    "quantization_param { bw_params: 3 fl_params: 1 bw_layer_in: 4 fl_layer_in: 2 bw_layer_out: 5 fl_layer_out: 2 } }"
)
W = np.random.default_rng(2).normal(0, 0.6, (2, 3)).astype(np.float32)
B = np.array([0.3, -0.2], np.float32)
BATCH = {"x": X, "label": LABELS}


def spec(text: str, phase: str = "TRAIN") -> NetSpec:
    return build_net(parse(INPUT + text + LOSS, "net.prototxt"), NetState(phase))  # type: ignore[arg-type]


def quantized(rounding: Rounding | None = Rounding.HALF_EVEN, **more: Any) -> TorchNet:
    net = spec(FC + FORMATS)
    formats = read_plan(net).layers
    return TorchNet(net, [(), (W, B), ()], {"loss": 1.0}, Rounded(formats, rounding, **more))


@pytest.mark.parametrize(
    "fmt",
    [
        DynamicFixedPoint(4, 2),
        DynamicFixedPoint(8, -3, signed=False),
        DynamicFixedPoint(8, 130),
        Minifloat(4, 3),
        NAMED["half"],
        PowerOfTwo(-4, 0),
    ],
    ids=str,
)
def test_rounding_is_that_of_the_reference(fmt: Format) -> None:
    values = np.concatenate([np.linspace(-20, 20, 401), [0.0, 1e-40, 1e30]]).astype(np.float32)
    for rounding in (Rounding.HALF_EVEN, Rounding.HALF_AWAY):
        made = rounded(torch.from_numpy(values), fmt, rounding, None).numpy()
        np.testing.assert_array_equal(made, fmt.quantize(values, rounding))


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20))
def test_straight_through_is_the_rounded_value_to_the_bit(values: list[float]) -> None:
    x = torch.tensor(values, requires_grad=True)
    kept = torch.tensor([math.floor(value) * 0.1 for value in values])
    made = straight_through(x, kept)
    assert made.tolist() == kept.tolist()
    made.sum().backward()
    assert x.grad.tolist() == [1.0] * len(values)


def test_saturated_activations_have_no_gradient() -> None:
    x = torch.tensor([-3.0, -2.0, 0.3, 1.75, 1.9], requires_grad=True)
    made = rounded_activation(x, DynamicFixedPoint(4, 2))
    assert made.tolist() == [-2.0, -2.0, 0.25, 1.75, 1.75]
    made.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_weights_are_rounded_and_their_gradients_are_not() -> None:
    """The loss is that of the rounded weights; what is trained are the float ones, all of them."""
    net = quantized()
    passed = net.forward(BATCH)
    fmt = DynamicFixedPoint(3, 1)
    expected = X @ fmt.quantize(W).T + fmt.quantize(B)
    np.testing.assert_allclose(passed.values["y"].detach().numpy(), expected, rtol=1e-6)
    passed.loss.backward()
    float_net = TorchNet(net.net, [(), (fmt.quantize(W), fmt.quantize(B)), ()], {"loss": 1.0})
    float_net.forward(BATCH).loss.backward()
    for parameter, other in zip(net.parameters.unique, float_net.parameters.unique, strict=True):
        np.testing.assert_array_equal(parameter.gradient(), other.gradient())
        assert parameter.gradient().all()


def test_activations_are_rounded_if_asked() -> None:
    passed = quantized(activations=True).forward(BATCH)
    fmt = DynamicFixedPoint(3, 1)
    inside = DynamicFixedPoint(4, 2).quantize(X) @ fmt.quantize(W).T + fmt.quantize(B)
    np.testing.assert_array_equal(passed.values["y"].detach().numpy(), DynamicFixedPoint(5, 2).quantize(inside))
    # The original's types round their bottom where it lies.
    np.testing.assert_array_equal(passed.values["x"].detach().numpy(), DynamicFixedPoint(4, 2).quantize(X))


def test_stochastic_rounding_follows_from_the_seed() -> None:
    net = quantized(Rounding.STOCHASTIC)

    def loss(*draw: int) -> float:
        return float(net.forward(BATCH, Draw(*draw)).loss.detach())

    assert loss(3, 5, 0) == loss(3, 5, 0)
    assert len({loss(3, 5, 0), loss(4, 5, 0), loss(3, 6, 0), loss(3, 5, 1)}) == 4


def test_stochastic_rounding_keeps_the_mean() -> None:
    net = quantized(Rounding.STOCHASTIC)
    y = np.mean([net.forward(BATCH, Draw(0, i)).values["y"].detach().numpy() for i in range(600)], 0)
    np.testing.assert_allclose(y, X @ W.T + B, atol=0.15)


def test_batch_norm_learns_its_statistics() -> None:
    """Running sums as Caffe keeps them: old ones fade, the variance is that of a sample, the third blob counts."""
    text = (
        'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "n" '
        "batch_norm_param { moving_average_fraction: 0.9 } }\n"
        + FC.replace('bottom: "x"', 'bottom: "n"').replace("FcRistretto", "InnerProduct")
        + "}"
    )
    blobs = (np.full(3, 2.0), np.full(3, 3.0), np.ones(1))
    net = TorchNet(spec(text), [(), tuple(b.astype(np.float32) for b in blobs), (W, B), ()], {"loss": 1.0})
    passed = net.forward(BATCH)
    mean, variance = X.mean(0), X.var(0)
    np.testing.assert_allclose(
        passed.values["n"].detach().numpy(), (X - mean) / np.sqrt(variance + 1e-5), rtol=1e-5, atol=1e-6
    )
    found = [parameter.data for parameter in net.parameters.layers[1]]
    wanted = [0.9 * 2 + mean, 0.9 * 3 + variance * 4 / 3, [1.9]]
    for blob, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(blob, expected, rtol=1e-6)
    frozen = TorchNet(net.net, [(), found, (W, B), ()], {"loss": 1.0}, Rounded(weights=None, frozen=True))
    before = [blob.copy() for blob in found]
    passed = frozen.forward(BATCH)
    stored = (X - before[0] / 1.9) / np.sqrt(before[1] / 1.9 + 1e-5)
    np.testing.assert_allclose(passed.values["n"].detach().numpy(), stored, rtol=1e-5, atol=1e-6)
    for parameter, blob in zip(frozen.parameters.layers[1], before, strict=True):
        np.testing.assert_array_equal(parameter.data, blob)


SHARED_TEXT = (
    'layer { name: "a" type: "InnerProduct" bottom: "x" top: "h" param { name: "w" lr_mult: 2 } '
    "inner_product_param { num_output: 3 bias_term: false } }\n"
    'layer { name: "b" type: "InnerProduct" bottom: "h" top: "y" param { name: "w" %s } '
    "inner_product_param { num_output: 3 bias_term: false } }\n"
)


def test_shared_weights_are_trained_once() -> None:
    square = np.eye(3, dtype=np.float32)
    net = TorchNet(spec(SHARED_TEXT % ""), [(), (square,), (square,), ()], {"loss": 1.0})
    assert len(net.parameters.unique) == 1
    assert net.parameters.layers[1][0] is net.parameters.layers[2][0]
    assert net.parameters.unique[0].lr_mult == 2.0
    net.forward(BATCH).loss.backward()
    step = 1e-3 * np.sign(net.parameters.unique[0].gradient())
    losses = []
    for sign in (1, -1):
        moved = (square + sign * step).astype(np.float32)
        other = TorchNet(net.net, [(), (moved,), (moved,), ()], {"loss": 1.0}).forward(BATCH)
        losses.append(float(other.loss.detach()))
    slope = (losses[0] - losses[1]) / 2
    assert slope == pytest.approx(1e-3 * np.abs(net.parameters.unique[0].gradient()).sum(), rel=1e-2)


def test_shared_weights_agree() -> None:
    square = np.eye(3, dtype=np.float32)
    with pytest.raises(NetError, match=r"lr_mult of a shared parameter is 1 here.*layer 'a'"):
        Parameters.of(spec(SHARED_TEXT % "lr_mult: 1"), [(), (square,), (square,), ()])


def trained(net: TorchNet, steps: int, rate: float = 0.1) -> list[float]:
    trainer = Trainer(net, UpdateRule("SGD", momentum=0.9), RatePolicy("fixed", rate))
    return [trainer.step([BATCH]).loss for _ in range(steps)]


def test_training_makes_the_loss_smaller_and_only_float_weights_change() -> None:
    net = quantized(Rounding.STOCHASTIC, activations=True)
    losses = trained(net, 60)
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert len(np.unique(net.parameters.unique[0].data)) == W.size
    np.testing.assert_array_equal(W, np.random.default_rng(2).normal(0, 0.6, (2, 3)).astype(np.float32))


def test_a_loss_that_is_no_number_ends_it() -> None:
    with pytest.raises(NetError, match=r"the loss is (NaN|infinite) at iteration \d+; lower base_lr, or set clip"):
        trained(TorchNet(spec(FC + "}"), [(), (W, B), ()], {"loss": 1.0}), 50, rate=1e38)


def test_layers_that_cannot_be_trained_are_named() -> None:
    text = 'layer { name: "best" type: "ArgMax" bottom: "x" top: "m" }\n' + FC + "}"
    with pytest.raises(NetError, match="layer 'best': layers of type 'ArgMax' cannot be trained"):
        TorchNet(spec(text), [(), (), (W, B), ()], {"loss": 1.0}).forward(BATCH)


@pytest.mark.parametrize(
    "fmt", [DynamicFixedPoint(4, 2), DynamicFixedPoint(8, -3, signed=False), ChannelFixedPoint(5, (1, 0, 9))], ids=str
)
def test_a_threshold_starts_in_the_middle_of_its_format(fmt: DynamicFixedPoint | ChannelFixedPoint) -> None:
    threshold = Threshold.of(fmt)
    assert threshold.format == fmt
    threshold.data[:] += 0.49
    assert threshold.format == fmt
    threshold.data[:] += 0.02
    moved = threshold.format
    assert (moved.fls if isinstance(moved, ChannelFixedPoint) else moved.fl) == (
        tuple(fl - 1 for fl in fmt.fls) if isinstance(fmt, ChannelFixedPoint) else fmt.fl - 1
    )
    assert moved.bw == fmt.bw


def test_the_gradient_of_a_threshold() -> None:
    """ln 2 times what rounding changed inside, and times the bound outside: by hand."""
    fmt = DynamicFixedPoint(4, 2)
    threshold = Threshold.of(fmt)
    x = torch.tensor([-3.0, 0.3, 1.9])
    made = threshold.attached(x, rounded_activation(x, fmt), torch.tensor(fmt.min), torch.tensor(fmt.max))
    assert made.tolist() == [-2.0, 0.25, 1.75]
    (made * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert float(threshold.tensor.grad[0]) == pytest.approx(math.log(2) * (-2.0 - 0.5 + 175.0), rel=1e-5)


def test_formats_are_learned() -> None:
    """Weights of a few tenths in a format that ends at 32: training finds lengths that fit them."""
    formats = {"fc": LayerFormats(params=DynamicFixedPoint(4, -2))}
    thresholds = Thresholds.of(formats, frozenset(("params", "bias")), 0.1)
    rounding = Rounded(formats, Rounding.HALF_EVEN, thresholds=thresholds)
    net = TorchNet(spec(FC + "}"), [(), (W, B), ()], {"loss": 1.0}, rounding)
    losses = trained(net, 150, rate=0.05)
    learned = thresholds.formats(formats)["fc"].params
    assert isinstance(learned, DynamicFixedPoint)
    assert learned.bw == 4
    assert learned.fl > -2
    assert np.mean(losses[-10:]) < 0.8 * losses[0]


def test_learned_formats_survive_a_snapshot() -> None:
    formats = {"fc": LayerFormats(DynamicFixedPoint(8, 4), params=ChannelFixedPoint(4, (2, 1)))}
    roles = frozenset(("in", "params"))

    def fresh() -> Thresholds:
        return Thresholds.of(formats, roles, 0.1)  # type: ignore[arg-type]

    def updated(thresholds: Thresholds, iteration: int) -> None:
        for threshold in thresholds.sites.values():
            threshold.tensor.grad = torch.full_like(threshold.tensor, 0.5 + iteration)
        thresholds.update(0.5, iteration)

    straight, first, second = fresh(), fresh(), fresh()
    for iteration in range(4):
        updated(straight, iteration)
        updated(first if iteration < 2 else second, iteration)
        if iteration == 1:
            assert second.restore(first.state())
    assert second.state() == straight.state()
    assert second.formats(formats) == straight.formats(formats)
    assert not second.restore({})
    assert not second.restore({name: values[:2] for name, values in straight.state().items()})

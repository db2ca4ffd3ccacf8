"""Learning rates and update rules: numpy alone, no torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ristretto.caffe.solver import POLICIES, TYPES, RatePolicy, UpdateRule
from ristretto.finetune.rates import broken_rate, current_step, learning_rate
from ristretto.finetune.rules import History, clip_factor, history_length, regularized, step


def rate(name: str, iteration: int, **more: object) -> float:
    return learning_rate(RatePolicy(name, 0.5, **more), iteration)  # type: ignore[arg-type]


def test_rates_follow_their_policies() -> None:
    assert rate("fixed", 1000) == 0.5
    assert [rate("step", i, gamma=0.1, stepsize=3) for i in (0, 2, 3, 6)] == pytest.approx([0.5, 0.5, 0.05, 0.005])
    assert rate("exp", 3, gamma=0.9) == pytest.approx(0.5 * 0.9**3)
    assert rate("inv", 10, gamma=0.2, power=0.75) == pytest.approx(0.5 * 3**-0.75)
    steps = {"gamma": 0.1, "stepvalues": (2, 5)}
    assert [rate("multistep", i, **steps) for i in (1, 2, 4, 5)] == pytest.approx([0.5, 0.05, 0.05, 0.005])
    assert [rate("poly", i, power=2.0, max_iter=10) for i in (0, 5, 10)] == pytest.approx([0.5, 0.125, 0.0])
    assert rate("sigmoid", 7, gamma=-0.1, stepsize=7) == pytest.approx(0.25)
    assert rate("sigmoid", 10**6, gamma=-1.0, stepsize=0) < 1e-300


def test_steps_as_snapshots_store_them() -> None:
    assert current_step(RatePolicy("step", 1.0, stepsize=10), 25) == 2
    assert current_step(RatePolicy("multistep", 1.0, stepvalues=(5, 20, 30)), 20) == 2
    assert current_step(RatePolicy("poly", 1.0, max_iter=10), 9) == 0


def path_of(rule: UpdateRule, gradients: list[float], rate: float = 0.1) -> list[float]:
    """The steps of one weight."""
    history: History = tuple(np.zeros(1, np.float32) for _ in range(history_length(rule)))
    taken = []
    for iteration, gradient in enumerate(gradients):
        change, history = step(rule, np.array([gradient], np.float32), history, rate, iteration)
        taken.append(float(change[0]))
    return taken


def test_steps_by_hand() -> None:
    """AdaGrad and AdaDelta, which the golden files lack, and the others by their formulas, number by number."""
    assert path_of(UpdateRule("SGD", momentum=0.5), [1.0, 2.0]) == pytest.approx([0.1, 0.25])
    assert path_of(UpdateRule("Nesterov", momentum=0.5), [1.0, 2.0]) == pytest.approx([0.15, 1.5 * 0.25 - 0.05])
    adagrad = [0.1 * 3 / (3 + 0.01), 0.1 * 4 / (5 + 0.01)]
    assert path_of(UpdateRule("AdaGrad", delta=0.01), [3.0, 4.0]) == pytest.approx(adagrad)
    mean = 0.75 * (0.25 * 9) + 0.25 * 16
    rmsprop = [0.1 * 3 / (1.5 + 0.01), 0.1 * 4 / (math.sqrt(mean) + 0.01)]
    assert path_of(UpdateRule("RMSProp", rms_decay=0.75, delta=0.01), [3.0, 4.0]) == pytest.approx(rmsprop)
    first = 3 * math.sqrt(0.01 / (0.01 + 0.1 * 9))
    steps = 0.1 * first**2
    second = 4 * math.sqrt((0.01 + steps) / (0.01 + 0.9 * 0.9 + 0.1 * 16))
    rule = UpdateRule("AdaDelta", momentum=0.9, delta=0.01)
    assert path_of(rule, [3.0, 4.0], rate=1.0) == pytest.approx([first, second], rel=1e-5)
    # Adam's first step is the rate, whatever the gradient.
    assert path_of(UpdateRule("Adam", momentum=0.9), [1e-3]) == pytest.approx([0.1], rel=1e-3)


@given(st.sampled_from(TYPES), st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=5))
def test_a_rate_of_zero_changes_nothing(kind: str, gradients: list[float]) -> None:
    assert path_of(UpdateRule(kind), gradients, rate=0.0) == [0.0] * len(gradients)


@given(st.sampled_from(TYPES), st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=5))
def test_the_opposite_gradients_give_the_opposite_steps(kind: str, gradients: list[float]) -> None:
    rule = UpdateRule(kind, momentum=0.0 if kind in ("AdaGrad", "RMSProp") else 0.5)
    back = path_of(rule, [-gradient for gradient in gradients])
    assert path_of(rule, gradients) == [-taken for taken in back]


def test_gradients_are_clipped_together() -> None:
    gradients = [np.array([3.0], np.float32), np.array([[0.0, 4.0]], np.float32)]
    assert clip_factor(gradients, 1.0) == pytest.approx(0.2)
    assert clip_factor(gradients, 5.0) == 1.0
    assert clip_factor(gradients, -1.0) == 1.0


def test_regularization() -> None:
    weights, gradient = np.array([-2.0, 0.0, 4.0], np.float32), np.ones(3, np.float32)
    second = UpdateRule(weight_decay=0.5, iter_size=4)
    np.testing.assert_allclose(regularized(second, weights, gradient, 2.0), 0.25 + weights)
    first = UpdateRule(weight_decay=0.5, regularization="L1")
    np.testing.assert_allclose(regularized(first, weights, gradient, 1.0), [0.5, 1.0, 1.5])
    assert regularized(UpdateRule(), weights, gradient, 1.0) is gradient


FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
ITERATIONS = st.integers(1, 2**31 - 1)


def policies(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[RatePolicy]:
    """Learning rates of all kinds, with what parameters there are."""
    return st.builds(
        RatePolicy,
        st.sampled_from(POLICIES),
        numbers,
        numbers,
        numbers,
        ITERATIONS,
        st.lists(ITERATIONS, unique=True, max_size=4).map(lambda values: tuple(sorted(values))),
        ITERATIONS,
    )


@given(policies(FLOATS), st.integers(0, 2**31 - 1))
def test_any_finite_parameters_give_a_rate(policy: RatePolicy, iteration: int) -> None:
    assert isinstance(learning_rate(policy, iteration), float)


@given(policies(st.floats(-2, 2, width=32) | FLOATS), st.floats(0, 1, exclude_max=True))
def test_rates_within_a_training_hold_if_those_of_its_ends_do(policy: RatePolicy, share: float) -> None:
    last = policy.max_iter - 1
    assume(policy.name != "inv" or 1 + policy.gamma * last > 0)  # the solver prototxt is refused
    if broken_rate(policy) is None:
        assert abs(learning_rate(policy, int(share * policy.max_iter))) <= 3.4028236e38


def test_rates_that_float32_does_not_hold() -> None:
    assert broken_rate(RatePolicy("exp", 0.0, gamma=1e38, max_iter=12)) == 11
    assert broken_rate(RatePolicy("exp", 1.0, gamma=10.0, max_iter=39)) is None
    assert broken_rate(RatePolicy("exp", 1.0, gamma=10.0, max_iter=40)) == 39
    assert broken_rate(RatePolicy("fixed", 1.0, max_iter=1)) is None
    assert math.isnan(rate("inv", 2, gamma=-1.0, power=0.75))
    assert rate("inv", 1, gamma=-1.0, power=0.75) == math.inf


@given(st.sampled_from(TYPES), *[FLOATS] * 4, st.lists(FLOATS, min_size=1, max_size=3))
def test_any_rule_takes_any_gradient(
    kind: str, momentum: float, second: float, delta: float, rate: float, gradients: list[float]
) -> None:
    rule = UpdateRule(kind, momentum, momentum2=second, rms_decay=second, delta=delta)
    with np.errstate(all="ignore"):
        assert len(path_of(rule, gradients, rate)) == len(gradients)

"""Caffe's update rules as functions on arrays (BVLC/caffe solvers/*.cpp). A step is taken off the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.solver import UpdateRule
from ristretto.finetune.rates import power

Array = NDArray[np.float32]
History = tuple[Array, ...]
"""What a rule remembers of one weight blob: one array, or two for AdaDelta and Adam."""


def history_length(rule: UpdateRule) -> int:
    """How many arrays a rule remembers for each weight blob."""
    return 2 if rule.type in ("AdaDelta", "Adam") else 1


def clip_factor(gradients: Sequence[Array], limit: float) -> np.float32:
    """What all gradients are multiplied by so that together they are no longer than a limit (ClipGradients)."""
    if limit < 0:
        return np.float32(1.0)
    length = math.sqrt(sum(float(np.dot(flat, flat)) for flat in (gradient.ravel() for gradient in gradients)))
    return np.float32(limit / length if length > limit else 1.0)


def regularized(rule: UpdateRule, weights: Array, gradient: Array, decay_mult: float) -> Array:
    """A gradient with that of the regularization, averaged over the batches of a step (Normalize, Regularize)."""
    if rule.iter_size > 1:
        gradient = gradient * np.float32(1.0 / rule.iter_size)
    decay = np.float32(rule.weight_decay * decay_mult)
    if decay == 0.0:
        return gradient
    result: Array = gradient + decay * (weights if rule.regularization == "L2" else np.sign(weights))
    return result


def step(rule: UpdateRule, gradient: Array, history: History, rate: float, iteration: int) -> tuple[Array, History]:
    """What is taken off a weight blob, and what is remembered for the next step (ComputeUpdateValue).

    Args:
        rule: the rule.
        gradient: clipped and regularized.
        history: what the step before has left; zeros at first.
        rate: the learning rate, times the blob's own factor.
        iteration: counted from 0.
    """
    return _STEPS[rule.type](rule, gradient, history, np.float32(rate), iteration)


def _sgd(rule: UpdateRule, gradient: Array, history: History, rate: np.float32, _: int) -> tuple[Array, History]:
    """``v = rate * g + momentum * v``."""
    velocity: Array = rate * gradient + np.float32(rule.momentum) * history[0]
    return velocity, (velocity,)


def _nesterov(rule: UpdateRule, gradient: Array, history: History, rate: np.float32, _: int) -> tuple[Array, History]:
    """SGD's velocity, a momentum's step ahead of itself."""
    momentum = np.float32(rule.momentum)
    velocity: Array = rate * gradient + momentum * history[0]
    update: Array = (1 + momentum) * velocity - momentum * history[0]
    return update, (velocity,)


def _adagrad(rule: UpdateRule, gradient: Array, history: History, rate: np.float32, _: int) -> tuple[Array, History]:
    """``rate * g / (sqrt(sum of g**2) + delta)``."""
    total: Array = history[0] + gradient * gradient
    update: Array = np.divide(rate * gradient, np.sqrt(total) + np.float32(rule.delta))
    return update, (total,)


def _rmsprop(rule: UpdateRule, gradient: Array, history: History, rate: np.float32, _: int) -> tuple[Array, History]:
    """AdaGrad with a mean that forgets."""
    decay = np.float32(rule.rms_decay)
    mean: Array = (1 - decay) * gradient * gradient + decay * history[0]
    update: Array = np.divide(rate * gradient, np.sqrt(mean) + np.float32(rule.delta))
    return update, (mean,)


def _adadelta(rule: UpdateRule, gradient: Array, history: History, rate: np.float32, _: int) -> tuple[Array, History]:
    """``g * sqrt((delta + mean of steps**2) / (delta + mean of g**2))``; momentum is what the means keep."""
    keep, delta = np.float32(rule.momentum), np.float32(rule.delta)
    squares: Array = (1 - keep) * gradient * gradient + keep * history[0]
    change: Array = gradient * np.sqrt((delta + history[1]) / (delta + squares))
    update: Array = rate * change
    changes: Array = (1 - keep) * change * change + keep * history[1]
    return update, (squares, changes)


def _adam(
    rule: UpdateRule, gradient: Array, history: History, rate: np.float32, iteration: int
) -> tuple[Array, History]:
    """``rate * m / (sqrt(v) + delta)`` with both means corrected for their start from zero."""
    first, second = np.float32(rule.momentum), np.float32(rule.momentum2)
    mean: Array = (1 - first) * gradient + first * history[0]
    squares: Array = (1 - second) * gradient * gradient + second * history[1]
    count = iteration + 1
    correction = np.float32(
        np.sqrt(np.float64(1.0 - power(float(second), count))) / np.float64(1.0 - power(float(first), count))
    )
    update: Array = np.divide(rate * correction * mean, np.sqrt(squares) + np.float32(rule.delta))
    return update, (mean, squares)


_Step = Callable[[UpdateRule, Array, History, np.float32, int], tuple[Array, History]]
_STEPS: Mapping[str, _Step] = {
    "SGD": _sgd,
    "Nesterov": _nesterov,
    "AdaGrad": _adagrad,
    "RMSProp": _rmsprop,
    "AdaDelta": _adadelta,
    "Adam": _adam,
}

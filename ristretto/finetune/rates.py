"""The learning rate of an iteration (BVLC/caffe sgd_solver.cpp, GetLearningRate)."""

from __future__ import annotations

import math

import numpy as np

from ristretto.caffe.solver import RatePolicy


def current_step(policy: RatePolicy, iteration: int) -> int:
    """How often the rate has been lowered, as snapshots store it; 0 where the policy has no steps."""
    if policy.name == "step":
        return iteration // policy.stepsize
    if policy.name == "multistep":
        return sum(iteration >= value for value in policy.stepvalues)
    return 0


def power(base: float, exponent: float) -> float:
    """C's pow: NaN or infinity where Python's raises.

    >>> power(2.0, 0.5) == 2.0**0.5, power(-1.0, 0.5), power(0.0, -1.0), power(-10.0, 999.0)
    (True, nan, inf, -inf)
    """
    try:
        return math.pow(base, exponent)
    except (OverflowError, ValueError):
        with np.errstate(all="ignore"):
            return float(np.float64(base) ** np.float64(exponent))


def broken_rate(policy: RatePolicy) -> int | None:
    """An iteration whose rate float32 does not hold, or None: rates only rise or only fall, so that the ends tell."""
    with np.errstate(over="ignore"):
        for iteration in (0, policy.max_iter - 1):
            if not np.isfinite(np.float32(learning_rate(policy, iteration))):
                return iteration
    return None


def learning_rate(policy: RatePolicy, iteration: int) -> float:
    """The learning rate, before a weight's own factor.

    >>> learning_rate(RatePolicy("step", 1.0, gamma=0.5, stepsize=10), 25)
    0.25
    >>> learning_rate(RatePolicy("poly", 1.0, power=2.0, max_iter=10), 5)
    0.25

    Args:
        policy: how it is computed.
        iteration: counted from 0.
    """
    base, gamma = policy.base_lr, policy.gamma
    match policy.name:
        case "step" | "multistep":
            return base * power(gamma, current_step(policy, iteration))
        case "exp":
            return base * power(gamma, iteration)
        case "inv":
            return base * power(1.0 + gamma * iteration, -policy.power)
        case "poly":
            return base * power(1.0 - iteration / policy.max_iter, policy.power)
        case "sigmoid":
            exponent = min(-gamma * (iteration - policy.stepsize), 700.0)  # beyond that a double overflows
            return base / (1.0 + math.exp(exponent))
    return base

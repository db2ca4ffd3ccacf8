"""Rounding with error feedback, against plain rounding and exhaustive search."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ristretto.decide.compensate import Moments, bias_change, compensated_rounding, moments, output_error
from ristretto.numerics.formats import DynamicFixedPoint

FORMAT = DynamicFixedPoint(4, 3)


def correlated(n: int, places: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n, n)) * np.linspace(1, 0.1, n)
    return rng.normal(size=(places, n)) @ mixing + rng.normal(size=n)


def test_moments_are_means_over_places() -> None:
    x = correlated(5, 300, 0)
    found = moments(x, np.round(x))
    np.testing.assert_allclose(found.quantized, np.cov(np.round(x).T, bias=True), atol=1e-12)
    np.testing.assert_allclose(found.float_mean, x.mean(axis=0))


@pytest.mark.parametrize("seed", range(5))
def test_outputs_come_closer_than_with_plain_rounding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weights = correlated(100, 2000, seed), rng.normal(0, 0.3, (20, 100))
    inputs = moments(x, x)
    rounded = compensated_rounding(weights, inputs, FORMAT.quantize)
    assert np.array_equal(FORMAT.quantize(rounded), rounded)
    plain = output_error(weights, FORMAT.quantize(weights), inputs)
    assert output_error(weights, rounded, inputs) < 0.4 * plain
    centred = x - x.mean(axis=0)
    measured = np.mean(np.sum((centred @ (rounded - weights).T) ** 2, axis=1))
    assert output_error(weights, rounded, inputs) == pytest.approx(measured)


def test_it_is_near_the_best_there_is() -> None:
    """Against all ways to round four weights up or down."""
    rng = np.random.default_rng(1)
    ratios = []
    for seed in range(20):
        x, weights = correlated(4, 500, seed), rng.normal(0, 0.3, (1, 4))
        inputs = moments(x, x)
        below = np.floor(weights / FORMAT.step) * FORMAT.step
        best = min(
            output_error(weights, FORMAT.quantize(below + FORMAT.step * np.array([up])), inputs)
            for up in product((0, 1), repeat=4)
        )
        found = output_error(weights, compensated_rounding(weights, inputs, FORMAT.quantize), inputs)
        ratios.append(found / max(best, 1e-12))
    assert np.median(ratios) < 1.6


def test_what_earlier_layers_lost_is_made_good() -> None:
    """Inputs that came out too small by a fifth get weights that are larger by a fourth."""
    x = np.random.default_rng(3).normal(size=(1000, 6))
    weights = np.full((2, 6), 0.5)
    fine = DynamicFixedPoint(16, 12)
    rounded = compensated_rounding(weights, moments(x, 0.8 * x), fine.quantize)
    np.testing.assert_allclose(rounded, 0.625, atol=0.02)


def test_the_bias_makes_the_means_equal() -> None:
    x = correlated(8, 400, 2)
    weights = np.random.default_rng(0).normal(0, 0.3, (3, 8))
    rounded = FORMAT.quantize(weights)
    quantized = np.round(x)
    change = bias_change(weights, rounded, moments(x, quantized))
    np.testing.assert_allclose((quantized @ rounded.T + change).mean(axis=0), (x @ weights.T).mean(axis=0))


def test_dead_inputs_are_no_trouble() -> None:
    zero = np.zeros((4, 4))
    dead = Moments(zero, zero, zero[0], zero[0])
    weights = np.random.default_rng(0).normal(0, 0.3, (2, 4))
    assert np.array_equal(compensated_rounding(weights, dead, FORMAT.quantize), FORMAT.quantize(weights))

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest

from ristretto.numerics.formats import DynamicFixedPoint, Minifloat, PowerOfTwo
from ristretto.numerics.measures import decibels, saturated_share, sqnr_db


def test_sqnr_against_rationals() -> None:
    signal = np.array([[1.0, -2.5], [0.375, 100.0]], np.float32)
    quantized = np.array([[1.0, -2.0], [0.5, 99.0]], np.float32)
    pairs = [(Fraction(float(s)), Fraction(float(q))) for s, q in zip(signal.flat, quantized.flat, strict=True)]
    ratio = sum(s * s for s, _ in pairs) / sum((s - q) ** 2 for s, q in pairs)
    assert sqnr_db(signal, quantized) == pytest.approx(10 * math.log10(ratio), rel=1e-12)


def test_a_bit_more_is_worth_six_decibels() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 100_000)
    gain = sqnr_db(x, DynamicFixedPoint(9, 8).quantize(x)) - sqnr_db(x, DynamicFixedPoint(8, 7).quantize(x))
    assert gain == pytest.approx(20 * math.log10(2), abs=0.1)


def test_sqnr_ends() -> None:
    some, none = np.ones(3, np.float32), np.zeros(3, np.float32)
    assert sqnr_db(some, some) == math.inf
    assert sqnr_db(none, none) == math.inf
    assert sqnr_db(none, some) == -math.inf
    assert math.isnan(sqnr_db(np.array([math.nan, 1.0]), np.ones(2)))
    assert sqnr_db(np.array([3e38], np.float32), np.array([2.7e38], np.float32)) == pytest.approx(20.0, abs=0.01)
    with pytest.raises(ValueError, match=r"the signal has shape \(3,\), its quantized form \(1,\)"):
        sqnr_db(some, np.ones(1))


def test_saturated_share() -> None:
    fmt = DynamicFixedPoint(4, 1)  # -4 .. 3.5
    x = np.array([[-4.0, 3.5, 0.0], [-4.25, 3.75, math.inf]], np.float32)
    assert saturated_share(x, fmt) == 0.5
    assert saturated_share(np.array([-0.5, 0.5, 8.0, 2.0]), DynamicFixedPoint(3, 0, signed=False)) == 0.5
    assert saturated_share(np.array([1.0, 2.0, -2.0]), PowerOfTwo(-8, 0)) == pytest.approx(2 / 3)
    assert saturated_share(np.array([480.0, 481.0]), Minifloat(4, 3)) == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns of the mean of nothing
        assert saturated_share(np.empty((0, 3), np.float32), fmt) == 0.0


def test_decibels_of_sums() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20)
    assert decibels(0.0, 0.0) == math.inf
    assert decibels(0.0, 1.0) == decibels(1.0, math.inf) == -math.inf
    assert math.isnan(decibels(1.0, math.nan))

"""Splits of operands: digits add up, plans are exact and take few products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.graph.digits import FLOAT32_EXACT, Digits, convolution_sums, plan_digits, split_codes, transposed_sums


@given(st.lists(st.integers(-(2**31), 2**31), min_size=1, max_size=20), st.integers(1, 5), st.integers(1, 12))
def test_digits_add_up(codes: list[int], count: int, shift: int) -> None:
    array = np.array(codes)
    digits = split_codes(array, Digits(count, shift))
    assert len(digits) == count
    np.testing.assert_array_equal(sum(digit << (shift * i) for i, digit in enumerate(digits)), array)
    assert all(np.abs(digit).max() <= 1 << (shift - 1) for digit in digits[:-1])


@pytest.mark.parametrize(("largest", "bits", "products"), [(128, 8, 1), (255, 8, 1), (2**15, 8, 2), (2**15, 16, 4)])
def test_plans_need_few_products(largest: int, bits: int, products: int) -> None:
    """288 products a sum, as in a 3 x 3 convolution of 32 channels, weights as they are in nets."""
    weights = np.random.default_rng(1).normal(0, 2.0 ** (bits - 3), (16, 288)).round().astype(np.int64)
    plan = plan_digits(largest, weights, convolution_sums)
    assert plan is not None
    assert plan.products == products
    parts = split_codes(weights, plan.weights)
    worst = max(int(convolution_sums(np.abs(part)).max()) for part in parts)
    digit = largest if plan.inputs.count == 1 else max(1 << (plan.inputs.shift - 1), largest >> plan.inputs.shift)
    assert worst * digit <= FLOAT32_EXACT


def test_a_stride_divides_the_products_of_a_transposed_convolution() -> None:
    weights = np.ones((3, 2, 4, 4), np.int64)
    assert transposed_sums(1, (1, 1), (1, 1))(weights).max() == 48
    assert transposed_sums(1, (2, 2), (1, 1))(weights).max() == 12
    assert transposed_sums(1, (2, 2), (2, 1))(weights).max() == 24

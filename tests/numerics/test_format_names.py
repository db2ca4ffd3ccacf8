"""Formats as users write and read them: ``ristretto.formats``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto import formats
from ristretto.errors import FormatError

FIXED = st.builds(formats.FixedPoint, st.integers(1, 32), st.integers(-128, 256), st.booleans())
POWERS = st.tuples(st.integers(-126, 127), st.integers(-126, 127)).map(
    lambda ends: formats.PowerOfTwo(min(ends), max(ends))
)
FLOATS = st.builds(formats.Minifloat, st.integers(1, 8), st.integers(0, 23)) | st.sampled_from(
    [*formats.NAMED.values()]
)


@given(FIXED | POWERS | FLOATS)
def test_a_format_is_read_from_its_own_text(fmt: formats.Format) -> None:
    assert formats.parse(str(fmt)) == fmt
    assert formats.parse(f" {fmt} ") == fmt
    assert formats.describe(fmt).startswith(f"{fmt.bw} bits")


@pytest.mark.parametrize("text", ["", "8", "<8>", "<8, 5", "u<8, x>", "2^-8", "e9m1x", "Q3.5"])
def test_what_is_no_format_is_refused_with_examples(text: str) -> None:
    with pytest.raises(FormatError, match=r"is no number format; write <8, 5> for fixed point"):
        formats.parse(text)


def test_a_format_that_cannot_exist_says_why() -> None:
    with pytest.raises(FormatError, match=r"bw must be in 1..32, got 40"):
        formats.parse("<40, 5>")
    with pytest.raises(FormatError, match="exp_min 3 is above exp_max 1"):
        formats.parse("2^3..1")


@pytest.mark.parametrize("fmt", [formats.FixedPoint(8, 5), formats.Minifloat(5, 2), formats.PowerOfTwo(-4, 1)], ids=str)
def test_lists_and_whole_numbers_are_taken_as_float64(fmt: formats.ValueFormat) -> None:
    exact = fmt.quantize(np.array([5.0, -1.0, 0.3]))
    np.testing.assert_array_equal(fmt.quantize([5.0, -1.0, 0.3]), exact)  # type: ignore[type-var, arg-type]
    whole = fmt.quantize(np.array([5, -1]))  # type: ignore[type-var]
    assert whole.dtype == np.float64
    np.testing.assert_array_equal(whole, exact[:2])

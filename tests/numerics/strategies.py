"""Hypothesis strategies for formats and values."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding

VARIANTS = [
    (subnormals, reserved, overflow)
    for subnormals in (False, True)
    for reserved, overflow in (
        ("none", "saturate"), ("nan", "saturate"), ("exponent", "saturate"), ("exponent", "infinity"),
    )
]  # fmt: skip
"""All that a minifloat can be besides its widths."""


def variants(exp_bits: int, mant_bits: int) -> list[Minifloat]:
    """All minifloats of two widths; one exponent bit leaves nothing to reserve."""
    return [
        Minifloat(exp_bits, mant_bits, *variant)  # type: ignore[arg-type]
        for variant in VARIANTS
        if exp_bits > 1 or variant[1] == "none"
    ]


def fixed_points(max_bw: int = 24) -> SearchStrategy[DynamicFixedPoint]:
    """Fixed point formats, signed and not, with negative fractional lengths and ones above the width."""
    return st.builds(DynamicFixedPoint, st.integers(1, max_bw), st.integers(-20, 40), st.booleans())


def minifloats() -> SearchStrategy[Minifloat]:
    """The original's minifloat formats."""
    return st.builds(Minifloat, st.integers(1, 8), st.integers(0, 23))


def any_minifloats() -> SearchStrategy[Minifloat]:
    """Minifloats with and without subnormals, reserved codes and infinity."""
    widths = st.tuples(st.integers(1, 8), st.integers(0, 23))
    return widths.flatmap(lambda pair: st.sampled_from(variants(*pair)))


def channel_fixed_points() -> SearchStrategy[ChannelFixedPoint]:
    """Weights with a point for each of a few channels."""
    fls = st.lists(st.integers(-20, 40), min_size=1, max_size=6).map(tuple)
    return st.builds(ChannelFixedPoint, st.integers(1, 32), fls)


def powers() -> SearchStrategy[PowerOfTwo]:
    """Power-of-two formats."""
    pairs = st.tuples(st.integers(-30, 20), st.integers(0, 12), st.booleans())
    return pairs.map(lambda three: PowerOfTwo(three[0], three[0] + three[1], three[2]))


def finite_floats() -> SearchStrategy[np.float32]:
    """Finite float32 values of all magnitudes."""
    return st.floats(allow_nan=False, allow_infinity=False, width=32).map(np.float32)


def layer_formats(*, in_place: bool, roundings: SearchStrategy[Rounding | None]) -> SearchStrategy[LayerFormats]:
    """All that can be said of a layer: every kind of format in every role that takes it, or float."""
    value = st.one_of(st.none(), fixed_points(32), any_minifloats())
    params = st.one_of(signed(), any_minifloats(), powers(), channel_fixed_points(), st.none())
    bias = st.one_of(st.none(), signed(), any_minifloats())
    mixed = st.builds(LayerFormats, value, value, params, bias, roundings, st.just(in_place))
    whole = st.tuples(any_minifloats(), st.tuples(*[st.booleans()] * 4), roundings).map(
        lambda drawn: LayerFormats(*(drawn[0] if kept else None for kept in drawn[1]), drawn[2], in_place)
    )
    alike = st.builds(
        lambda formats: LayerFormats(formats.input, formats.output, formats.params, formats.params, None, in_place),
        st.builds(LayerFormats, value, value, st.one_of(signed(), any_minifloats(), st.none())),
    )
    return st.one_of(mixed, whole, alike)


def signed() -> SearchStrategy[DynamicFixedPoint]:
    """Fixed point as weights have it."""
    return st.builds(DynamicFixedPoint, st.integers(1, 32), st.integers(-20, 40))

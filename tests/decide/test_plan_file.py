"""Plans as JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.decide.plan import QuantPlan
from ristretto.decide.plan_file import layer_to_json, plan_from_json
from ristretto.errors import FormatError
from ristretto.numerics.formats import NAMED, ChannelFixedPoint, DynamicFixedPoint, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import ROLES, LayerFormats
from ristretto.numerics.rounding import Rounding
from tests.numerics.strategies import fixed_points, layer_formats

ROUNDINGS = st.sampled_from([None, *Rounding])
EIGHT = DynamicFixedPoint(8, 5)


def read(entry: object) -> LayerFormats:
    return plan_from_json({"layers": {"l": entry}}, "f.json").layers["l"]


@given(st.booleans().flatmap(lambda in_place: layer_formats(in_place=in_place, roundings=ROUNDINGS)))
def test_every_kind_of_format_survives_json(formats: LayerFormats) -> None:
    if any(formats.at(role) is not None for role in ROLES):
        text = json.dumps({"layers": {"l": {**layer_to_json(formats), "type": "Convolution", "ranges": {}}}})
        assert plan_from_json(json.loads(text), "f.json") == QuantPlan({"l": formats})


@given(fixed_points(32), st.lists(st.integers(-20, 20), min_size=1).map(tuple))
def test_a_bias_may_have_what_a_prototxt_cannot_say(params: DynamicFixedPoint, fls: tuple[int, ...]) -> None:
    formats = LayerFormats(params=params, bias=ChannelFixedPoint(8, fls))
    assert read(json.loads(json.dumps(layer_to_json(formats)))) == formats


def test_the_words() -> None:
    formats = LayerFormats(
        NAMED["half"], Minifloat(4, 3), PowerOfTwo(-6, 0, True), None, Rounding.STOCHASTIC, in_place=False
    )
    assert layer_to_json(formats) == {
        "in": {"float_format": "half"},
        "out": {"exp_bits": 4, "mant_bits": 3},
        "params": {"exp_min": -6, "exp_max": 0, "keep_zero": True},
        "rounding": "stochastic",
        "in_place": False,
    }
    assert layer_to_json(LayerFormats(params=ChannelFixedPoint(8, (7, 6)))) == {"params": {"bw": 8, "fls": [7, 6]}}
    assert layer_to_json(LayerFormats(params=EIGHT)) == {"params": {"bw": 8, "fl": 5}, "bias": None}


def test_a_bias_that_is_not_given() -> None:
    """It is as the weights, but float beside powers of two and weights by channel."""
    eight = {"bw": 8, "fl": 5}
    assert read({"params": eight}) == LayerFormats(params=EIGHT, bias=EIGHT)
    assert read({"params": eight, "bias": None}) == LayerFormats(params=EIGHT)
    assert read({"params": {"bw": 8, "fls": [5]}}) == LayerFormats(params=ChannelFixedPoint(8, (5,)))
    assert read({"params": {"exp_min": -8, "exp_max": -1}}) == LayerFormats(params=PowerOfTwo(-8, -1))
    assert read({"in": {"float_format": "e5m2+subnormals"}}) == LayerFormats(Minifloat(5, 2, subnormals=True))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"in": {"float_format": "float16"}}, "'float16' is no floating point format; use half, bfloat16"),
        ({"in": {"float_format": 16}}, "'16' is no floating point format"),
        ({"in": {"bw": 8, "fls": [3]}}, "in has one fractional length, not one for each channel; write bw and fl"),
        ({"params": {"bw": 8, "fls": 3}}, "params needs a list fls of whole numbers"),
        ({"params": {"bw": 8, "fls": [3, 4.5]}}, "fl must be a whole number, got 4.5"),
        ({"params": {"bw": 8, "fls": []}}, "a format by channel needs a fractional length for each"),
        ({"params": {"exp_min": -8, "exp_max": -1, "keep_zero": 1}}, "keep_zero of params is true or false, not 1"),
        ({"params": {"bw": 8, "fl": 1, "signed": "no"}}, "signed of params is true or false, not 'no'"),
        (
            {"in": {"bw": 8, "fl": 1, "float_format": "half"}},
            "'bw' is no part of the format of in; it has float_format",
        ),
        ({"in": {"bw": 8, "fl": 1, "sgined": False}}, "'sgined' is no part of the format of in; it has bw, fl, signed"),
        ({"in": {"bw": 8, "fl": 1}, "in_place": "no"}, "in_place is true or false, not 'no'"),
        ({"in": {"bw": 8, "fl": 1}, "rounding": "up"}, "there is no rounding 'up'; use one of half_even, half_away"),
        ({"rounding": "half_even"}, "none of in, out, params and bias is given"),
        ({"inn": {"bw": 8, "fl": 1}}, "'inn' is no part of a layer; a layer has in, out, params and bias"),
    ],
)
def test_mistakes_name_their_place(entry: object, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(entry)
    assert str(caught.value).startswith(f"f.json: layer 'l': {message}")

from __future__ import annotations

import math

import pytest

from ristretto.decide.choose import IntegerLengths, LayerRanges, activation_il, integer_lengths, params_il
from ristretto.decide.plan import QuantPlan, group_of
from ristretto.decide.plan_file import layer_to_json, plan_from_json
from ristretto.decide.stats import TensorStats, merge_stats
from ristretto.errors import FormatError
from ristretto.numerics.formats import DynamicFixedPoint, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats


@pytest.mark.parametrize(
    ("abs_max", "activation", "params"),
    [(1.0, 0, 1), (1.01, 1, 2), (0.99, 0, 1), (4.0, 2, 3), (150.0, 8, 9), (0.2, -2, -1), (2.0**-9, -9, -8)],
)
def test_the_originals_rules(abs_max: float, activation: int, params: int) -> None:
    """il = ceil(log2(max)) for activations, ceil(log2(max) + 1) for weights; the sign of the extreme is no matter."""
    for stats in (TensorStats(-abs_max, 0.1 * abs_max), TensorStats(0.0, abs_max)):
        assert activation_il(stats) == activation
        assert params_il(stats) == params


@pytest.mark.parametrize("abs_max", [0.0, math.nan, math.inf])
def test_ranges_without_a_logarithm(abs_max: float) -> None:
    stats = TensorStats(0.0, abs_max)
    assert (activation_il(stats), params_il(stats)) == (0, 1)


def test_keep_input_spares_the_input_alone() -> None:
    ranges = LayerRanges(TensorStats(0, 0.996), TensorStats(-3, 3), TensorStats(-0.4, 0.4))
    assert integer_lengths(ranges) == IntegerLengths(0, 2, 0)
    assert integer_lengths(ranges, keep_input=True) == IntegerLengths(1, 2, 0)
    assert integer_lengths(ranges, keep_input=True).input_format(8).max > 0.98


def test_stats_join_and_keep_nan_visible() -> None:
    first = {"a": TensorStats(-1, 2), "b": TensorStats(0, 1)}
    second = {"a": TensorStats(-3, 1), "b": TensorStats(math.nan, math.nan)}
    joined = merge_stats([first, second])
    assert joined["a"] == TensorStats(-3, 2, 2)
    assert joined["a"].abs_max == 3
    assert math.isnan(joined["b"].abs_max)


LENGTHS = {"c": IntegerLengths(2, 3, 0), "f": IntegerLengths(4, 1, -1)}
GROUPS = {"c": "conv", "f": "fc"}
FULL = DynamicFixedPoint(32, 16)


def test_groups() -> None:
    assert [group_of(kind) for kind in ("Convolution", "InnerProduct", "ReLU", "ConvolutionRistretto")] == [
        "conv",
        "fc",
        None,
        None,
    ]


@pytest.mark.parametrize(
    "formats",
    [
        LayerFormats(DynamicFixedPoint(8, 5), None, DynamicFixedPoint(4, -2), DynamicFixedPoint(16, 9)),
        LayerFormats(*[Minifloat(5, 10)] * 4),
        LayerFormats(DynamicFixedPoint(8, 5, False), FULL, PowerOfTwo(-8, -1), None),
    ],
)
def test_plans_survive_json(formats: LayerFormats) -> None:
    read = plan_from_json({"layers": {"l": {**layer_to_json(formats), "type": "Convolution"}}}, "f.json")
    assert read == QuantPlan({"l": formats})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], 'f.json: a formats file needs an object "layers"; write {"layers": '),
        ({"layers": {"c": 3}}, "f.json: layer 'c': expected an object with in, out, params or bias"),
        ({"layers": {"c": {}}}, "f.json: layer 'c': none of in, out, params and bias is given"),
        ({"layers": {"c": {"in": 8}}}, "f.json: layer 'c': in must be an object such as"),
        ({"layers": {"c": {"in": {"bw": 8}}}}, "f.json: layer 'c': in needs a whole number fl"),
        ({"layers": {"c": {"in": {"bw": True, "fl": 1}}}}, "f.json: layer 'c': in needs a whole number bw"),
        ({"layers": {"c": {"out": {"bw": 64, "fl": 1}}}}, "f.json: layer 'c': bw must be in 1..32, got 64"),
    ],
)
def test_bad_formats_files(data: object, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        plan_from_json(data, "f.json")
    assert str(caught.value).startswith(message)

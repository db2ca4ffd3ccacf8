"""Plans: what follows from ranges, widths and wishes."""

from __future__ import annotations

import pytest

from ristretto.decide.choose import (
    DEFAULT_FORMAT,
    IntegerLengths,
    LayerRanges,
    accumulator_bias_format,
    bias_format,
    minifloat_exp_bits,
)
from ristretto.decide.plan import (
    Group,
    LayerSites,
    QuantPlan,
    Scheme,
    Widths,
    dynamic_fixed_point_plan,
    minifloat_plan,
    power_of_two_plan,
)
from ristretto.decide.select import Selection, overridden, parse_selector
from ristretto.decide.stats import TensorStats
from ristretto.errors import UsageError
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats

NOTHING = TensorStats(0.0, 0.0, 0)
ONE = TensorStats(-1.0, 1.0)


def site(group: Group, lengths: IntegerLengths, bias: float | None = None, **more: object) -> LayerSites:
    ranges = LayerRanges(ONE, ONE, ONE, None if bias is None else TensorStats(-bias, bias))
    return LayerSites(group, ranges, lengths, **more)  # type: ignore[arg-type]


SITES = {
    "c": site("conv", IntegerLengths(2, 3, 0), bias=0.3),
    "f": site("fc", IntegerLengths(4, 1, -1), bias=5.0),
}


def fixed(bw: int, il: int, signed: bool = True) -> DynamicFixedPoint:
    return DynamicFixedPoint(bw, bw - il, signed)


def test_partial_plans_leave_the_rest_of_a_layer_at_the_schemas_defaults() -> None:
    plan = dynamic_fixed_point_plan(SITES, Widths(conv_params=4))
    assert plan.layers == {"c": LayerFormats(DEFAULT_FORMAT, DEFAULT_FORMAT, fixed(4, 0), fixed(4, 0))}
    plan = dynamic_fixed_point_plan(SITES, Widths(conv_params=4), Scheme(rest=None))
    assert plan.layers == {"c": LayerFormats(None, None, fixed(4, 0), fixed(4, 0))}
    plan = dynamic_fixed_point_plan(SITES, Widths(activations=8), Scheme(rest=None))
    assert plan.layers["c"] == LayerFormats(fixed(8, 2), fixed(8, 3), None, None)
    plan = dynamic_fixed_point_plan(SITES, Widths(activations=8))
    assert plan.layers["c"] == LayerFormats(fixed(8, 2), fixed(8, 3), DEFAULT_FORMAT, DEFAULT_FORMAT)
    assert plan.layers["f"].output == fixed(8, 1)


def test_the_whole_plan() -> None:
    plan = dynamic_fixed_point_plan(SITES, Widths(8, 2, 16))
    assert plan.layers["f"] == LayerFormats(fixed(16, 4), fixed(16, 1), fixed(2, -1), fixed(2, -1))


def test_a_bias_at_the_accumulators_scale_is_coarser_only_where_it_would_saturate() -> None:
    plan = dynamic_fixed_point_plan(SITES, Widths(8, 8, 8), Scheme(bias="accumulator"))
    assert plan.layers["c"].bias == DynamicFixedPoint(32, (8 - 2) + (8 - 0))
    assert accumulator_bias_format(TensorStats(-5.0, 3.0), 40) == DynamicFixedPoint(32, 32 - 4)
    assert accumulator_bias_format(None, 20) == DynamicFixedPoint(32, 20)


def test_a_bias_of_a_width_of_its_own_does_not_saturate() -> None:
    plan = dynamic_fixed_point_plan(SITES, Widths(8, 8, 8), Scheme(bias=6))
    assert plan.layers["f"].bias == DynamicFixedPoint(6, 6 - 4)
    assert bias_format(TensorStats(-5.0, 5.0), 6).max >= 5.0


def test_a_static_format_is_that_of_all_activations() -> None:
    static = DynamicFixedPoint(16, 6)
    plan = dynamic_fixed_point_plan(SITES, Widths(8, 8, 16), Scheme(static=static))
    assert {formats.input for formats in plan.layers.values()} == {static}
    assert {formats.output for formats in plan.layers.values()} == {static}


def test_weights_by_channel_and_values_without_a_sign() -> None:
    sites = {"c": site("conv", IntegerLengths(2, 3, 0), 0.3, channel_ils=(0, -2), unsigned_input=True)}
    formats = dynamic_fixed_point_plan(sites, Widths(8, None, 8)).layers["c"]
    assert formats.params == ChannelFixedPoint(8, (8, 10))
    assert (formats.input, formats.output) == (fixed(8, 2, signed=False), fixed(8, 3))
    assert formats.bias == DynamicFixedPoint(32, 6 + 10)


def test_other_layers_are_float_where_no_width_is_given() -> None:
    sites = {
        "s": site("other", IntegerLengths(1, 2, 0), 0.5),
        "e": site("other", IntegerLengths(1, 2, 1), has_params=False),
    }
    assert dynamic_fixed_point_plan(sites, Widths(conv_params=8)).layers == {
        "s": LayerFormats(None, None, fixed(8, 0), fixed(8, 0), in_place=False)
    }
    assert dynamic_fixed_point_plan(sites, Widths(activations=8)).layers["e"] == LayerFormats(
        fixed(8, 1), fixed(8, 2), in_place=False
    )


@pytest.mark.parametrize(
    ("largest", "bits"), [(0.0, 4), (1.5, 4), (4.0, 4), (255.0, 4), (512.0, 4), (513.0, 5), (7e4, 5), (1e6, 6)]
)
def test_exponent_bits_by_the_originals_formula(largest: float, bits: int) -> None:
    """ceil(log2(log2(max) - 1) + 1), at least 4; where the logarithm has no value, 4."""
    assert minifloat_exp_bits([NOTHING, TensorStats(-largest, 0.5)]) == bits


def test_minifloat_and_power_of_two_plans() -> None:
    half = Minifloat(5, 10)
    assert minifloat_plan(SITES, half).layers["c"] == LayerFormats(half, half, half, half)
    plan = power_of_two_plan(SITES, PowerOfTwo(-8, -1), 8)
    assert plan.layers["f"] == LayerFormats(fixed(8, 4), fixed(8, 1), PowerOfTwo(-8, -1), None)


TYPES = {"conv1": "Convolution", "res:a": "Convolution", "fc": "InnerProduct"}
PLAN = QuantPlan({name: LayerFormats(*[DEFAULT_FORMAT] * 4) for name in TYPES})


def restricted(only: list[str], skip: list[str]) -> dict[str, str]:
    """For each layer the parts that are left, as initials."""
    selection = Selection(tuple(map(parse_selector, only)), tuple(map(parse_selector, skip)))
    plan = selection.restrict(PLAN, TYPES)
    return {
        name: "".join(role[0] for role in ("in", "out", "params", "bias") if formats.at(role) is not None)  # type: ignore[arg-type]
        for name, formats in plan.layers.items()
    }


@pytest.mark.parametrize(
    ("only", "skip", "left"),
    [
        ([], [], {"conv1": "iopb", "res:a": "iopb", "fc": "iopb"}),
        (["InnerProduct:params"], [], {"fc": "pb"}),
        (["*:weights"], ["conv1"], {"res:a": "p", "fc": "p"}),
        ([], ["Convolution:in", "fc:out,bias"], {"conv1": "opb", "res:a": "opb", "fc": "ip"}),
        (["res:a"], [], {"res:a": "iopb"}),
        (["conv?:activations", "fc"], ["fc:params"], {"conv1": "io", "fc": "io"}),
    ],
)
def test_selectors(only: list[str], skip: list[str], left: dict[str, str]) -> None:
    assert restricted(only, skip) == left


def test_a_selector_needs_a_pattern() -> None:
    with pytest.raises(UsageError, match="':in' names no layer"):
        parse_selector(":in")


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("conv9:in", "the layers are conv1, res:a, fc$"),
        ("conv1:weight", "the layers are conv1, res:a, fc; the parts that may follow a colon are in, out,"),
    ],
)
def test_a_selector_that_names_nothing_is_refused(text: str, cure: str) -> None:
    with pytest.raises(UsageError, match=rf"no layer to quantize has the name or type '[^']*'; {cure}"):
        Selection(skip=(parse_selector(text),)).check(TYPES)


def test_overrides_take_the_place_of_single_roles() -> None:
    own = DynamicFixedPoint(4, 2)
    plan = overridden(
        PLAN, QuantPlan({"fc": LayerFormats(params=own), "new": LayerFormats(output=own, in_place=False)})
    )
    assert plan.layers["fc"] == LayerFormats(DEFAULT_FORMAT, DEFAULT_FORMAT, own, DEFAULT_FORMAT)
    assert plan.layers["new"] == LayerFormats(output=own, in_place=False)
    assert plan.layers["conv1"] == PLAN.layers["conv1"]

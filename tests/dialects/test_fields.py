"""quantization_param with all that the extended dialect says, written, read, and refused by the original's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ristretto.graph.layers  # noqa: F401  (registers the emitters)
from ristretto.caffe.net import build_net
from ristretto.caffe.textproto import parse
from ristretto.decide.plan import OTHER_TYPES, QuantPlan
from ristretto.dialects.fields import PLAIN_TYPES, quantization_fields, read_formats, read_plan, type_with_formats
from ristretto.dialects.prototxt import planned_layers, write_plan
from ristretto.errors import FormatError, RistrettoError
from ristretto.graph.registry import emitted_types
from ristretto.numerics.formats import (
    NAMED,
    ChannelFixedPoint,
    DynamicFixedPoint,
    Minifloat,
    PowerOfTwo,
)
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from tests.numerics.strategies import fixed_points, layer_formats, minifloats, powers, signed

NET = """\
layer {{ name: "d" type: "Input" top: "d" input_param {{ shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }} }} }}
layer {{ name: "l" type: "{}" bottom: "d" top: "l" {} }}
"""
FULL = DynamicFixedPoint(32, 16)
HALF = NAMED["half"]
ROUNDINGS = st.sampled_from([None, Rounding.STOCHASTIC])


def formats_of(kind: str, fields: str) -> LayerFormats:
    """What a layer with these fields is read as."""
    net = build_net(parse(NET.format(kind, f"quantization_param {{ {fields} }}"), "q.prototxt"))
    return read_formats(net.layers[1])


def written(kind: str, formats: LayerFormats) -> QuantPlan:
    document = write_plan(parse(NET.format(kind, "")), QuantPlan({"l": formats}))
    return read_plan(build_net(document))


@given(st.sampled_from(["Convolution", "InnerProduct"]), layer_formats(in_place=True, roundings=ROUNDINGS))
def test_every_kind_of_format_is_read_as_it_was_written(kind: str, formats: LayerFormats) -> None:
    assert written(kind, formats) == QuantPlan({"l": formats})


@given(st.sampled_from(sorted(PLAIN_TYPES)), layer_formats(in_place=False, roundings=ROUNDINGS))
def test_every_kind_of_format_in_a_layer_that_keeps_its_type(kind: str, formats: LayerFormats) -> None:
    assert written(kind, formats) == QuantPlan({"l": formats})


@given(layer_formats(in_place=True, roundings=ROUNDINGS))
def test_the_originals_dialect_says_what_it_means_or_refuses(formats: LayerFormats) -> None:
    """No line that the original does not know, and nothing that it would read as something else."""
    originals = {"precision", "rounding_scheme", "mant_bits", "exp_bits", "exp_min", "exp_max"}
    originals |= {f"{what}_{part}" for what in ("bw", "fl") for part in ("layer_in", "layer_out", "params")}
    try:
        lines = quantization_fields("l", formats, "original")
    except FormatError as error:
        assert error.layer == "l"
        assert "cannot be said in the original's dialect; use --dialect extended" in str(error)
    else:
        assert {line.split(":")[0] for line in lines} <= originals
        assert formats_of("ConvolutionRistretto", " ".join(lines)) == formats


@pytest.mark.parametrize(
    ("formats", "what"),
    [
        (LayerFormats(FULL, FULL, PowerOfTwo(-8, -1, keep_zero=True)), "a zero among powers of two"),
        (LayerFormats(FULL, FULL, PowerOfTwo(-8, -1), FULL), "a bias format of its own"),
        (LayerFormats(FULL, FULL, FULL, HALF), "a bias format of its own"),
        (LayerFormats(FULL, FULL, FULL, None), "a part left in float"),
        (LayerFormats(None, FULL, FULL, FULL), "a part left in float"),
        (LayerFormats(DynamicFixedPoint(8, 3, False), FULL, FULL, FULL), "a value without a sign bit"),
        (LayerFormats(FULL, FULL, ChannelFixedPoint(8, (1, 2)), None), "a fractional length for each channel"),
        (LayerFormats(HALF, HALF, HALF, HALF), "this floating point format"),
        (LayerFormats(FULL, FULL, Minifloat(5, 10), Minifloat(5, 10)), "this floating point format"),
    ],
)
def test_wishes_beyond_the_originals_dialect(formats: LayerFormats, what: str) -> None:
    with pytest.raises(FormatError) as caught:
        quantization_fields("l", formats, "original")
    assert str(caught.value).startswith(
        f"layer 'l': {what} cannot be said in the original's dialect; use --dialect ext"
    )
    assert quantization_fields("l", formats, "extended")


@given(fixed_points(32), fixed_points(32), signed(), minifloats(), powers())
def test_what_the_original_itself_writes_can_be_said_in_its_dialect(
    inputs: DynamicFixedPoint,
    outputs: DynamicFixedPoint,
    params: DynamicFixedPoint,
    small: Minifloat,
    power: PowerOfTwo,
) -> None:
    inputs, outputs = (DynamicFixedPoint(each.bw, each.fl) for each in (inputs, outputs))
    power = PowerOfTwo(power.exp_min, power.exp_max)
    for formats in (
        LayerFormats(inputs, outputs, params, params),
        LayerFormats(small, small, small, small),
        LayerFormats(inputs, outputs, power, None),
    ):
        lines = quantization_fields("l", formats, "original")
        assert formats_of("FcRistretto", " ".join(lines)) == formats


@pytest.mark.parametrize(
    ("formats", "lines"),
    [
        (LayerFormats(HALF, HALF, HALF, HALF), ["precision: MINIFLOAT", 'float_format: "half"']),
        (
            LayerFormats(None, Minifloat(4, 3), None, None),
            [
                "precision: MINIFLOAT", "mant_bits: 3", "exp_bits: 4",
                "float_layer_in: true", "float_params: true", "float_bias: true",
            ],
        ),
        (
            LayerFormats(None, DynamicFixedPoint(8, 4), ChannelFixedPoint(8, (7, -2)), DynamicFixedPoint(32, 11)),
            [
                "bw_layer_out: 8", "bw_params: 8", "bw_bias: 32", "fl_layer_out: 4", "fl_bias: 11",
                "float_layer_in: true", "fl_params_channel: [7, -2]",
            ],
        ),
        (
            LayerFormats(DynamicFixedPoint(8, 4, False), HALF, PowerOfTwo(-6, 0, True), None),
            [
                "precision: INTEGER_POWER_OF_2_WEIGHTS", "exp_min: -6", "exp_max: 0", "keep_zero: true",
                "bw_layer_in: 8", "fl_layer_in: 4", "unsigned_layer_in: true", 'float_format_layer_out: "half"',
            ],
        ),
        (
            LayerFormats(FULL, FULL, None, None),
            ["bw_layer_in: 32", "bw_layer_out: 32", "fl_layer_in: 16", "fl_layer_out: 16", "float_params: true"],
        ),
        (
            LayerFormats(FULL, FULL, FULL, FULL, Rounding.STOCHASTIC),
            [
                "rounding_scheme: STOCHASTIC", "bw_layer_in: 32", "bw_layer_out: 32", "bw_params: 32",
                "fl_layer_in: 16", "fl_layer_out: 16", "fl_params: 16",
            ],
        ),
    ],
)  # fmt: skip
def test_the_fields_by_name(formats: LayerFormats, lines: list[str]) -> None:
    assert quantization_fields("l", formats, "extended") == lines


@pytest.mark.parametrize(
    ("fields", "formats"),
    [
        ("", LayerFormats(FULL, FULL, FULL, FULL)),
        ("float_layer_in: true bw_layer_in: 8", LayerFormats(None, FULL, FULL, FULL)),
        ("float_params: true", LayerFormats(FULL, FULL, None, None)),
        ("float_params: true bw_bias: 8 fl_bias: 3", LayerFormats(FULL, FULL, None, DynamicFixedPoint(8, 3))),
        ("float_bias: true", LayerFormats(FULL, FULL, FULL, None)),
        ("fl_params_channel: 3 bw_params: 8", LayerFormats(FULL, FULL, ChannelFixedPoint(8, (3,)), FULL)),
        ("precision: MINIFLOAT", LayerFormats(*[Minifloat(8, 23)] * 4)),
        ('precision: MINIFLOAT float_format: "half"', LayerFormats(*[HALF] * 4)),
        ("precision: INTEGER_POWER_OF_2_WEIGHTS", LayerFormats(FULL, FULL, PowerOfTwo(-8, -1), None)),
        ('float_format_params: "fp8_e4m3"', LayerFormats(FULL, FULL, NAMED["fp8_e4m3"], NAMED["fp8_e4m3"])),
    ],
)
def test_unset_fields_of_a_quantized_type_mean_32_16(fields: str, formats: LayerFormats) -> None:
    assert formats_of("ConvolutionRistretto", fields) == formats


@pytest.mark.parametrize(
    ("fields", "formats"),
    [
        ("", LayerFormats(in_place=False)),
        ("bw_layer_out: 8 fl_layer_out: 4", LayerFormats(None, DynamicFixedPoint(8, 4), in_place=False)),
        ("bw_params: 8 fl_params: 7", LayerFormats(params=DynamicFixedPoint(8, 7), in_place=False)),
        ("fl_params_channel: [3, 4] bw_params: 8", LayerFormats(params=ChannelFixedPoint(8, (3, 4)), in_place=False)),
        (
            'precision: MINIFLOAT float_format: "half" float_layer_in: true',
            LayerFormats(None, HALF, HALF, HALF, in_place=False),
        ),
        ("precision: INTEGER_POWER_OF_2_WEIGHTS", LayerFormats(params=PowerOfTwo(-8, -1), in_place=False)),
    ],
)
def test_unset_fields_of_a_plain_type_mean_float(fields: str, formats: LayerFormats) -> None:
    assert formats_of("Scale", fields) == formats


def test_plain_types_keep_their_type_and_need_a_quantization_param() -> None:
    formats = LayerFormats(FULL, FULL)
    document = parse(NET.format("Pooling", "pooling_param { kernel_size: 2 }"))
    assert read_plan(build_net(document)) == QuantPlan()
    quantized = write_plan(document, QuantPlan({"l": formats}))
    assert 'type: "Pooling"' in quantized.text
    # A file written by hand need not say that such layers read a copy.
    assert read_plan(build_net(quantized)) == QuantPlan({"l": LayerFormats(FULL, FULL, in_place=False)})
    assert planned_layers(document, QuantPlan({"l": formats, "d": formats})) == {"l"}
    with pytest.raises(FormatError) as caught:
        write_plan(document, QuantPlan({"l": formats}), "original")
    assert str(caught.value) == (
        "layer 'l': formats of a layer of type 'Pooling' cannot be said in the original's dialect; "
        "the nearest is float, --nearest takes it; the extended dialect says it as it is"
    )


def test_plain_types_can_be_run() -> None:
    assert emitted_types() >= PLAIN_TYPES >= OTHER_TYPES


@pytest.mark.parametrize(
    ("formats", "kind"),
    [
        (LayerFormats(*[Minifloat(5, 10)] * 4), "LRNRistretto"),
        (LayerFormats(*[Minifloat(5, 10)] * 4, in_place=False), "LRN"),
        (LayerFormats(FULL, FULL), "LRN"),
    ],
)
def test_lrn_has_a_quantized_type_for_minifloat_alone(formats: LayerFormats, kind: str) -> None:
    assert type_with_formats("LRN", formats) == kind
    assert build_net(write_plan(parse(NET.format("LRN", "")), QuantPlan({"l": formats}))).layers[1].type == kind


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        (LayerFormats(ChannelFixedPoint(8, (1,))), "a fractional length for each channel: only for weights, not for"),
        (LayerFormats(bias=ChannelFixedPoint(8, (1,))), "a fractional length for each channel: only for weights"),
        (LayerFormats(output=PowerOfTwo(0, 1)), "powers of two: only for weights, not for 'out'"),
        (LayerFormats(params=DynamicFixedPoint(8, 3, False)), "'params' without a sign bit cannot be said"),
        (LayerFormats(FULL, rounding=Rounding.TRUNCATE), "rounding truncate is no field of a layer; a prototxt knows"),
    ],
)
def test_what_no_prototxt_can_say(formats: LayerFormats, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        quantization_fields("l", formats, "extended")
    assert str(caught.value).startswith(f"layer 'l': {message}")


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("FcRistretto", 'float_format: "half"', "float_format goes with precision: MINIFLOAT"),
        ("FcRistretto", "keep_zero: true", "keep_zero goes with precision: INTEGER_POWER_OF_2_WEIGHTS"),
        (
            "FcRistretto",
            "precision: MINIFLOAT fl_params_channel: 3",
            "fl_params_channel goes with precision: DYNAMIC_FIXED_POINT",
        ),
        ("FcRistretto", 'precision: MINIFLOAT float_format: "f16"', "'f16' is no floating point format; use half, bfl"),
        ("FcRistretto", 'float_format_bias: "f16"', "'f16' is no floating point format"),
        (
            "FcRistretto",
            'precision: MINIFLOAT float_format: "half" exp_bits: 4',
            "float_format names a format, exp_bits and mant_bits make one; keep one of the two",
        ),
        ("FcRistretto", "precision: MINIFLOAT exp_bits: 9", "exp_bits must be in 1..8, got 9; choose"),
        ("FcRistretto", "precision: INTEGER_POWER_OF_2_WEIGHTS exp_min: 3", "exp_min 3 is above exp_max -1"),
        ("FcRistretto", "fl_params_channel: [3, 999]", "fl must be in -128..256, got 999"),
        ("FcRistretto", "bw_bias: 8", "bw_bias and fl_bias go together; set both"),
        ("FcRistretto", "bw_params: 40", "bw must be in 1..32, got 40"),
        ("Pooling", "fl_layer_in: 8", "bw_layer_in and fl_layer_in go together; set both"),
        ("Pooling", "bw_layer_out: 8", "bw_layer_out and fl_layer_out go together; set both"),
        ("Scale", "bw_params: 8", "bw_params and fl_params go together; set both"),
        ("Scale", "fl_bias: 8", "bw_bias and fl_bias go together; set both"),
    ],
)
def test_fields_that_contradict_each_other_are_placed(kind: str, fields: str, message: str) -> None:
    with pytest.raises(RistrettoError) as caught:
        formats_of(kind, fields)
    text = str(caught.value)
    assert text.startswith("q.prototxt:2:")
    assert f"layer 'l': {message}" in text

"""Formats in the dialects of other tools: what they say is read again, what they cannot say is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ristretto.caffe.net import build_net
from ristretto.caffe.textproto import Document, parse
from ristretto.decide.plan import QuantPlan
from ristretto.dialects.base import grid_of_scale
from ristretto.dialects.fields import Dialect
from ristretto.dialects.prototxt import convert_plan, settle_plan, write_plan
from ristretto.dialects.registry import DIALECTS, detect, plan_of
from ristretto.dialects.wiring import wire
from ristretto.errors import FormatError, RistrettoError
from ristretto.numerics.formats import ChannelFixedPoint, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from tests.dialects.nets import CHAIN, LINEAR, alike, chain, extended_plans, fixed, original_plans

OTHERS: tuple[Dialect, ...] = ("chaidnn", "intel", "accdnn")


def read(document: Document, dialect: Dialect | None = None, *, nearest: bool = False) -> QuantPlan:
    return plan_of(build_net(document), dialect or "auto", nearest)


# --- round trips ---


@settings(deadline=None)
@given(original_plans(8, 6, 4, 16), st.sampled_from(OTHERS))
def test_the_original_survives_whatever_dialect_can_say_it(plan: QuantPlan, dialect: Dialect) -> None:
    """There and back again gives the same text; what cannot be said is refused, with a layer."""
    document = write_plan(chain(bias=False), plan, "original")
    try:
        there, _, changes = convert_plan(document, "auto", dialect)
    except FormatError as error:
        assert error.layer in LINEAR
        return
    assert not changes
    assert read(there, dialect) == plan
    back, _, _ = convert_plan(there, "accdnn" if dialect == "accdnn" else "auto", "original")
    assert back == document


@settings(deadline=None)
@given(original_plans(8), st.sampled_from(OTHERS), st.booleans())
def test_what_is_nearest_can_be_said(plan: QuantPlan, dialect: Dialect, bias: bool) -> None:
    """Settling once is enough: it is written without an error and read as it is, from the dialect and the extension."""
    document = chain(bias=bias)
    settled = settle_plan(document, plan, dialect)
    assert settle_plan(document, settled, dialect) == settled
    written = write_plan(document, settled, dialect)
    assert read(written, dialect) == settled
    extended, _, _ = convert_plan(written, dialect, "extended")
    assert read(extended) == settled
    again, _, _ = convert_plan(extended, "auto", dialect)
    assert read(again, dialect) == settled


@settings(deadline=None)
@given(extended_plans(8, 6, 16), st.sampled_from(("original", *OTHERS)), st.booleans())
def test_what_is_nearest_to_the_extension_can_be_said(plan: QuantPlan, dialect: Dialect, bias: bool) -> None:
    document = chain(bias=bias)
    try:
        settled = settle_plan(document, plan, dialect)
    except FormatError as error:
        assert "there is nothing near it" in str(error)
        assert any(formats.output is None for formats in plan.layers.values())
        return
    written = write_plan(document, settled, dialect)
    assert read(written, dialect) == settled
    extended, _, changes = convert_plan(written, dialect, "extended")
    assert not changes
    assert read(extended) == settled


@given(original_plans(8, 6), st.sampled_from(OTHERS))
def test_everything_else_stays(plan: QuantPlan, dialect: Dialect) -> None:
    written = write_plan(chain(bias=False), settle_plan(chain(bias=False), plan, dialect), dialect)
    for kept in ("# a net", "# the first", "strange_param { depth: 3 }"):
        assert kept in written.text
    types = {layer.name: layer.type for layer in build_net(written).layers}
    quantized = dialect == "accdnn"
    assert types["conv1"] == ("ConvolutionRistretto" if quantized else "Convolution")
    assert types["ip"] == ("FcRistretto" if quantized else "InnerProduct")


def test_comments_stay_where_fields_are_the_same() -> None:
    text = write_plan(chain(bias=False), QuantPlan(dict.fromkeys(LINEAR, alike())), "original").text
    text = text.replace("fl_layer_in: 5", "fl_layer_in: 5  # from a scope", 1).replace(
        "fl_layer_out: 4", "fl_layer_out: 5"
    )
    text = text.replace("fl_layer_in: 5 bw", "bw")
    there, _, _ = convert_plan(parse(text), "original", "accdnn", nearest=True)
    assert "# from a scope" in there.text


# --- detection ---


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        (CHAIN.replace("BIAS", "true"), "extended"),
        ('layer { name: "c" type: "ConvolutionRistretto" quantization_param { bw_params: 8 } }', "original"),
        ('layer { name: "c" type: "ConvolutionRistretto" quantization_param { bw_bias: 8 fl_bias: 2 } }', "extended"),
        ('layer { name: "c" type: "Pooling" precision_param { bw_layer_in: 8 } }', "chaidnn"),
        ('layer { name: "c" type: "Convolution" quantization_param { bw_params: 8 scale_in: 2 } }', "intel"),
        ('layer { name: "c" type: "Convolution" quantization_param { bw_params: 8 fl_params: 2 } }', "intel"),
        ('layer { name: "c" type: "Convolution" quantization_param { bw_params: 8 th_params: 2 } }', "chaidnn"),
        (
            'layer { name: "c" type: "Convolution" quantization_param { bw_params: 8 fl_params: 2 } } '
            'layer { name: "e" type: "Eltwise" quantization_param { bw_layer_in: 8 fl_layer_in: 2 } }',
            "chaidnn",
        ),
        ('layer { name: "q" type: "Convolution" quantization_param { bit_width: 8 range: 1.5 } }', "extended"),
    ],
)
def test_the_names_of_fields_tell_the_dialect(text: str, dialect: Dialect) -> None:
    assert detect(parse(text)) == dialect


def test_dialects_are_known_by_their_names() -> None:
    assert {name: dialect.name for name, dialect in DIALECTS.items()} == {name: name for name in DIALECTS}


# --- CHaiDNN ---


def layer(kind: str, fields: str, more: str = "") -> Document:
    return parse(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
        f'layer {{ name: "l" type: "{kind}" bottom: "d" top: "l" {more}\n  {fields} }}\n',
        "q.prototxt",
    )


CONV = "convolution_param { num_output: 2 kernel_size: 3 }"
MAPS = "bw_layer_in: 8 bw_layer_out: 8 fl_layer_in: 3 fl_layer_out: 4"


@pytest.mark.parametrize(
    ("kind", "fields", "more", "formats"),
    [
        (
            "Convolution",
            f'quant_type: "DynamicFixed" {MAPS} bw_params: 8 fl_params: 7',
            CONV,
            LayerFormats(fixed(8, 3), fixed(8, 4), fixed(8, 7), fixed(8, 4)),
        ),
        (
            "Convolution",
            'quant_type: "Xilinx" bw_layer_in: 8 bw_layer_out: 6 bw_params: 8 th_layer_in: 15.875 '
            "th_layer_out: 1.9375 th_params: 0.9921875 th_params: 0.49609375",
            CONV,
            LayerFormats(fixed(8, 3), fixed(6, 4), ChannelFixedPoint(8, (7, 8)), fixed(16, 11)),
        ),
        ("Eltwise", MAPS, "", LayerFormats(fixed(8, 3), fixed(8, 4), in_place=False)),
        (
            "Scale",
            f"{MAPS} scale_gamma_bw: 8 scale_gamma_fl: 5 scale_beta_bw: 8 scale_beta_fl: 6 scale_gamma_by_std_bw: 8",
            "scale_param { bias_term: true }",
            LayerFormats(fixed(8, 3), fixed(8, 4), fixed(8, 5), fixed(8, 6), in_place=False),
        ),
        (
            "BatchNorm",
            f"{MAPS} batchnorm_mean_bw: 8 batchnorm_mean_fl: 4 batchnorm_variance_bw: 8 batchnorm_variance_fl: 4",
            "",
            LayerFormats(fixed(8, 3), fixed(8, 4), fixed(8, 4), in_place=False),
        ),
    ],
)
def test_chaidnn_is_read_and_written(kind: str, fields: str, more: str, formats: LayerFormats) -> None:
    document = layer(kind, f"precision_param {{ {fields} }}", more)
    assert read(document) == QuantPlan({"l": formats})
    extended, _, _ = convert_plan(document, "auto", "extended")
    assert "precision_param" not in extended.text
    assert read(extended) == QuantPlan({"l": formats})
    if formats.output != fixed(6, 4):
        back, _, _ = convert_plan(extended, "auto", "chaidnn")
        assert read(back) == QuantPlan({"l": formats})


def test_the_first_chaidnn_had_its_fields_elsewhere() -> None:
    fields = f"{{ {MAPS} bw_params: 8 fl_params: 7 }}"
    expected = read(layer("Convolution", f"precision_param {fields}", CONV))
    document = layer("Convolution", f"quantization_param {fields}", CONV)
    assert read(document, "chaidnn") == expected
    assert read(document) != expected  # it could be Intel's


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("Convolution", "bw_layer_in: 7", "q.prototxt:3:34: layer 'l': bw_layer_in is 7: CHaiDNN has 8 and 6 bits; "),
        ("Convolution", "bw_layer_in: 8", "layer 'l': fl_layer_in is missing; CHaiDNN has no default for it"),
        ("Convolution", 'quant_type: "Linear"', "quant_type has no value 'Linear'; write \"DynamicFixed\" or "),
        (
            "Eltwise",
            'quant_type: "Xilinx" bw_layer_in: 8 th_layer_in: 752.14132257 bw_layer_out: 8 th_layer_out: 1016',
            "th_layer_in 752.141296 makes a scale that is no power of two; the nearest is 1016, --nearest takes it",
        ),
        (
            "BatchNorm",
            f"{MAPS} batchnorm_mean_bw: 8 batchnorm_mean_fl: 4 batchnorm_variance_bw: 8 batchnorm_variance_fl: 3",
            "mean in <8, 4> and variance in <8, 3>: they have one format here",
        ),
    ],
)
def test_what_chaidnn_cannot_mean(kind: str, fields: str, message: str) -> None:
    with pytest.raises(RistrettoError) as caught:
        read(layer(kind, f"precision_param {{ {fields} }}"))
    assert message in str(caught.value)
    assert str(caught.value).startswith("q.prototxt:")


def test_thresholds_can_be_taken_for_the_nearest() -> None:
    fields = 'quant_type: "Xilinx" bw_layer_in: 8 bw_layer_out: 8 th_layer_in: 752.14132257 th_layer_out: 1106.06941786'
    plan = read(layer("Eltwise", f"precision_param {{ {fields} }}"), nearest=True)
    # 127 / 752.1 is 0.169, nearer to 1/8 than to 1/4; 127 / 1106 is 0.115, nearer to 1/8 than to 1/16
    assert plan == QuantPlan({"l": LayerFormats(fixed(8, -3), fixed(8, -3), in_place=False)})


def test_chaidnn_wants_formats_where_values_only_pass() -> None:
    plan = QuantPlan(dict.fromkeys(LINEAR, alike()))
    written = write_plan(chain(bias=False), plan, "chaidnn")
    assert written.text.count("precision_param") == 4
    pool = build_net(written).layer("pool1")
    assert pool is not None
    assert pool.view.child("precision_param").integer("fl_layer_in") == 4
    assert "pool1" not in read(written).layers


# --- Intel Caffe ---


@pytest.mark.parametrize(
    ("fields", "formats"),
    [
        (
            "bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 fl_layer_in: 3 fl_layer_out: 4 fl_params: 7",
            LayerFormats(fixed(8, 3, False), fixed(8, 4), fixed(8, 7), fixed(32, 10)),
        ),
        (
            "bw_layer_in: 8 bw_layer_out: 32 bw_params: 8 scale_in: 8 scale_out: 1 scale_params: [128, 0.5] "
            "is_negative_input: true",
            LayerFormats(fixed(8, 3), None, ChannelFixedPoint(8, (7, -1)), fixed(32, 10)),
        ),
        (
            "bw_layer_in: 8 bw_layer_out: 32 bw_params: 8 scale_in: 8 scale_params: 128 scale_params: 0",
            LayerFormats(fixed(8, 3, False), None, ChannelFixedPoint(8, (7, 0)), fixed(32, 10)),
        ),
    ],
)
def test_intels_scales_and_lengths_are_read(fields: str, formats: LayerFormats) -> None:
    document = layer("Convolution", f"quantization_param {{ {fields} }}", CONV)
    assert detect(document) == "intel"
    assert read(document) == QuantPlan({"l": formats})
    extended, _, _ = convert_plan(document, "auto", "extended")
    assert read(extended) == QuantPlan({"l": formats})
    back, _, _ = convert_plan(extended, "auto", "intel")
    assert read(back) == QuantPlan({"l": formats})


def test_intels_scale_that_is_no_power_of_two_names_the_nearest() -> None:
    fields = "bw_layer_in: 8 bw_layer_out: 32 bw_params: 8 scale_in: 91.03 scale_params: 128"
    document = layer("Convolution", f"quantization_param {{ {fields} }}", CONV)
    with pytest.raises(RistrettoError) as caught:
        read(document)
    assert str(caught.value) == (
        "q.prototxt:3:79: layer 'l': scale_in 91.0299988 is no power of two; the nearest is 64, --nearest takes it"
    )
    formats = read(document, nearest=True).layers["l"]
    assert formats.input == fixed(8, 6, False)


def test_intels_outputs_have_no_sign_before_a_relu() -> None:
    document = chain(bias=True)
    plan = settle_plan(document, QuantPlan(dict.fromkeys(LINEAR, alike())), "intel").layers
    assert plan["conv1"].output == fixed(8, 5, False)  # a ReLU reads it
    assert plan["conv2"].output == fixed(8, 4)
    assert plan["conv2"].bias == fixed(32, 12)


# --- AccDNN ---


def test_accdnn_reads_six_fields_and_has_defaults() -> None:
    layers = chain(bias=True)
    word, weights = fixed(16, 6), fixed(16, 13)
    assert read(layers, "accdnn") == QuantPlan(dict.fromkeys(LINEAR, LayerFormats(word, word, weights, weights)))
    fields = (
        "precision: MINIFLOAT bw_layer_in: 16 bw_layer_out: 16 bw_params: 4 fl_layer_in: 3 fl_layer_out: 9 fl_params: 2"
    )
    document = layer("ConvolutionRistretto", f"quantization_param {{ {fields} }}", CONV)
    assert read(document, "accdnn") == QuantPlan({"l": LayerFormats(fixed(16, 3), fixed(16, 9), *[fixed(4, 2)] * 2)})
    assert read(document) != read(document, "accdnn")


def test_accdnns_own_settings_are_read_as_the_originals() -> None:
    """Widths and points as in its example of a CIFAR-10 net (A16C8F4): nothing is left to its defaults."""
    layers = {
        "conv1": LayerFormats(fixed(16, 8), fixed(16, 7), *[fixed(8, 9)] * 2),
        "conv2": LayerFormats(fixed(16, 7), fixed(16, 10), *[fixed(8, 10)] * 2),
        "ip": LayerFormats(fixed(16, 10), fixed(16, 10), *[fixed(4, 5)] * 2),
    }
    document = write_plan(chain(bias=True), QuantPlan(layers), "original")
    assert read(document, "accdnn") == read(document) == QuantPlan(layers)
    assert write_plan(chain(bias=True), QuantPlan(layers), "accdnn") == document


def test_accdnn_keeps_what_a_batch_norm_reads_in_a_whole_word() -> None:
    text = (
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
        'layer { name: "c" type: "Convolution" bottom: "d" top: "c" '
        "convolution_param { num_output: 2 kernel_size: 3 bias_term: false } }\n"
        'layer { name: "b" type: "BatchNorm" bottom: "c" top: "b" }\n'
        'layer { name: "i" type: "InnerProduct" bottom: "b" top: "i" inner_product_param { num_output: 2 } }\n'
    )
    plan = settle_plan(parse(text), QuantPlan({"c": alike(), "i": alike()}), "accdnn")
    assert plan.layers["c"].output == fixed(16, 12)  # not finer than the products, 5 + 7
    assert read(write_plan(parse(text), plan, "accdnn"), "accdnn") == plan


def test_accdnns_neighbours_have_to_agree() -> None:
    text = write_plan(chain(bias=False), QuantPlan(dict.fromkeys(LINEAR, alike())), "original")
    with pytest.raises(RistrettoError) as caught:
        read(text, "accdnn")
    assert "layer 'conv1': the output is stored in <8, 4>, and 'conv2' takes <8, 5>" in str(caught.value)


# --- refusals ---


def with_formats(**parts: object) -> QuantPlan:
    return QuantPlan(dict.fromkeys(LINEAR, replace(alike(), **parts)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dialect", "parts", "message"),
    [
        ("chaidnn", {"input": fixed(16, 9)}, "an input in <16, 9>; <8, 1>"),
        ("chaidnn", {"params": fixed(4, 3)}, "weights in <4, 3>; <8, 7>"),
        ("chaidnn", {"input": fixed(8, 5, False)}, "an input in u<8, 5>; <8, 4>"),
        ("chaidnn", {"input": None}, "an input in float;"),
        (
            "chaidnn",
            {"rounding": Rounding.STOCHASTIC},
            "a rounding of its own (stochastic); the rounding of the whole net",
        ),
        ("intel", {"params": fixed(6, 5)}, "weights in <6, 5>; <8, 7>"),
        ("intel", {"params": PowerOfTwo(-8, -1)}, "weights in 2^-8..-1;"),
        ("intel", {"input": Minifloat(5, 10)}, "an input in e5m10;"),
        ("intel", {"output": fixed(24, 10)}, "an output in <24, 10>; float"),
        ("accdnn", {"params": fixed(16, 15)}, "weights in <16, 15>; <8, 7>"),
        ("accdnn", {"bias": fixed(16, 10)}, "a bias in <16, 10>; <8, 7>"),
        ("accdnn", {"output": fixed(8, 3)}, "an output in <8, 3>; <8, 5>"),
        ("original", {"params": ChannelFixedPoint(8, (4, 3))}, "weights in <8, 3..4>; <8, 3>"),
        ("original", {"output": fixed(8, 3, False)}, "an output in u<8, 3>; <8, 2>"),
    ],
)
def test_what_a_dialect_cannot_say_has_a_layer_and_a_nearest(
    dialect: Dialect, parts: dict[str, object], message: str
) -> None:
    plan = QuantPlan(dict.fromkeys(LINEAR, replace(alike(), **parts)))  # type: ignore[arg-type]
    refusals = DIALECTS[dialect].settle(wire(chain(bias=True)), plan.layers).refusals
    told = {f"{refusal.what}; {refusal.nearest}".strip() for refusal in refusals if refusal.layer == "conv1"}
    assert message in told
    with pytest.raises(FormatError) as caught:
        write_plan(chain(bias=True), plan, dialect)
    assert caught.value.layer in LINEAR
    far = message.endswith(";")
    assert ("there is nothing near it" in str(caught.value)) == far
    assert ("--nearest takes it" in str(caught.value)) != far


def test_chaidnn_leaves_nothing_in_float() -> None:
    with pytest.raises(FormatError) as caught:
        write_plan(chain(bias=True), QuantPlan({"conv1": alike(), "ip": alike()}), "chaidnn")
    assert str(caught.value) == (
        "layer 'conv2': a layer of type 'Convolution' in float cannot be said in CHaiDNN's dialect; "
        "give it formats (quantize --other_layers), or fold it away (--fold)"
    )


def test_a_bottom_that_others_see_rounded() -> None:
    text = (
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 dim: 8 dim: 8 } } }\n'
        'layer { name: "c" type: "Convolution" bottom: "d" top: "c" '
        "convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }\n"
        'layer { name: "e" type: "Eltwise" bottom: "c" bottom: "d" top: "e" }\n'
    )
    formats = LayerFormats(fixed(8, 5), fixed(8, 4), fixed(8, 7), fixed(8, 7))
    with pytest.raises(FormatError, match="layer 'c': a bottom rounded for 'e' too cannot be said in Intel Caffe's"):
        write_plan(parse(text), QuantPlan({"c": formats}), "intel")
    written = write_plan(parse(text), QuantPlan({"c": formats}), "intel", nearest=True)
    assert read(written).layers["c"].in_place is False
    extended, _, changes = convert_plan(written, "auto", "extended")
    assert not changes
    assert "copy_layer_in: true" in extended.text
    assert read(extended) == read(written)
    with pytest.raises(FormatError, match="a bottom rounded for this layer alone"):
        convert_plan(parse(extended.text.replace("bw_bias: 32", "")), "auto", "original")


def test_accdnn_computes_chains() -> None:
    text = CHAIN.replace("BIAS", "true") + 'layer { name: "n" type: "LRN" bottom: "ip" top: "n" }\n'
    plan = QuantPlan(dict.fromkeys(LINEAR, LayerFormats(fixed(8, 5), fixed(8, 5), fixed(8, 7), fixed(8, 7))))
    with pytest.raises(FormatError) as caught:
        write_plan(parse(text), plan, "accdnn", nearest=True)
    assert str(caught.value).startswith(
        "layer 'n': a layer of type 'LRN' cannot be said in AccDNN's dialect; it computes"
    )


@given(st.floats(2**-40, 2**40, width=32))
def test_the_nearest_power_of_two_is_the_nearest(scale: float) -> None:
    view = build_net(layer("Convolution", "quantization_param { scale_in: 1 }")).layers[1].view
    fl = grid_of_scale(view, "scale_in", scale, nearest=True)
    assert all(abs(2.0**fl - scale) <= abs(2.0**other - scale) for other in (fl - 1, fl + 1))

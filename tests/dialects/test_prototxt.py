from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from ristretto.caffe.net import build_net
from ristretto.caffe.textproto import parse
from ristretto.decide.plan import QuantPlan
from ristretto.dialects.fields import read_formats, read_plan
from ristretto.dialects.prototxt import planned_layers, write_plan
from ristretto.errors import FormatError, RistrettoError
from ristretto.numerics.formats import DynamicFixedPoint, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from tests.golden.shared import SHARED, needs_shared
from tests.numerics.strategies import fixed_points

NET = """\
name: "n"  # a comment
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "c"   # the first
  type: "Convolution"
  bottom: "d"
  top: "c"
  strange_param { depth: 3 }
  convolution_param { num_output: 2 kernel_size: 3 }
}
layer {
  name: "f"
  type: "InnerProduct" bottom: "c" top: "f"
  inner_product_param { num_output: 2 } }
"""

DFP = LayerFormats(DynamicFixedPoint(8, 5), DynamicFixedPoint(8, 4), DynamicFixedPoint(4, 7), DynamicFixedPoint(4, 7))


def test_the_edit_touches_nothing_else() -> None:
    written = write_plan(parse(NET), QuantPlan({"c": DFP})).text
    expected = NET.replace('"Convolution"', '"ConvolutionRistretto"').replace(
        "  convolution_param { num_output: 2 kernel_size: 3 }\n",
        "  convolution_param { num_output: 2 kernel_size: 3 }\n"
        "  quantization_param {\n"
        "    bw_layer_in: 8\n    bw_layer_out: 8\n    bw_params: 4\n"
        "    fl_layer_in: 5\n    fl_layer_out: 4\n    fl_params: 7\n"
        "  }\n",
    )
    assert written == expected


def test_a_quantized_net_gets_new_formats_in_place_of_the_old() -> None:
    once = write_plan(parse(NET), QuantPlan({"c": DFP, "f": DFP}))
    wider = LayerFormats(*[DynamicFixedPoint(16, 9)] * 4)
    twice = write_plan(once, QuantPlan({"c": wider, "f": wider}))
    assert twice == write_plan(parse(NET), QuantPlan({"c": wider, "f": wider}))
    assert write_plan(twice, QuantPlan({"c": DFP, "f": DFP})) == once


def test_names_without_a_layer_are_told() -> None:
    plan = QuantPlan({"c": DFP, "d": DFP, "nobody": DFP})
    assert planned_layers(parse(NET), plan) == {"c"}


@given(fixed_points(32), fixed_points(32), fixed_points(32), fixed_points(32))
def test_fixed_point_round_trip(
    inputs: DynamicFixedPoint, outputs: DynamicFixedPoint, params: DynamicFixedPoint, bias: DynamicFixedPoint
) -> None:
    params, bias = (DynamicFixedPoint(each.bw, each.fl) for each in (params, bias))
    formats = LayerFormats(inputs, outputs, params, bias)
    written = write_plan(parse(NET), QuantPlan({"c": formats}))
    assert read_plan(build_net(written)) == QuantPlan({"c": formats})


@pytest.mark.parametrize(
    "formats",
    [
        LayerFormats(*[Minifloat(5, 10)] * 4),
        LayerFormats(DynamicFixedPoint(8, 3), DynamicFixedPoint(8, 1), PowerOfTwo(-8, -1), None),
    ],
    ids=["minifloat", "powers of two"],
)
def test_other_formats_round_trip(formats: LayerFormats) -> None:
    written = write_plan(parse(NET), QuantPlan({"f": formats}), "original")
    assert read_plan(build_net(written)) == QuantPlan({"f": formats})


def test_defaults_of_unset_fields_are_simulated_to_the_letter() -> None:
    text = NET.replace('type: "Convolution"', 'type: "ConvolutionRistretto" quantization_param { bw_params: 8 }')
    formats = read_formats(build_net(parse(text)).layers[1])
    full = DynamicFixedPoint(32, 16)
    assert formats == LayerFormats(full, full, DynamicFixedPoint(8, 16), DynamicFixedPoint(8, 16))


def test_stochastic_is_the_layers_own_rounding() -> None:
    quantized = 'type: "ConvolutionRistretto" quantization_param { rounding_scheme: STOCHASTIC }'
    layer = build_net(parse(NET.replace('type: "Convolution"', quantized))).layers[1]
    assert read_formats(layer).rounding is Rounding.STOCHASTIC


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        (
            LayerFormats(DFP.input, DFP.output, DFP.params, DynamicFixedPoint(16, 9)),
            "layer 'c': a bias in <16, 9> cannot be said in the original's dialect; "
            "the nearest is <4, 7>, --nearest takes it; the extended dialect says it as it is",
        ),
        (
            LayerFormats(Minifloat(5, 10), DFP.output, Minifloat(5, 10), Minifloat(5, 10)),
            "layer 'c': an output in <8, 4> cannot be said in the original's dialect; "
            "the nearest is e5m10, --nearest takes it; the extended dialect says it as it is",
        ),
        (
            LayerFormats(None, DFP.output, DFP.params, DFP.params),
            "layer 'c': an input in float cannot be said in the original's dialect; "
            "the nearest is <32, 16>, --nearest takes it; the extended dialect says it as it is",
        ),
    ],
)
def test_what_the_originals_dialect_cannot_say(formats: LayerFormats, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        write_plan(parse(NET), QuantPlan({"c": formats}), "original")
    assert str(caught.value) == message


def test_impossible_widths_are_placed() -> None:
    quantized = 'type: "ConvolutionRistretto" quantization_param { bw_params: 40 }'
    net = build_net(parse(NET.replace('type: "Convolution"', quantized), "q.prototxt"))
    with pytest.raises(RistrettoError) as caught:
        read_plan(net)
    assert str(caught.value).startswith("q.prototxt:5:")
    assert "layer 'c': bw must be in 1..32, got 40" in str(caught.value)


@needs_shared
def test_an_empty_plan_gives_every_file_back() -> None:
    corpus = sorted((SHARED / "prototxt_corpus").glob("*.prototxt"))
    read = 0
    for path in corpus:
        try:
            document = parse(path.read_bytes(), path.name)
        except RistrettoError:
            continue
        assert write_plan(document, QuantPlan()).to_bytes() == path.read_bytes()
        read += 1
    assert read > 100


@needs_shared
@pytest.mark.parametrize("run", ["lenet_dynamic_fixed_point", "cifar10_resnet20_own_blobs", "squeezenet_100_images"])
def test_a_net_of_the_original_is_written_as_it_was_read(run: str) -> None:
    path: Path = SHARED / "golden/runs" / run / "quantized.prototxt"
    document = parse(path.read_bytes(), path.name)
    plan = read_plan(build_net(document))
    assert plan.layers
    assert write_plan(document, plan, "original").to_bytes() == path.read_bytes()

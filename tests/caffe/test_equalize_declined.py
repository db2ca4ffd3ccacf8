"""What equalising leaves as it is, and the reason that it gives."""

from __future__ import annotations

import numpy as np
import pytest
from equalize_nets import blobs, equalized_equal, replaced, uneven
from fold_nets import conv, layer, net

from ristretto.caffe.equalize import equalize
from ristretto.caffe.net import build_net
from ristretto.caffe.rules import NetState
from ristretto.caffe.weights import Weights

PASSES_NOT = "reads what it makes, and passes no factors on"


def reason(*layers: str, held: Weights | None = None, state: NetState | None = None) -> str:
    """Why the layer ``a`` of a net is not scaled; then nothing at all changes."""
    document = net(*layers)
    given_weights = uneven(document, state=state) if held is None else held
    done = equalize(build_net(document, state), given_weights)
    assert done.weights is given_weights
    assert done.pairs == ()
    return dict(done.declined)["a"]


def fc(name: str, bottom: str, top: str, param: str = "", *fields: str) -> str:
    return layer(name, "InnerProduct", bottom, top, f"inner_product_param {{ num_output: 4 {param} }}", *fields)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("Softmax", ""),
        ("LRN", ""),
        ("Clip", "clip_param { min: 0 max: 6 }"),
        ("ReLU6", ""),
        ("Sigmoid", ""),
        ("TanH", ""),
        ("ELU", ""),
        ("AbsVal", ""),
        ("BatchNorm", ""),
        ("Scale", ""),
        ("Bias", ""),
        ("Power", "power_param { power: 2 }"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 dim: 2 } }"),
        ("Permute", "permute_param { order: 0 order: 1 order: 3 order: 2 }"),
        ("Concat", ""),
        ("MVN", ""),
    ],
)
def test_what_passes_no_factors_on(kind: str, fields: str) -> None:
    why = f"'m' ({kind}) {PASSES_NOT}"
    assert reason(conv("a", "x", "a"), layer("m", kind, "a", "m", fields), conv("b", "m", "b", param="pad: 1")) == why
    relu = layer("r", "ReLU", "a", "a")
    assert reason(conv("a", "x", "a"), relu, layer("m", kind, "a", "m", fields), fc("b", "m", "b")) == why


@pytest.mark.parametrize("kind", ["Eltwise", "Concat"])
def test_two_layers_that_meet(kind: str) -> None:
    layers = (conv("a", "x", "a"), conv("c", "x", "c"), layer("m", kind, "a c", "m"), fc("b", "m", "b"))
    assert reason(*layers) == f"'m' ({kind}) {PASSES_NOT}"


def test_a_value_that_leaves_the_net() -> None:
    assert reason(conv("a", "x", "a")) == "the blob 'a' leaves the net"
    assert reason(conv("a", "x", "a"), layer("r", "ReLU", "a", "r")) == "the blob 'r' leaves the net"
    split = layer("s", "Split", "a", "s", 'top: "t"')
    assert reason(conv("a", "x", "a"), split, conv("b", "s", "b")) == "the blob 't' leaves the net"


def test_one_reader_of_many_is_enough() -> None:
    others = (conv("b", "a", "b"), layer("other", "Sigmoid", "a", "o"))
    assert reason(conv("a", "x", "a"), *others) == f"'other' (Sigmoid) {PASSES_NOT}"
    assert reason(conv("a", "x", "a"), *others[::-1]) == f"'other' (Sigmoid) {PASSES_NOT}"
    silence = 'layer { name: "q" type: "Silence" bottom: "a" }'
    assert reason(conv("a", "x", "a"), conv("b", "a", "b"), silence) == f"'q' (Silence) {PASSES_NOT}"


def test_quantized_layers() -> None:
    plain = conv("a", "x", "a"), conv("b", "a", "b")
    quantized = conv("b", "a", "b").replace('"Convolution"', '"ConvolutionRistretto"')
    held = uneven(net(*plain))
    assert reason(plain[0], quantized, held=held) == "'b' is quantized already (ConvolutionRistretto)"
    first = conv("a", "x", "a").replace('"Convolution"', '"ConvolutionRistretto"')
    assert reason(first, plain[1], held=held) == "'a' is quantized already (ConvolutionRistretto)"
    param = "quantization_param { bw_params: 4 }"
    assert reason(plain[0], conv("b", "a", "b", param), held=held) == "'b' is quantized already (Convolution)"
    relu = layer("r", "ReLU", "a", "r", param)
    why = "'r' (ReLU), which reads what it makes, is quantized already"
    assert reason(plain[0], relu, conv("b", "r", "b"), held=held) == why


def test_a_quantized_layer_has_a_reason_too() -> None:
    document = net(conv("a", "x", "a").replace('"Convolution"', '"ConvolutionRistretto"'))
    done = equalize(build_net(document), Weights((), ()))
    assert done.declined == (("a", "'a' is quantized already (ConvolutionRistretto)"),)


def test_shared_weights() -> None:
    named = conv("a", "x", "a", "param { name: 'w' }")
    why = "shares its weights (the param 'w' is used 2 times)"
    assert reason(named, conv("b", "a", "b", "param { name: 'w' }")) == f"'a' {why}"
    siamese = (conv("b", "a", "b", "param { name: 'w' }"), conv("c", "x", "c", "param { name: 'w' }"))
    assert reason(conv("a", "x", "a"), *siamese) == f"'b' {why}"
    twice = conv("a", "x", "a"), conv("b", "a", "b"), conv("b", "x", "c")
    assert reason(*twice) == "'b' has the name and so the weights of 2 layers"


def test_a_parameter_name_used_once_is_no_hindrance() -> None:
    document = net(conv("a", "x", "a", "param { name: 'w' }"), conv("b", "a", "b", "param { name: 'v' }"))
    assert equalized_equal(document, uneven(document)).pairs[0].readers == ("b",)


def test_several_bottoms() -> None:
    both = conv("b", "a c", "b", 'top: "d"')
    assert reason(conv("a", "x", "a"), conv("c", "x", "c"), both) == "'b' has 2 bottoms and 2 tops"
    assert reason(conv("a", "x x", "a", 'top: "c"'), conv("b", "a", "b")) == "'a' has 2 bottoms and 2 tops"


def test_parts_of_the_loss() -> None:
    why = "has a loss_weight"
    assert reason(conv("a", "x", "a", "loss_weight: 1"), conv("b", "a", "b")) == f"'a' {why}"
    assert reason(conv("a", "x", "a"), conv("b", "a", "b", "loss_weight: 1")) == f"'b' {why}"
    relu = layer("r", "ReLU", "a", "r", "loss_weight: 1")
    assert reason(conv("a", "x", "a"), relu, conv("b", "r", "b")) == f"'r' (ReLU), which reads what it makes, {why}"


def test_dropout_in_training() -> None:
    layers = conv("a", "x", "a"), layer("d", "Dropout", "a", "a"), conv("b", "a", "b")
    why = "'d' (Dropout), which reads what it makes, draws random numbers in phase TRAIN"
    assert reason(*layers, state=NetState("TRAIN")) == why


@pytest.mark.parametrize(
    ("param", "why"),
    [
        ("pool: STOCHASTIC kernel_size: 2", "pools by STOCHASTIC"),
        (
            "kernel_size: 1 stride: 2",
            "has windows that may lie beside the image (the stride is larger than the kernel)",
        ),
        (
            "kernel_h: 2 kernel_w: 1 stride_h: 2 stride_w: 2",
            "has windows that may lie beside the image (the stride is larger than the kernel)",
        ),
    ],
)
def test_poolings(param: str, why: str) -> None:
    layers = conv("a", "x", "a"), layer("p", "Pooling", "a", "p", f"pooling_param {{ {param} }}"), fc("b", "p", "b")
    assert reason(*layers) == f"'p' (Pooling), which reads what it makes, {why}"


@pytest.mark.parametrize("axes", ["axis: 0", "axis: 2", "axis: 1 end_axis: 2", "axis: -2"])
def test_other_axes_flattened(axes: str) -> None:
    flat = layer("f", "Flatten", "a", "f", f"flatten_param {{ {axes} }}")
    why = "'f' (Flatten), which reads what it makes, does not make one axis of all axes from 1 on"
    assert reason(conv("a", "x", "a"), flat, layer("s", "Sigmoid", "f", "s")) == why


@pytest.mark.parametrize("axes", ["axis: 1", "axis: -3", "axis: 1 end_axis: 3"])
def test_the_right_axes_in_other_words(axes: str) -> None:
    document = net(
        conv("a", "x", "a"), layer("f", "Flatten", "a", "f", f"flatten_param {{ {axes} }}"), fc("b", "f", "b")
    )
    assert equalized_equal(document, uneven(document)).pairs[0].readers == ("b",)


@pytest.mark.parametrize("axis", [0, 2, 3, -1])
def test_inner_products_along_other_axes(axis: int) -> None:
    layers = conv("a", "x", "a"), fc("b", "a", "b", f"axis: {axis}")
    if axis == 0:  # its weights hold the batch
        held = uneven(net(conv("a", "x", "a"), fc("b", "a", "b")))
        assert reason(*layers, held=held) == "the axis of 'b' is 0, not 1"
    else:
        assert reason(*layers) == f"the axis of 'b' is {axis}, not 1"
        assert reason(fc("a", "x", "a", f"axis: {axis}"), fc("b", "a", "b")) == f"the axis of 'a' is {axis}, not 1"


def test_weights_that_are_missing_or_do_not_fit() -> None:
    layers = conv("a", "x", "a"), conv("b", "a", "b")
    held = uneven(net(*layers))
    for name in ("a", "b"):
        without = Weights(tuple(item for item in held.layers if item.name != name), ())
        assert reason(*layers, held=without) == f"the weights file has no weights for '{name}'"
    five = replaced(held, b=(np.ones((4, 5, 3, 3), np.float32), np.ones(4, np.float32)))
    why = "the weights of 'b' do not fit a bottom of 4 channels and 4 axes, their shape is [4, 5, 3, 3]"
    assert reason(*layers, held=five) == why
    line = replaced(held, b=(np.ones((4, 4, 3), np.float32), np.ones(4, np.float32)))
    why = "the weights of 'b' do not fit a bottom of 4 channels and 4 axes, their shape is [4, 4, 3]"
    assert reason(*layers, held=line) == why
    half = replaced(held, a=(blobs(held, "a")[0][:2], blobs(held, "a")[1]))
    assert reason(*layers, held=half).startswith("the weights of 'a' do not fit it")
    empty = replaced(held, a=(np.ones((4, 0, 3, 3), np.float32), np.ones(4, np.float32)))
    assert reason(*layers, held=empty).startswith("the weights of 'a' do not fit it")


@pytest.mark.parametrize("columns", [3, 8, 0])
def test_inner_products_with_other_columns(columns: int) -> None:
    """After an inner product each column is a channel, and a multiple of the channels will not do."""
    layers = fc("a", "x", "a"), fc("b", "a", "b")
    held = replaced(uneven(net(*layers)), b=(np.ones((4, columns), np.float32), np.ones(4, np.float32)))
    assert reason(*layers, held=held).startswith("the weights of 'b' do not fit a bottom of 4 channels and 2 axes")


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("position", [0, 1])
def test_weights_that_are_not_finite(value: float, position: int) -> None:
    layers = conv("a", "x", "a"), conv("b", "a", "b")
    held = uneven(net(*layers))
    bad = [blob.copy() for blob in blobs(held, "b")]
    bad[position].ravel()[0] = value
    assert reason(*layers, held=replaced(held, b=tuple(bad))) == "the weights of 'b' are not finite"


def test_what_stands_elsewhere_is_scaled_all_the_same() -> None:
    document = net(
        conv("a", "x", "a"), conv("b", "a", "b"), layer("m", "Clip", "b", "m", "clip_param { min: -1 max: 1e9 }"),
        fc("c", "m", "c"), fc("d", "c", "d"), layer("p", "Softmax", "d", "p"),
    )  # fmt: skip
    done = equalized_equal(document, uneven(document))
    assert [(pair.first, pair.readers) for pair in done.pairs] == [("a", ("b",)), ("c", ("d",))]
    assert done.declined == (("b", f"'m' (Clip) {PASSES_NOT}"), ("d", f"'p' (Softmax) {PASSES_NOT}"))

"""What folding keeps, and the reason that it gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fold_nets import conv, folded_equal, layer, net, norm, reason, weights

from ristretto.caffe.fold import fold
from ristretto.caffe.net import build_net
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import Document, parse
from ristretto.caffe.weights import Weights


def test_another_reader() -> None:
    why = "not into 'conv': 'other' reads the blob 'c' between them too"
    assert reason(conv(), layer("other", "ReLU", "c", "o"), norm("bn", "c", "n")) == why
    assert reason(conv(), norm("bn", "c", "n"), layer("other", "ReLU", "c", "o")) == why
    assert reason(conv(), layer("other", "Pooling", "c", "o", "pooling_param { kernel_size: 2 }"), norm()) == why


def test_a_reader_of_the_folded_blob_is_no_hindrance() -> None:
    document = net(conv(), norm(), layer("r", "ReLU", "c", "r"), layer("other", "ReLU", "c", "o"))
    assert folded_equal(document, weights(document)).declined == ()


def test_rules_that_differ() -> None:
    why = "not into 'conv': 'conv' and 'bn' run under different include or exclude rules"
    assert reason(conv(), norm("bn", "c", "c", "include { phase: TEST }")) == why
    assert reason(conv(), norm("bn", "c", "c", "exclude { phase: TRAIN }")) == why
    in_both = (conv("conv", "x", "c", "include { phase: TEST }"), norm("bn", "c", "c", "include { stage: 'a' }"))
    assert reason(*in_both, state=NetState("TEST", stages=("a",))) == why


@pytest.mark.parametrize("rule", ["include { phase: TEST }", "include { stage: 'a' stage: 'b' min_level: 1 }"])
def test_equal_rules_are_no_hindrance(rule: str) -> None:
    document = net(conv("conv", "x", "c", rule), norm("bn", "c", "c", rule))
    state = NetState("TEST", 1, ("a", "b"))
    assert folded_equal(document, weights(document, state=state), state).declined == ()


def test_a_user_of_the_blob_between_in_another_phase() -> None:
    why = "not into 'conv': 'aux', which runs in another state, uses the blob 'c' between them too"
    aux = layer("aux", "ReLU", "c", "aux", "include { phase: TRAIN }")
    assert reason(conv(), norm("bn", "c", "n"), aux) == why
    assert reason(conv(), aux, norm()) == why
    staged = layer("aux", "ReLU", "c", "aux", "include { stage: 'loud' }")
    assert reason(conv(), norm("bn", "c", "n"), staged) == why


def test_a_user_of_the_blob_between_in_a_net_with_input_fields() -> None:
    aux = layer("aux", "ReLU", "c", "aux", "include { phase: TRAIN }")
    fed = 'input: "x" input_shape { dim: 2 dim: 4 dim: 5 dim: 6 }'
    document = parse("\n".join([fed, conv(), aux, norm()]))
    why = "not into 'conv': 'aux', which runs in another state, uses the blob 'c' between them too"
    assert fold(document, weights(document)).declined == (("bn", why),)


def test_a_user_in_another_phase_that_never_meets_it_is_no_hindrance() -> None:
    train = layer("aux", "ReLU", "c", "aux", "include { phase: TRAIN }")
    only_test = "include { phase: TEST }"
    for document in (
        net(conv(), norm(), train),
        net(conv("conv", "x", "c", only_test), norm("bn", "c", "n", only_test), train),
    ):
        assert folded_equal(document, weights(document)).declined == ()


def test_the_train_phase_is_folded_with_it() -> None:
    """Its own data layers stay; both phases build, and the one with the layers has lost them."""
    feeding = layer("in2", "Input", "", "y", "input_param { shape { dim: 1 dim: 4 } } include { phase: TRAIN }")
    document = net(feeding, conv(), norm("bn", "c", "n"), layer("r", "ReLU", "n", "r"))
    done = fold(document, weights(document))
    assert feeding in done.document.text
    train = build_net(done.document, NetState("TRAIN"))
    assert [item.name for item in train.layers] == ["in", "in2", "conv", "r"]


def test_shared_weights_and_names() -> None:
    shared = "param { name: 'w' }"
    assert reason(conv("conv", "x", "c", shared), norm()) == (
        "not into 'conv': 'conv' shares its weights (its param has a name)"
    )
    assert reason(conv(), norm("bn", "c", "c", shared)) == (
        "not into 'conv': 'bn' shares its weights (its param has a name)"
    )
    twin = conv("conv", "x", "t", "include { phase: TRAIN }")
    assert reason(conv(), norm(), twin) == (
        "not into 'conv': 'conv' has the name and so the weights of 2 layers in the file"
    )


def test_second_bottoms_and_several_tops() -> None:
    fc = layer("fc", "InnerProduct", "x", "f", "inner_product_param { num_output: 4 }")
    assert reason(fc, conv(), layer("s", "Scale", "c f", "c", "scale_param { axis: 0 }"), at="s") == (
        "not into 'conv': 's' has a second bottom, 'f', in place of weights"
    )
    twice = layer("conv", "Convolution", "x x", 'c" top: "d', "convolution_param { num_output: 4 kernel_size: 3 }")
    assert reason(twice, norm()) == "not into 'conv': 'conv' has 2 bottoms and 2 tops"


def test_other_axes() -> None:
    whole = layer("s", "Scale", "c", "c", "scale_param { axis: 1 num_axes: -1 }")
    assert reason(conv(), whole, at="s") == (
        "not into 'conv': 's' works along other axes than the channels (axis 1, num_axes -1)"
    )
    rows = layer("fc", "InnerProduct", "x", "c", "inner_product_param { num_output: 3 axis: 2 }")
    assert reason(rows, norm()) == "not into 'fc': the axis of 'fc' is 2, not 1"


def test_statistics_of_the_batch() -> None:
    why = "not into 'conv': 'bn' takes its statistics from the batch (use_global_stats is false)"
    assert reason(conv(), norm("bn", "c", "c", "batch_norm_param { use_global_stats: false }")) == why
    assert reason(conv(), norm(), state=NetState("TRAIN")) == why


def with_blob(document: Document, name: str, position: int, blob: object) -> Weights:
    held = []
    for item in weights(document).layers:
        blobs = list(item.blobs)
        if item.name == name:
            blobs[position : position + 1] = [] if blob is None else [np.asarray(blob, np.float32)]
        held.append(replace(item, blobs=tuple(blobs)))
    return Weights(tuple(held), ())


@pytest.mark.parametrize(
    ("name", "position", "blob", "why"),
    [
        ("bn", 1, [1, -1e-9, 1, 1], "the variance of 'bn' is negative at channel 1"),
        ("bn", 1, [1, np.nan, 1, 1], "the mean or variance of 'bn' is not finite"),
        ("bn", 0, [1, np.inf, 1, 1], "the mean or variance of 'bn' is not finite"),
        ("bn", 2, [-1], "the variance of 'bn' is negative at channel"),
        ("bn", 2, [np.nan], "the mean or variance of 'bn' is not finite"),
        ("bn", 2, None, "the weights file has 2 blobs for 'bn', it needs 3"),
        ("bn", 0, [1, 2, 3], "the weights of 'bn' do not fit it, their shapes are [3], [4], [1]"),
        ("conv", 1, None, "the weights file has 1 blobs for 'conv', it needs 2"),
        ("conv", 0, np.ones((5, 4, 3, 3)), "the weights of 'conv' do not fit it, their shapes are [5, 4, 3, 3], [4]"),
        ("conv", 1, [1, 2], "the weights of 'conv' do not fit it, their shapes are [4, 4, 3, 3], [2]"),
    ],
)
def test_weights_that_cannot_be_used(name: str, position: int, blob: object, why: str) -> None:
    held = with_blob(net(conv(), norm()), name, position, blob)
    assert reason(conv(), norm(), held=held).startswith(f"not into 'conv': {why}")


def test_a_product_that_float32_cannot_hold() -> None:
    factors = layer("s", "Scale", "c", "c")
    held = with_blob(net(conv(), factors), "s", 0, [1, 1, 3e38, 1])
    assert reason(conv(), factors, held=held, at="s") == "not into 'conv': the folded weights are not finite in float32"


def test_a_variance_and_eps_of_zero() -> None:
    exact = norm("bn", "c", "c", "batch_norm_param { eps: 0 }")
    held = with_blob(net(conv(), exact), "bn", 1, [1, 0, 1, 1])
    assert reason(conv(), exact, held=held) == "not into 'conv': the variance of 'bn' and its eps are both 0"


@pytest.mark.parametrize("missing", ["conv", "bn"])
def test_missing_weights(missing: str) -> None:
    held = weights(net(conv(), norm()))
    left = Weights(tuple(item for item in held.layers if item.name != missing), ())
    why = f"not into 'conv': the weights file has no weights for '{missing}'"
    assert reason(conv(), norm(), held=left) == why


def test_quantized_layers() -> None:
    formats = "quantization_param { bw_layer_in: 8 fl_layer_in: 4 bw_layer_out: 8 fl_layer_out: 4 }"
    quantized = conv("conv", "x", "c", formats).replace("Convolution", "ConvolutionRistretto")
    assert reason(quantized, norm()) == "not into 'conv': 'conv' is quantized already (ConvolutionRistretto)"
    assert reason(conv(), norm("bn", "c", "c", formats)) == "not into 'conv': 'bn' is quantized already (BatchNorm)"


def test_a_layer_before_the_convolution() -> None:
    pool = layer("pool", "Pooling", "x", "p", "pooling_param { kernel_size: 2 }")
    why = "it follows 'pool' (Pooling), no convolution, deconvolution or inner product"
    after = "; 'conv' comes after it and cannot take it in"
    assert reason(pool, norm("bn", "p", "p")) == why
    assert reason(pool, norm("bn", "p", "n"), conv("conv", "n")) == why + after
    chain = (pool, norm("bn", "p", "n"), layer("s", "Scale", "n", "n"), layer("r", "ReLU", "n", "n"))
    assert reason(*chain, conv("conv", "n")) == why + after
    assert reason(*chain, conv("conv", "n"), at="s") == "it follows 'bn', which is kept"


def test_a_loss_and_a_list_of_layers() -> None:
    assert reason(conv(), norm("bn", "c", "n", "loss_weight: 1")) == "not into 'conv': 'bn' has a loss_weight"
    listed = f"layer: [ {conv().removeprefix('layer ')}, {norm().removeprefix('layer ')} ]"
    assert reason(listed) == "not into 'conv': 'bn' stands in a list of layers, layer: [ ... ]"


def test_an_old_net_has_no_such_layers() -> None:
    old = """input: "x" input_dim: 2 input_dim: 4 input_dim: 5 input_dim: 6
    layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }"""
    document = parse(old)
    done = fold(document, Weights((), ()))
    assert done.document is document
    assert done.folded == done.declined == ()

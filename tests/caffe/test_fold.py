"""Folding: the net computes what it did, and the rest of the text stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fold_nets import conv, folded_equal, layer, names, net, norm, outputs, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from ristretto.caffe.fold import FoldedChain, fold
from ristretto.caffe.net import build_net
from ristretto.caffe.schema import message_class
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import LayerWeights, Weights, read_weights, write_caffemodel


@dataclass(frozen=True)
class Linear:
    """A linear layer to fold into: its type and parameters, but for the bias."""

    kind: str
    param: str
    field: str = "convolution_param"


LINEAR = [
    Linear("Convolution", "num_output: 6 kernel_size: 3 pad: 1"),
    Linear("Convolution", "num_output: 8 kernel_size: 3 stride: 2 group: 2"),
    Linear("Convolution", "num_output: 4 kernel_size: 1 group: 4"),
    Linear("Convolution", "num_output: 8 kernel_h: 2 kernel_w: 3 group: 4 dilation: 2"),
    Linear("ConvolutionDepthwise", "kernel_size: 3"),
    Linear("DepthwiseConvolution", "num_output: 4 kernel_size: 2"),
    Linear("Deconvolution", "num_output: 6 kernel_size: 3 stride: 2"),
    Linear("Deconvolution", "num_output: 6 kernel_size: 2 group: 2"),
    Linear("Deconvolution", "num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 4"),
    Linear("InnerProduct", "num_output: 7", "inner_product_param"),
    Linear("InnerProduct", "num_output: 5 transpose: true", "inner_product_param"),
]
AFFINE = {
    "BatchNorm": "",
    "BatchNorm eps": "batch_norm_param { eps: 0.01 use_global_stats: true }",
    "Scale": "",
    "Scale bias": "scale_param { bias_term: true }",
    "Scale one": "scale_param { num_axes: 0 bias_term: true }",
    "Bias": "bias_param { axis: 1 }",
    "Bias one": "bias_param { num_axes: 0 }",
}


@settings(max_examples=150, deadline=None)
@given(
    linear=st.sampled_from(LINEAR),
    bias=st.sampled_from(["", "bias_term: false", "bias_term: true"]),
    chain=st.lists(st.tuples(st.sampled_from(sorted(AFFINE)), st.booleans()), min_size=1, max_size=4),
    after=st.sampled_from(["", "in place", "own"]),
    factor=st.sampled_from([0.0, 1.0, 999.98]),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_nets_compute_what_they_did(
    linear: Linear, bias: str, chain: list[tuple[str, bool]], after: str, factor: float, seed: int
) -> None:
    blob = "linear"
    layers = [layer("linear", linear.kind, "x", blob, f"{linear.field} {{ {linear.param} {bias} }}")]
    for number, (name, in_place) in enumerate(chain):
        top = blob if in_place else f"own{number}"
        layers.append(layer(f"a{number}", name.split()[0], blob, top, AFFINE[name]))
        blob = top
    if after:
        layers.append(layer("relu", "ReLU", blob, blob if after == "in place" else "y"))
    document = net(*layers)
    done = folded_equal(document, weights(document, seed, factor=factor))
    assert done.declined == ()
    assert done.folded == (FoldedChain("linear", tuple(f"a{number}" for number in range(len(chain)))),)
    assert names(done.document) == ["in", "linear", *["relu"] * bool(after)]
    assert [held.name for held in done.weights.layers] == ["in", "linear", *["relu"] * bool(after)]
    assert build_net(done.document).layers[1].tops == (blob,)


def test_two_branches_and_their_sum() -> None:
    document = net(
        conv("a", "x", "a"), norm("bna", "a", "a"), layer("ra", "ReLU", "a", "a"),
        conv("b", "x", "b", param="bias_term: false"), norm("bnb", "b", "b2"), layer("sb", "Scale", "b2", "b3"),
        layer("sum", "Eltwise", "a b3", "s"), conv("c", "s", "c"), norm("bnc", "c", "c"),
    )  # fmt: skip
    done = folded_equal(document, weights(document))
    assert done.folded == (FoldedChain("a", ("bna",)), FoldedChain("b", ("bnb", "sb")), FoldedChain("c", ("bnc",)))


def test_what_stands_before_a_kept_layer_is_folded() -> None:
    along_rows = layer("rows", "Scale", "c", "d", "scale_param { axis: 2 }")
    document = net(conv(), norm(), along_rows, layer("last", "Scale", "d", "d"))
    done = folded_equal(document, weights(document))
    assert done.folded == (FoldedChain("conv", ("bn",)),)
    kept = "not into 'conv': 'rows' works along other axes than the channels (axis 2, num_axes 1)"
    assert done.declined == (("rows", kept), ("last", "it follows 'rows', which is kept"))


def test_axes_that_are_the_channels_in_other_words() -> None:
    document = net(
        conv(), layer("minus", "Scale", "c", "c", "scale_param { axis: -3 }"),
        layer("fc", "InnerProduct", "c", "f", "inner_product_param { num_output: 3 }"),
        layer("rest", "Bias", "f", "f", "bias_param { axis: -1 num_axes: -1 }"),
    )  # fmt: skip
    assert folded_equal(document, weights(document)).declined == ()


def test_legacy_blob_shapes_stay() -> None:
    document = net(layer("fc", "InnerProduct", "x", "f", "inner_product_param { num_output: 3 }"), norm("bn", "f", "f"))
    held = weights(document)
    legacy = [
        replace(item, blobs=tuple(blob.reshape((1,) * (4 - blob.ndim) + blob.shape) for blob in item.blobs))
        for item in held.layers
    ]
    done = folded_equal(document, Weights(tuple(legacy), ()))
    assert [blob.shape for blob in done.weights.get("fc") or ()] == [(1, 1, 3, 120), (1, 1, 1, 3)]


def test_the_weights_are_rounded_once() -> None:
    """From float64: the float32 nearest to the product, where two roundings would miss it now and then."""
    document = net(conv(), norm(), layer("s", "Scale", "c", "c", "scale_param { bias_term: true }"))
    held = weights(document, seed=5)
    exact = {item.name: [blob.astype(np.float64) for blob in item.blobs] for item in held.layers}
    mean, variance, factor = exact["bn"]
    scale, summand = exact["s"]
    slope = scale / np.sqrt(
        variance / factor + build_net(document).layers[2].view.child("batch_norm_param").number("eps")
    )
    weight, bias = fold(document, held).weights.get("conv") or ()
    assert weight.dtype == bias.dtype == np.float32
    np.testing.assert_array_max_ulp(weight, (exact["conv"][0] * slope[:, None, None, None]).astype(np.float32), 1)
    wanted = (exact["conv"][1] - mean / factor) * slope + summand
    np.testing.assert_allclose(bias, wanted, rtol=1e-6, atol=1e-7)


COMMENTED = """\
# my net
name: "n"
input: "x"  # fed
input_shape { dim: 2 dim: 4 dim: 5 dim: 6 }

layer {
  name: 'conv'  # first
  type: "Convolution"
  bottom: "x"
  top: "c"
  param { lr_mult: 1 }
  convolution_param {
    num_output: 4
    bias_term: false  # BatchNorm has one
    kernel_size: 3
  }
}

# normalise
layer {
  name: "bn"
  type: "BatchNorm"
  bottom: "c"
  top: "n"
}

layer {
  name: "scale"  type: "Scale"
  bottom: "n"  top: 'o'
}

layer { name: "relu" type: "ReLU" bottom: "o" top: "o" unheard_of: 7 }
"""


def test_nothing_else_of_the_text_changes() -> None:
    document = parse(COMMENTED)
    done = fold(document, weights(document))
    assert done.folded == (FoldedChain("conv", ("bn", "scale")),)
    start = COMMENTED.index('layer {\n  name: "bn"')
    end = COMMENTED.index('layer { name: "relu"')
    expected = COMMENTED[:start].replace('top: "c"', "top: 'o'").replace("bias_term: false", "bias_term: true")
    assert done.document.text == expected + "\n" + COMMENTED[end:]


def test_a_net_folded_twice_is_folded_once() -> None:
    document = parse(COMMENTED)
    once = fold(document, weights(document))
    twice = fold(once.document, once.weights)
    assert twice.document is once.document
    assert twice.weights is once.weights
    assert twice.folded == twice.declined == ()


def test_each_layer_has_one_set_of_weights_under_todays_names(tmp_path: Path) -> None:
    """Several files become one, types and blobs are those of the new net, other layers' weights stay."""
    document = net(conv(), norm("bn", "c", "n"), conv("conv2", "n", "y"))
    held = weights(document)
    old = tuple(replace(item, type="4", blobs=tuple(blob + 1 for blob in item.blobs)) for item in held.layers)
    stranger = LayerWeights("elsewhere", "Embed", (np.ones(3, np.float32),))
    done = fold(document, Weights((*old, stranger, *held.layers), ()))
    write_caffemodel(tmp_path / "w.caffemodel", "net", done.weights.layers)
    binary = message_class("NetParameter").FromString((tmp_path / "w.caffemodel").read_bytes())
    with_blobs = [(item.name, item.type, list(item.bottom), list(item.top)) for item in binary.layer if item.blobs]
    assert with_blobs == [
        ("elsewhere", "Embed", [], []),
        ("conv", "Convolution", ["x"], ["n"]),
        ("conv2", "Convolution", ["n"], ["y"]),
    ]
    again = read_weights([tmp_path / "w.caffemodel"])
    wanted, got = outputs(document, held)["y"], outputs(done.document, again)["y"]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * float(np.abs(wanted).max()))

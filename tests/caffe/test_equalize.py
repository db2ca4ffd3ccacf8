"""Equalising: the net computes what it did, bit by bit, and the ranges of the channels come closer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from equalize_nets import blobs, equalized_equal, made_range, outputs, read_range, replaced, uneven
from fold_nets import SHAPE, conv, layer, net
from hypothesis import given, settings
from hypothesis import strategies as st

from ristretto.caffe.equalize import EqualizedPair, equalize
from ristretto.caffe.net import build_net
from ristretto.caffe.textproto import Document
from ristretto.caffe.weights import LayerWeights, Weights


@dataclass(frozen=True)
class Linear:
    """A linear layer that keeps the image's size: how many channels it makes of 4 or 8."""

    kind: str
    param: str
    factor: int = 0
    outputs: int = 0
    group: int = 0
    """0 for one group for each channel."""


LINEAR = [
    Linear("Convolution", "kernel_size: 3 pad: 1", outputs=8, group=1),
    Linear("Convolution", "kernel_size: 1 bias_term: false", outputs=4, group=1),
    Linear("Convolution", "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 group: 2", outputs=8, group=2),
    Linear("Convolution", "kernel_size: 3 pad: 1", factor=1),
    Linear("ConvolutionDepthwise", "kernel_size: 3 pad: 1", factor=1),
    Linear("DepthwiseConvolution", "kernel_size: 3 pad: 1 bias_term: false", factor=2),
    Linear("Deconvolution", "kernel_size: 3 pad: 1", outputs=4, group=1),
    Linear("Deconvolution", "kernel_size: 1 group: 2", outputs=8, group=2),
    Linear("Deconvolution", "kernel_size: 3 pad: 1", factor=1),
]
PASSING = {
    "relu": ("ReLU", ""),
    "leaky": ("ReLU", "relu_param { negative_slope: 0.1 }"),
    "prelu": ("PReLU", ""),
    "shared": ("PReLU", "prelu_param { channel_shared: true }"),
    "dropout": ("Dropout", ""),
    "max": ("Pooling", "pooling_param { kernel_size: 3 stride: 1 pad: 1 }"),
    "average": ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
    "global": ("Pooling", "pooling_param { pool: AVE global_pooling: true }"),
    "split": ("Split", ""),
}
IN_PLACE = {"relu", "leaky", "prelu", "shared", "dropout"}
ENDS = {
    "": ("", False),
    "fc": ("", False),
    "flat": ("Flatten", False),
    "fc transposed": ("", True),
    "flat transposed": ("Flatten", True),
}


@dataclass
class Chain:
    """A net that grows layer by layer."""

    layers: list[str]
    linear: list[tuple[str, Linear | bool, int, int]]
    blob: str = "x"
    channels: int = SHAPE[1]

    def passing(self, names: list[str]) -> None:
        for name in names:
            kind, fields = PASSING[name]
            top = self.blob if name in IN_PLACE and self.blob != "x" else f"b{len(self.layers)}"
            self.layers.append(layer(f"l{len(self.layers)}", kind, self.blob, top, fields))
            self.blob = top

    def add(self, what: Linear | bool) -> None:
        """A linear layer, or an InnerProduct that is transposed or not."""
        name, top = f"l{len(self.layers)}", f"b{len(self.layers)}"
        if isinstance(what, bool):
            kind, made, group = "InnerProduct", 6, 1
            param = f"inner_product_param {{ num_output: 6 transpose: {str(what).lower()} }}"
        else:
            kind, made = what.kind, what.factor * self.channels or what.outputs
            group = what.group or self.channels
            plain = kind in ("Convolution", "Deconvolution") and not what.group
            stated = f"num_output: {made}" if what.factor != 1 or plain else ""
            param = f"convolution_param {{ {stated} {what.param} {f'group: {group}' if plain else ''} }}"
        self.layers.append(layer(name, kind, self.blob, top, param))
        self.linear.append((name, what, self.channels, group))
        self.blob, self.channels = top, made

    def document(self) -> Document:
        return net(*self.layers)


def log_ratio(held: Weights, chain: Chain, number: int) -> np.ndarray:
    """How far the ranges of a link's channels are apart, in powers of two."""
    sides = []
    for made, (name, what, channels, group) in zip((True, False), chain.linear[number : number + 2], strict=True):
        weight = blobs(held, name)[0]
        kind, transpose = ("InnerProduct", what) if isinstance(what, bool) else (what.kind, False)
        if made:
            sides.append(made_range(kind, weight, transpose, group))
        else:
            sides.append(read_range(kind, weight, channels, transpose, group))
    found: np.ndarray = np.log2(sides[1]) - np.log2(sides[0])
    return found


@settings(max_examples=120, deadline=None)
@given(
    linear=st.lists(
        st.tuples(st.sampled_from(LINEAR), st.lists(st.sampled_from(sorted(PASSING)), max_size=3)),
        min_size=2,
        max_size=5,
    ),
    end=st.sampled_from(sorted(ENDS)),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_chains_compute_what_they_did(linear: list[tuple[Linear, list[str]]], end: str, seed: int) -> None:
    chain = Chain([], [])
    for what, between in linear:
        chain.add(what)
        chain.passing(between)
    if end:
        flatten, transpose = ENDS[end]
        if flatten:
            chain.layers.append(layer("flat", "Flatten", chain.blob, "flat"))
            chain.blob = "flat"
        chain.add(transpose)
        chain.passing(["leaky", "prelu"])
        chain.add(not transpose)
    chain.passing(["leaky"] * (seed % 2))
    held = uneven(chain.document(), seed)
    done = equalized_equal(chain.document(), held)
    names = [name for name, *_ in chain.linear]
    assert [(pair.first, pair.readers) for pair in done.pairs] == [
        (first, (reader,)) for first, reader in itertools.pairwise(names)
    ]
    assert done.declined == ((names[-1], f"the blob '{chain.blob}' leaves the net"),)
    # Where the next round would change nothing each channel's ranges are within a factor 2 of each other.
    assert equalize(build_net(chain.document()), done.weights).weights is done.weights
    for number in range(len(names) - 1):
        assert np.abs(log_ratio(done.weights, chain, number)).max() <= 1 + 1e-9
    _assert_powers_of_two(held, done.weights)


def _assert_powers_of_two(before: Weights, after: Weights) -> None:
    for old, new in zip(before.layers, after.layers, strict=True):
        for was, now in zip(old.blobs, new.blobs, strict=True):
            assert now.shape == was.shape
            assert now.dtype == np.float32
            np.testing.assert_array_equal(np.frexp(now)[0], np.frexp(was)[0])


def test_the_factor_of_each_channel_is_the_papers() -> None:
    """sqrt(r1 * r2) / r1, rounded in the log domain: in a chain of two there is one round and no other factor."""
    document = net(conv("a", "x", "a"), layer("r", "ReLU", "a", "a"), conv("b", "a", "b"))
    held = uneven(document, 3)
    done = equalized_equal(document, held)
    ranges = made_range("Convolution", blobs(held, "a")[0]), read_range("Convolution", blobs(held, "b")[0], 4)
    exponents = np.round(np.log2(np.sqrt(ranges[0] * ranges[1]) / ranges[0]))
    assert len(set(exponents)) > 2
    factors = np.exp2(exponents).astype(np.float32)
    weight, bias = blobs(held, "a")
    np.testing.assert_array_equal(blobs(done.weights, "a")[0], weight * factors[:, None, None, None])
    np.testing.assert_array_equal(blobs(done.weights, "a")[1], bias * factors)
    weight, bias = blobs(held, "b")
    np.testing.assert_array_equal(blobs(done.weights, "b")[0], weight / factors[None, :, None, None])
    np.testing.assert_array_equal(blobs(done.weights, "b")[1], bias)
    largest = int(np.abs(exponents).max())
    assert done.pairs == (EqualizedPair("a", ("b",), int((exponents != 0).sum()), largest),)


def test_channels_come_closer_to_each_other() -> None:
    """What a format for all of a layer's weights suffers from: channels much smaller than the largest one."""
    document = net(conv("a", "x", "a"), conv("b", "a", "b"))
    plain = uneven(document, spread=0.0)
    factors = np.float32([1, 100, 1 / 100, 10])
    weight, bias = blobs(plain, "a")
    held = replaced(plain, a=(weight * factors[:, None, None, None], bias * factors))
    before, after = (
        made_range("Convolution", blobs(each, "a")[0]) for each in (held, equalized_equal(document, held).weights)
    )
    assert before.max() / before.min() > 1000
    assert after.max() / after.min() < 2 * np.sqrt(before.max() / before.min())


def test_all_readers_take_part() -> None:
    document = net(
        conv("a", "x", "a"), layer("r", "ReLU", "a", "a"),
        layer("split", "Split", "a", "s", 'top: "t"'), conv("b", "s", "b"),
        layer("pool", "Pooling", "t", "p", "pooling_param { kernel_size: 2 }"),
        layer("fc", "InnerProduct", "p", "f", "inner_product_param { num_output: 3 }"),
        layer("late", "Deconvolution", "a", "d", "convolution_param { num_output: 3 kernel_size: 2 }"),
    )  # fmt: skip
    held = uneven(document, 7)
    done = equalized_equal(document, held)
    assert [(pair.first, pair.readers) for pair in done.pairs] == [("a", ("b", "fc", "late"))]
    sides = [
        read_range("Convolution", blobs(done.weights, "b")[0], 4),
        read_range("InnerProduct", blobs(done.weights, "fc")[0], 4),
        read_range("Deconvolution", blobs(done.weights, "late")[0], 4),
    ]
    ratio = np.log2(np.max(sides, axis=0)) - np.log2(made_range("Convolution", blobs(done.weights, "a")[0]))
    assert np.abs(ratio).max() <= 1


def test_a_flattened_blob_and_the_blob_itself() -> None:
    fc = "inner_product_param { num_output: 3 }"
    document = net(
        conv("a", "x", "a"), layer("flat", "Flatten", "a", "flat"), conv("b", "a", "b"),
        layer("again", "Flatten", "flat", "again"), layer("fc", "InnerProduct", "again", "f", fc),
        layer("direct", "InnerProduct", "a", "g", fc),
    )  # fmt: skip
    held = uneven(document)
    done = equalized_equal(document, held)
    assert [(pair.first, pair.readers) for pair in done.pairs] == [("a", ("b", "fc", "direct"))]


def test_the_places_of_the_maxima_are_no_hindrance() -> None:
    places = layer("pool", "Pooling", "a", "p", 'top: "places"', "pooling_param { kernel_size: 2 stride: 2 }")
    document = net(
        conv("a", "x", "a"), places, layer("sum", "Power", "places", "y"), conv("b", "p", "b", param="pad: 1")
    )
    assert equalized_equal(document, uneven(document)).pairs[0].readers == ("b",)


def test_channels_of_zeros_keep_their_factor() -> None:
    document = net(conv("a", "x", "a"), conv("b", "a", "b"))
    held = uneven(document, 5)
    first, bias = blobs(held, "a")
    second = blobs(held, "b")[0].copy()
    first[0], second[:, 1] = 0, 0
    held = replaced(held, a=(first, bias), b=(second, blobs(held, "b")[1]))
    done = equalized_equal(document, held)
    for channel in (0, 1):
        np.testing.assert_array_equal(blobs(done.weights, "a")[0][channel], first[channel])
        assert blobs(done.weights, "a")[1][channel] == bias[channel]
        np.testing.assert_array_equal(blobs(done.weights, "b")[0][:, channel], second[:, channel])
    assert done.pairs[0].channels > 0


@pytest.mark.parametrize("at", ["weight", "bias", "reader"])
@pytest.mark.parametrize("least", [-124, -140])
def test_no_weight_becomes_subnormal(at: str, least: int) -> None:
    """A channel that should shrink by 2**8 shrinks as far as its smallest weight allows, which a subnormal forbids."""
    document = net(conv("a", "x", "a"), conv("b", "a", "b"))
    first, second = np.ones((4, 4, 3, 3), np.float32), np.ones((4, 4, 3, 3), np.float32)
    bias = np.ones(4, np.float32)
    large, small = (second, first) if at == "reader" else (first, second)
    large *= np.float32(2.0**16)
    tiny = np.float32(2.0**least)
    if at == "bias":
        bias[2] = tiny
    elif at == "weight":
        first[2, 1, 0, 0] = tiny
    else:
        second[1, 2, 0, 0] = tiny
    assert small.max() == 1
    held = replaced(uneven(document), a=(first, bias), b=(second, np.ones(4, np.float32)))
    done = equalized_equal(document, held)
    factors = made_range("Convolution", blobs(done.weights, "a")[0]) / made_range("Convolution", first)
    sign = 1 if at == "reader" else -1
    allowed = 2.0 ** (sign * max(126 + least, 0))
    np.testing.assert_array_equal(factors, [2.0 ** (8 * sign), 2.0 ** (8 * sign), allowed, 2.0 ** (8 * sign)])
    _assert_powers_of_two(held, done.weights)


def test_no_weight_becomes_infinite() -> None:
    document = net(conv("a", "x", "a"), conv("b", "a", "b"))
    first, second = np.full((4, 4, 3, 3), 2.0**-100, np.float32), np.full((4, 4, 3, 3), 2.0**20, np.float32)
    bias = np.float32([1, 2.0**125, 0, 1])
    done = equalize(
        build_net(document), replaced(uneven(document), a=(first, bias), b=(second, np.zeros(4, np.float32)))
    )
    np.testing.assert_array_equal(blobs(done.weights, "a")[1], [2.0**60, 2.0**127, 0, 2.0**60])
    np.testing.assert_array_equal(blobs(done.weights, "b")[0][0, :, 0, 0], [2.0**-40, 2.0**18, 2.0**-40, 2.0**-40])


def test_even_channels_stay() -> None:
    document = net(conv("a", "x", "a"), conv("b", "a", "b"))
    held = uneven(document, spread=0.0)
    ones = (np.ones((4, 4, 3, 3), np.float32), np.ones(4, np.float32))
    held = replaced(held, a=ones, b=ones)
    done = equalize(build_net(document), held)
    assert done.weights is held
    assert done.pairs == (EqualizedPair("a", ("b",), 0, 0),)


def test_legacy_blob_shapes_stay() -> None:
    document = net(
        conv("a", "x", "a"), layer("fc", "InnerProduct", "a", "f", "inner_product_param { num_output: 3 }"),
        layer("last", "InnerProduct", "f", "g", "inner_product_param { num_output: 2 transpose: true }"),
    )  # fmt: skip
    held = uneven(document)
    legacy = [
        replace(item, blobs=tuple(blob.reshape((1,) * (4 - blob.ndim) + blob.shape) for blob in item.blobs))
        for item in held.layers
    ]
    old = Weights(tuple(legacy), ())
    done = equalized_equal(document, old)
    _assert_powers_of_two(old, done.weights)
    new = equalize(build_net(document), held).weights
    for name in ("a", "fc", "last"):
        for wanted, found in zip(blobs(new, name), blobs(done.weights, name), strict=True):
            np.testing.assert_array_equal(found.ravel(), wanted.ravel())


def test_only_what_counts_is_rewritten() -> None:
    """Of several sets the last one; layers of other nets, and where the weights came from, stay."""
    document = net(conv("a", "x", "a"), conv("b", "a", "b"))
    held = uneven(document)
    earlier = tuple(replace(item, blobs=tuple(blob + 1 for blob in item.blobs)) for item in held.layers)
    stranger = LayerWeights("elsewhere", "Embed", (np.ones(3, np.float32),), ("p",), ("q",))
    given_weights = Weights((*earlier, stranger, *held.layers), (Path("w.caffemodel"),))
    kept = [tuple(blob.copy() for blob in item.blobs) for item in given_weights.layers]
    done = equalized_equal(document, given_weights)
    assert done.weights.files == given_weights.files
    count = len(earlier) + 1
    assert done.weights.layers[:count] == given_weights.layers[:count]
    new = equalize(build_net(document), held).weights
    np.testing.assert_array_equal(blobs(done.weights, "a")[0], blobs(new, "a")[0])
    for item, was in zip(given_weights.layers, kept, strict=True):
        for blob, old in zip(item.blobs, was, strict=True):
            np.testing.assert_array_equal(blob, old)


def test_read_only_weights_are_read_only() -> None:
    document = net(conv("a", "x", "a"), conv("b", "a", "b"))
    held = uneven(document)
    for item in held.layers:
        for blob in item.blobs:
            blob.flags.writeable = False
    assert outputs(document, equalized_equal(document, held).weights)["b"].any()

"""Small nets and plans for tests of dialects."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ristretto.caffe.textproto import Document, parse
from ristretto.decide.plan import QuantPlan
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats

CHAIN = """\
name: "chain"  # a net
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } } }
layer {
  name: "conv1"
  type: "Convolution"  # the first
  bottom: "data"
  top: "conv1"
  convolution_param { num_output: 2 kernel_size: 3 bias_term: BIAS }
  strange_param { depth: 3 }
}
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 3 kernel_size: 2 bias_term: BIAS } }
layer { name: "ip" type: "InnerProduct" bottom: "conv2" top: "ip"
  inner_product_param { num_output: 4 bias_term: BIAS } }
"""
LINEAR = ("conv1", "conv2", "ip")


def chain(*, bias: bool) -> Document:
    """The chain in float."""
    return parse(CHAIN.replace("BIAS", str(bias).lower()), "net.prototxt")


def fixed(bw: int, fl: int, signed: bool = True) -> DynamicFixedPoint:
    """A fixed point format."""
    return DynamicFixedPoint(bw, fl, signed)


def alike(bw: int = 8) -> LayerFormats:
    """Formats of one layer of the original's."""
    return LayerFormats(fixed(bw, 5), fixed(bw, 4), fixed(bw, 7), fixed(bw, 7))


def original_plans(*widths: int) -> SearchStrategy[QuantPlan]:
    """Plans of the chain that the original can say: a width for each part, a bias as the weights."""
    formats = st.builds(fixed, st.sampled_from(widths), st.integers(-8, 20))
    layers = st.builds(lambda a, b, c: LayerFormats(a, b, c, c), formats, formats, formats)
    return st.fixed_dictionaries(dict.fromkeys(LINEAR, layers)).map(QuantPlan)


def extended_plans(*widths: int) -> SearchStrategy[QuantPlan]:
    """Plans of the chain with what the extension can say too."""
    formats = st.builds(fixed, st.sampled_from(widths), st.integers(-8, 20), st.booleans())
    signed = st.builds(fixed, st.sampled_from(widths), st.integers(-8, 20))

    def channels(count: int) -> SearchStrategy[ChannelFixedPoint]:
        fls = st.lists(st.integers(-8, 20), min_size=count, max_size=count).map(tuple)
        return st.builds(ChannelFixedPoint, st.sampled_from(widths), fls)

    layers = {
        name: st.builds(
            LayerFormats,
            formats,
            st.none() | formats,
            signed | channels(count),
            signed | st.builds(fixed, st.just(32), st.integers(0, 24)),
            st.none(),
        )
        for name, count in zip(LINEAR, (2, 3, 4), strict=True)
    }
    return st.fixed_dictionaries(layers).map(QuantPlan)

"""InnerProduct and Embed: parameters, shapes, weight shapes (BVLC/caffe inner_product_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import canonical_axis
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape


@dataclass(frozen=True, slots=True)
class InnerProductParams:
    """An InnerProductParameter (defaults: caffe.proto, InnerProductParameter).

    Attributes:
        num_output: length of the output axis.
        bias_term: whether there is a bias blob.
        axis: first axis that is multiplied; the ones before it are a batch.
        transpose: whether the weight blob is stored as (inputs, num_output).
    """

    num_output: int
    bias_term: bool
    axis: int
    transpose: bool


def inner_product_params(layer: LayerSpec, rank: int) -> InnerProductParams:
    """Read a layer's inner_product_param for a bottom with ``rank`` axes.

    Raises:
        NetError: num_output is missing, or the axis does not exist.
    """
    view = layer.view.child("inner_product_param")
    num_output = view.integer("num_output")
    if num_output < 1:
        what = "num_output must be at least 1"
        raise view.error(what, cure="add num_output", field="num_output")
    axis = canonical_axis(layer, view.integer("axis"), rank)
    return InnerProductParams(num_output, view.flag("bias_term"), axis, view.flag("transpose"))


@shape_rule("InnerProduct", "FcRistretto")
def inner_product_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Axes from ``axis`` on become one; weights are (num_output, inputs), with ``transpose`` the reverse."""
    shape = inputs[0]
    params = inner_product_params(layer, len(shape))
    length = math.prod(shape[params.axis :])
    weight = (length, params.num_output) if params.transpose else (params.num_output, length)
    blobs = (weight, (params.num_output,)) if params.bias_term else (weight,)
    output = (*shape[: params.axis], params.num_output)
    return LayerShapes((output,), blobs, math.prod(output) * length)


@dataclass(frozen=True, slots=True)
class EmbedParams:
    """An EmbedParameter (defaults: caffe.proto, EmbedParameter)."""

    num_output: int
    input_dim: int
    bias_term: bool


def embed_params(layer: LayerSpec) -> EmbedParams:
    """Read a layer's embed_param (embed_layer.cpp, LayerSetUp).

    Raises:
        NetError: num_output or input_dim is missing.
    """
    view = layer.view.child("embed_param")
    for field in ("num_output", "input_dim"):
        if view.integer(field) < 1:
            what = f"{field} must be at least 1"
            raise view.error(what, cure=f"add {field}", field=field)
    return EmbedParams(view.integer("num_output"), view.integer("input_dim"), view.flag("bias_term"))


@shape_rule("Embed")
def embed_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Every index becomes a vector; weights are (input_dim, num_output)."""
    params = embed_params(layer)
    weight = (params.input_dim, params.num_output)
    blobs = (weight, (params.num_output,)) if params.bias_term else (weight,)
    return LayerShapes(((*inputs[0], params.num_output),), blobs)

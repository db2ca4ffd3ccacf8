"""Scale, Bias and Axpy: parameters, shapes, weight shapes (BVLC/caffe scale_layer.cpp, bias_layer.cpp)."""

from __future__ import annotations

from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import canonical_axis
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape


@dataclass(frozen=True, slots=True)
class ScaleParams:
    """A ScaleParameter or BiasParameter for given bottoms (defaults: caffe.proto).

    Attributes:
        axis: the axis of the first bottom at which the factors (or summands) begin.
        shape: the shape of the factors (or summands): some axes of the first bottom, in one run.
        learned: whether they are a blob of the layer, not a second bottom.
        bias_term: for Scale, whether a sum with a blob follows.
    """

    axis: int
    shape: Shape
    learned: bool
    bias_term: bool = False


def scale_params(layer: LayerSpec, inputs: tuple[Shape, ...]) -> ScaleParams:
    """Read a layer's scale_param or bias_param for bottoms of the given shapes.

    Raises:
        NetError: the axes do not exist, or the second bottom does not fit the first.
    """
    view = layer.view.child("bias_param" if layer.type == "Bias" else "scale_param")
    first = inputs[0]
    bias_term = layer.type == "Scale" and view.flag("bias_term")
    if len(inputs) == 2:
        axis = canonical_axis(layer, view.integer("axis"), len(first)) if inputs[1] else 0
        if first[axis : axis + len(inputs[1])] != inputs[1]:
            what = f"a second bottom of shape {inputs[1]} does not match the axes of {first} from axis {axis} on"
            raise view.error(what, cure="set axis to the first axis that they share", field="axis")
        return ScaleParams(axis, inputs[1], learned=False, bias_term=bias_term)
    axis = canonical_axis(layer, view.integer("axis"), len(first))
    num_axes = view.integer("num_axes")
    if num_axes < -1 or axis + num_axes > len(first):
        what = f"num_axes {num_axes} from axis {axis} on does not fit a bottom of shape {first}"
        raise view.error(what, cure="use -1 for all axes to the last", field="num_axes")
    end = len(first) if num_axes == -1 else axis + num_axes
    return ScaleParams(axis, first[axis:end], learned=True, bias_term=bias_term)


@shape_rule("Scale", "Bias", bottoms=(1, 2))
def scale_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """The top has the first bottom's shape; blobs are the factors (unless they are a bottom) and the bias."""
    params = scale_params(layer, inputs)
    return LayerShapes((inputs[0],), (params.shape,) * (params.learned + params.bias_term))


@shape_rule("Axpy", bottoms=(3, 3))
def axpy_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """``a * x + y`` with one factor for each image and channel (hujie-frank/SENet axpy_layer.cpp)."""
    factors, x, y = inputs
    if x != y:
        what = f"the bottoms to add must have one shape, found {x} and {y}"
        raise layer.view.error(what, field="bottom")
    trailing = set(factors[2:]) | {1}
    if factors[:2] != x[:2] or len(factors) < 2 or trailing != {1}:
        what = f"factors of shape {factors} are not one for each image and channel of {x}"
        raise layer.view.error(what, cure=f"they must be ({x[0]}, {x[1]}) or end in ones", field="bottom")
    return LayerShapes((x,))

"""Axes as Caffe counts them, and comparisons of shapes that many layers ask for."""

from __future__ import annotations

from ristretto.caffe.netspec import LayerSpec, Shape


def canonical_axis(layer: LayerSpec, axis: int, rank: int, field: str = "axis") -> int:
    """Turn a negative axis into its positive form (Blob::CanonicalAxisIndex).

    Raises:
        NetError: the axis does not exist.
    """
    if not -rank <= axis < rank:
        what = f"axis {axis} is out of range for a bottom with {rank} axes"
        raise layer.view.error(what, field=field)
    return axis % rank


def require_rank(layer: LayerSpec, shape: Shape, least: int, most: int | None = None) -> None:
    """Refuse a bottom that has too few or too many axes.

    Raises:
        NetError: the number of axes is not within the bounds.
    """
    if len(shape) < least or (most is not None and len(shape) > most):
        wanted = f"exactly {least}" if most == least else f"at least {least}"
        if most is not None and most != least:
            wanted = f"{least} to {most}"
        what = f"a layer of type '{layer.type}' needs a bottom with {wanted} axes, not one of shape {shape}"
        raise layer.view.error(what, field="bottom")


def require_equal_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> None:
    """Refuse bottoms that are not all of one shape.

    Raises:
        NetError: two shapes differ.
    """
    for shape in inputs[1:]:
        if shape != inputs[0]:
            what = f"all bottoms must have one shape, found {inputs[0]} and {shape}"
            raise layer.view.error(what, cure="check the layers that make them", field="bottom")


def require_equal_except(layer: LayerSpec, first: Shape, second: Shape, axis: int) -> None:
    """Refuse two bottoms that differ in rank or along any axis but one.

    Raises:
        NetError: the shapes do not go together.
    """
    if (first[:axis], first[axis + 1 :]) != (second[:axis], second[axis + 1 :]) or len(first) != len(second):
        what = f"bottoms of shapes {first} and {second} differ along another axis than axis {axis}"
        raise layer.view.error(what, field="bottom")

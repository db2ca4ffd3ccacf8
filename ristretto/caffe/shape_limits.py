"""Limits on the shapes of blobs, and on what is computed from shapes alone."""

from __future__ import annotations

import math

from ristretto.caffe.limits import CONSTANT_MB, MAX_AXES, MAX_VALUES, limit, to_raise
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.view import View


def read_dims(view: View, what: str) -> Shape:
    """The lengths in a BlobShape of a prototxt, of which there may be millions.

    Args:
        view: the BlobShape.
        what: whose it is, for the error.

    Raises:
        NetError: it has too many axes.
        PrototxtError: a length is no number.
    """
    count = len(view.raw("dim"))
    if count > MAX_AXES:
        raise view.error(f"{what} has {count} axes", cure=f"Caffe's blobs have {MAX_AXES} at most", field="dim")
    return view.integers("dim")


def check_shape(layer: LayerSpec, shape: Shape, what: str) -> None:
    """Refuse the shape of a blob that Caffe cannot have.

    Args:
        layer: the layer that makes or holds it.
        shape: its shape.
        what: what it is, for the error.

    Raises:
        NetError: it has too many axes, a length less than 1, or too many values.
    """
    if len(shape) > MAX_AXES:
        cure = f"Caffe's blobs have {MAX_AXES} at most"
        raise layer.view.error(f"{what} has {len(shape)} axes", cure=cure)
    if min(shape, default=1) < 1:
        what = f"{what} has the shape {spelled(shape)} and holds nothing"
        raise layer.view.error(what, cure="every length must be at least 1")
    if math.prod(shape) > MAX_VALUES:
        said = f"{what} of shape {spelled(shape)} has more than {MAX_VALUES} values"
        raise layer.view.error(said, cure="Caffe cannot count so many: make the batch or the sizes smaller")


def check_constant(layer: LayerSpec, values: int, what: str) -> None:
    """Refuse a constant that would be computed from shapes alone and is too large.

    Raises:
        NetError: so many float32 values are more than the limit.
    """
    megabytes = values * 4 >> 20
    if megabytes > limit(CONSTANT_MB):
        raise layer.view.error(f"{what} would take {_number(megabytes)} MB", cure=to_raise(CONSTANT_MB))


def spelled(shape: Shape) -> str:
    """A shape as text; lengths that are numbers of many digits are shortened."""
    return "(" + ", ".join(map(_number, shape)) + ("," if len(shape) == 1 else "") + ")"


def _number(value: int) -> str:
    return str(value) if abs(value) < 10**18 else f"2**{abs(value).bit_length() - 1} or more"

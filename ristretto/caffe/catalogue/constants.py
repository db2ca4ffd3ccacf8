"""Layers without a bottom whose values the prototxt or the weights tell: Parameter and DummyData."""

from __future__ import annotations

from dataclasses import dataclass

from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.shape_limits import read_dims, spelled
from ristretto.caffe.view import View

_LEGACY_SIDES = ("num", "channels", "height", "width")


@shape_rule("Parameter", bottoms=(0, 0))
def parameter_shapes(layer: LayerSpec, _inputs: tuple[Shape, ...]) -> LayerShapes:
    """The top is the layer's blob (BVLC/caffe parameter_layer.hpp)."""
    shape = layer.view.child("parameter_param").child("shape").integers("dim")
    if min(shape, default=1) < 1:
        what = f"{spelled(shape)} is no shape of a parameter"
        raise layer.view.error(what, field="parameter_param")
    return LayerShapes((shape,), (shape,))


@dataclass(frozen=True, slots=True)
class Filler:
    """A FillerParameter, as far as a data layer uses it (defaults: caffe.proto, FillerParameter)."""

    kind: str
    value: float
    low: float
    high: float
    mean: float
    std: float

    @classmethod
    def of(cls, view: View) -> Filler:
        """Read a FillerParameter."""
        numbers = (view.number(field) for field in ("value", "min", "max", "mean", "std"))
        return cls(view.text("type"), *numbers)


def dummy_fillers(layer: LayerSpec) -> tuple[Filler, ...]:
    """How each top of a DummyData layer is filled, with zeros unless told (dummy_data_layer.cpp).

    Raises:
        NetError: there is neither no filler, nor one, nor one for each top.
    """
    view = layer.view.child("dummy_data_param")
    fillers = tuple(Filler.of(child) for child in view.children("data_filler"))
    if not fillers:
        fillers = (Filler("constant", 0.0, 0.0, 1.0, 0.0, 1.0),)
    if len(fillers) not in (1, len(layer.tops)):
        what = f"{len(fillers)} fillers for {len(layer.tops)} tops"
        raise view.error(what, cure="give none, one, or one for each top", field="data_filler")
    return fillers if len(fillers) == len(layer.tops) else fillers * len(layer.tops)


@shape_rule("DummyData", bottoms=(0, 0), tops=(1, None))
def dummy_data_shapes(layer: LayerSpec, _inputs: tuple[Shape, ...]) -> LayerShapes:
    """Shapes from ``shape``, or from the old num, channels, height and width; one for all or one each."""
    view = layer.view.child("dummy_data_param")
    shapes = [read_dims(child, "data") for child in view.children("shape")]
    legacy = [view.integers(side) for side in _LEGACY_SIDES]
    if any(legacy):
        if shapes:
            what = "shape and num are both given"
            raise view.error(what, cure="keep shape", field="num")
        shapes = _legacy_shapes(view, legacy, len(layer.tops))
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    if len(shapes) != len(layer.tops):
        what = f"{len(shapes)} shapes for {len(layer.tops)} tops"
        raise view.error(what, cure="give one shape, or one for each top", field="shape")
    for shape in shapes:
        if min(shape, default=1) < 1:
            what = f"data of shape {spelled(shape)} holds nothing"
            raise view.error(what, field="shape", cure="make every dim at least 1")
    dummy_fillers(layer)
    return LayerShapes(tuple(shapes))


def _legacy_shapes(view: View, sides: list[tuple[int, ...]], tops: int) -> list[Shape]:
    for name, values in zip(_LEGACY_SIDES, sides, strict=True):
        if len(values) not in (1, tops):
            what = f"{name} is given {len(values)} times for {tops} tops"
            raise view.error(what, cure="give it once, or once for each top", field=name)
    columns = [values if len(values) == tops else values * tops for values in sides]
    return list(zip(*columns, strict=True))

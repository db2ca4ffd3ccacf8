"""transform_param: mean, scale, crop and mirror as Caffe applies them (data_transformer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec
from ristretto.caffe.view import View
from ristretto.data.mean import read_mean
from ristretto.data.source import Resolver
from ristretto.errors import DataError

_CHANGES_PIXELS = ("resize_param", "noise_param", "distort_param", "expand_param", "crop_h", "crop_w")
_HARMLESS = frozenset({"emit_constraint"})
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Transform:
    """What is done to each image.

    Attributes:
        resolver: for errors placed at the layer.
        mean_image: the mean image (c, h, w), as large as the images before they are cropped, or None.
        mean_values: one value per channel (c, 1, 1), or one for all (1, 1, 1), or None.
        scale: the factor, applied after the mean is taken off.
        crop: side of the square that is cut out; 0 for none.
        mirror: whether half of the images, drawn by chance, are mirrored (in TEST too, as in Caffe).
        random_crop: whether the crop's place is drawn by chance (TRAIN) or central (TEST).
        color: what decoded images are forced to: 3 channels, 1, or None as they are.
    """

    resolver: Resolver
    mean_image: NDArray[np.float32] | None
    mean_values: NDArray[np.float32] | None
    scale: float
    crop: int
    mirror: bool
    random_crop: bool
    color: int | None

    @property
    def draws(self) -> bool:
        """Whether the transformation depends on chance."""
        return self.mirror or (self.random_crop and self.crop > 0)

    def apply(
        self,
        image: NDArray[np.uint8] | NDArray[np.float32],
        rng: np.random.Generator,
        name: Callable[[], str],
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Transform one image.

        Args:
            image: (c, h, w), uint8 or float32.
            rng: where the crop's place and the mirroring are drawn from.
            name: tells which image it is, for errors.
            out: takes the result, of ``output_shape``; None makes a new array.

        Returns:
            float32, (c, crop, crop) or as large as the image.

        Raises:
            DataError: the image does not suit the mean or the crop.
        """
        _, height, width = image.shape
        self._check_mean(image.shape, name)
        mirrored = self.mirror and bool(rng.integers(2))
        rows, columns = slice(None), slice(None)
        if self.crop:
            if self.crop > min(height, width):
                what = f"crop_size {self.crop} is larger than {name()} of {height} x {width} pixels"
                raise self.resolver.error(what, "make crop_size smaller, or resize the images")
            top, left = self._corner(height - self.crop, width - self.crop, rng)
            rows, columns = slice(top, top + self.crop), slice(left, left + self.crop)
        pixels = image[:, rows, columns]
        if out is None:
            out = np.empty(pixels.shape, np.float32)
        values = out[:, :, ::-1] if mirrored else out
        values[...] = pixels
        with np.errstate(over="ignore"):  # of bytes no infinity can come (_check_largest), floats are looked at
            if self.mean_image is not None:
                values -= self.mean_image[:, rows, columns]
            if self.mean_values is not None:
                values -= self.mean_values
            if self.scale != 1:
                values *= np.float32(self.scale)
        if image.dtype != np.uint8 and not np.isfinite(out).all():
            what = f"transform_param makes infinity of {name()}: its values are too large for float32"
            raise self.resolver.error(what, "make scale smaller, or the values")
        return out

    def _corner(self, spare_rows: int, spare_columns: int, rng: np.random.Generator) -> tuple[int, int]:
        if self.random_crop:
            return int(rng.integers(spare_rows + 1)), int(rng.integers(spare_columns + 1))
        return spare_rows // 2, spare_columns // 2

    def _check_mean(self, shape: tuple[int, ...], name: Callable[[], str]) -> None:
        if self.mean_image is not None and self.mean_image.shape != shape:
            mean = list(self.mean_image.shape)
            what = f"the mean image of shape {mean} does not fit {name()} of shape {list(shape)}"
            raise self.resolver.error(what, "make the mean file from these images, or use mean_value")
        if self.mean_values is not None and self.mean_values.size not in (1, shape[0]):
            what = f"{self.mean_values.size} mean_values for {name()} of {shape[0]} channels"
            raise self.resolver.error(what, "give one mean_value, or one per channel")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a transformed image."""
        return (shape[0], self.crop, self.crop) if self.crop else shape

    def unequal(self, first: tuple[int, ...], other: tuple[int, ...], position: int) -> NoReturn:
        """Refuse a batch of images of several sizes."""
        what = f"image {position} of a batch has shape {list(other)}, the first one {list(first)}"
        raise self.resolver.error(what, "set crop_size, resize the images (new_height, new_width), or use batch_size 1")


def read_transform(layer: LayerSpec, resolver: Resolver) -> Transform:
    """The transform_param of a data layer.

    Raises:
        DataError: it contradicts itself, or asks for what this tool does not do to pixels.
        NetError: a value makes no sense, or would make infinity of the largest byte.
    """
    view = layer.view.child("transform_param")
    for name in _CHANGES_PIXELS:
        if view.has(name):
            raise view.error(
                f"transform_param.{name} is not supported", field=name, cure="resize the images beforehand"
            )
    strange = [name for name in view.unknown if name not in _HARMLESS]
    if strange:
        cure = "take it out, or do the same to the images beforehand"
        raise DataError(
            f"transform_param.{strange[0]} is not known here and may change pixels",
            cure=cure,
            file=view.document.file,
            line=view.line,
            layer=layer.name,
        )
    if view.flag("force_color") and view.flag("force_gray"):
        raise view.error("force_color and force_gray exclude each other", field="force_gray", cure="keep one")
    values, scale = view.numbers("mean_value"), view.number("scale")
    for name, value in (("scale", scale), *(("mean_value", value) for value in values)):
        if not math.isfinite(value):
            raise view.error(f"{name} is {value}", field=name, cure="give a number that float32 holds")
    image: NDArray[np.float32] | None = None
    if view.has("mean_file"):
        if values:
            raise view.error("mean_file and mean_value exclude each other", field="mean_value", cure="keep one")
        image = read_mean(resolver.find(view.text("mean_file"), "the mean file"))
    _check_largest(view, scale, float(np.abs(image).max()) if image is not None else max(map(abs, values), default=0.0))
    color = 3 if view.flag("force_color") else 1 if view.flag("force_gray") else None
    return Transform(
        resolver,
        image,
        np.array(values, np.float32).reshape(-1, 1, 1) if values else None,
        scale,
        view.integer("crop_size"),
        view.flag("mirror"),
        layer.phase == "TRAIN",
        color,
    )


def _check_largest(view: View, scale: float, mean: float) -> None:
    """Refuse a scale that would make infinity of some byte, where the largest mean is so large; no mean alone does."""
    largest = abs(scale) * (255 + mean)
    if largest > _LARGEST:
        what = f"pixels would become as large as {largest:g}, more than float32 holds"
        raise view.error(what, field="scale", cure="correct the scale or the mean")

"""Detectors: PriorBox and DetectionOutput of the SSD branch, ROIPooling of Fast R-CNN, PSROIPooling of R-FCN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.catalogue.axes import require_rank
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.shape_limits import check_constant, check_shape
from ristretto.caffe.view import View

MOST_RATIOS, MOST_BOXES, MOST_CLASSES = 1000, 100_000, 1_000_000
"""Far more than any detector has."""


@dataclass(frozen=True, slots=True)
class PriorBoxParams:
    """A PriorBoxParameter for given bottoms (defaults: weiliu89/caffe caffe.proto, PriorBoxParameter).

    Attributes:
        boxes: (width, height) in pixels of the boxes at every position.
        variances: four numbers that go with each box.
        image: (height, width) of the image.
        step: (height, width) from one position to the next, in pixels.
        offset: of the first centre, in steps.
        clip: whether boxes end at the image's border.
    """

    boxes: tuple[tuple[float, float], ...]
    variances: tuple[float, ...]
    image: tuple[float, float]
    step: tuple[float, float]
    offset: float
    clip: bool


def _aspect_ratios(view: View) -> list[float]:
    """1, then those given, each once and, unless flip is false, followed by its inverse."""
    ratios, given = [1.0], view.numbers("aspect_ratio")
    if len(given) > MOST_RATIOS or not all(0.0 < ratio < math.inf for ratio in given):
        what = f"aspect_ratio must be a positive number, given {MOST_RATIOS} times at most"
        raise view.error(what, field="aspect_ratio")
    flip = view.flag("flip")
    for ratio in given:
        if all(abs(ratio - other) >= 1e-6 for other in ratios):
            ratios.append(ratio)
            if flip:
                ratios.append(1.0 / ratio)
    return ratios


def _box_sizes(view: View) -> tuple[tuple[float, float], ...]:
    """For each min_size a square, one between it and its max_size, and a box per other aspect ratio."""
    least, most = view.numbers("min_size"), view.numbers("max_size")
    if not least or not all(0.0 < size < math.inf for size in least):
        what = "min_size must be given and positive"
        raise view.error(what, cure="add min_size", field="min_size")
    if most and len(most) != len(least):
        what = f"max_size is given {len(most)} times, min_size {len(least)} times"
        raise view.error(what, cure="give one max_size for each min_size", field="max_size")
    ratios = _aspect_ratios(view)
    count = len(least) * (len(ratios) + bool(most))
    if count > MOST_BOXES:
        what = f"{len(least)} times min_size and {len(ratios)} aspect ratios make {count} boxes at every position"
        raise view.error(what, cure=f"{MOST_BOXES} are allowed", field="min_size")
    sizes = []
    for position, small in enumerate(least):
        sizes.append((small, small))
        if most:
            if not small < most[position] < math.inf:
                what = f"max_size {most[position]:g} is not larger than min_size {small:g}"
                raise view.error(what, field="max_size")
            side = math.sqrt(small * most[position])
            sizes.append((side, side))
        roots = [math.sqrt(ratio) for ratio in ratios[1:]]
        sizes.extend((small * root, small / root) for root in roots)
    return tuple(sizes)


def _high_wide(view: View, both: str, high: str, wide: str) -> tuple[float, float]:
    """A value for height and one for width, from one field or two; 0 where not given."""
    if view.has(high) or view.has(wide):
        return float(view.number(high)), float(view.number(wide))
    return float(view.number(both)), float(view.number(both))


def prior_box_params(layer: LayerSpec, inputs: tuple[Shape, ...]) -> PriorBoxParams:
    """Read a layer's prior_box_param (weiliu89/caffe prior_box_layer.cpp, LayerSetUp and Forward_cpu).

    Raises:
        NetError: a value is missing or makes no sense.
    """
    for shape in inputs:
        require_rank(layer, shape, 4, 4)
    view = layer.view.child("prior_box_param")
    variances = view.numbers("variance") or (0.1,)
    if len(variances) not in (1, 4):
        what = f"variance is given {len(variances)} times, not once or four times"
        raise view.error(what, field="variance")
    image = _high_wide(view, "img_size", "img_h", "img_w")
    step = _high_wide(view, "step", "step_h", "step_w")
    if not all(map(math.isfinite, (*image, *step))):
        raise view.error("the sizes of image and step must be numbers", field="step")
    if min(image) <= 0.0:
        image = (float(inputs[1][2]), float(inputs[1][3]))
    if min(step) <= 0.0:
        step = (image[0] / inputs[0][2], image[1] / inputs[0][3])
    return PriorBoxParams(
        boxes=_box_sizes(view),
        variances=variances if len(variances) == 4 else variances * 4,
        image=image,
        step=step,
        offset=view.number("offset"),
        clip=view.flag("clip"),
    )


def prior_boxes(params: PriorBoxParams, size: tuple[int, int]) -> NDArray[np.float32]:
    """The boxes of all positions, row by row, and their variances: (1, 2, positions * boxes * 4).

    A box is (xmin, ymin, xmax, ymax) in parts of the image.
    """
    rows = (np.arange(size[0], dtype=np.float32) + np.float32(params.offset)) * np.float32(params.step[0])
    columns = (np.arange(size[1], dtype=np.float32) + np.float32(params.offset)) * np.float32(params.step[1])
    half = np.asarray(params.boxes, np.float32) / np.float32(2.0)
    shape = (size[0], size[1], len(half))
    x = np.broadcast_to(columns[None, :, None], shape)
    y = np.broadcast_to(rows[:, None, None], shape)
    wide, high = half[:, 0], half[:, 1]
    corners = np.stack((x - wide, y - high, x + wide, y + high), axis=-1)
    height, width = (np.float32(side) for side in params.image)
    corners = corners / np.asarray((width, height, width, height), np.float32)
    if params.clip:
        corners = np.clip(corners, np.float32(0.0), np.float32(1.0))
    variances = np.broadcast_to(np.asarray(params.variances, np.float32), corners.shape)
    return np.stack((corners.reshape(-1), variances.reshape(-1)))[None].astype(np.float32)


@shape_rule("PriorBox", bottoms=(2, 2))
def prior_box_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Boxes and their variances, for all positions of the first bottom: (1, 2, positions * boxes * 4)."""
    params = prior_box_params(layer, inputs)
    height, width = inputs[0][2:]
    check_constant(layer, 2 * height * width * len(params.boxes) * 4, "the table of prior boxes")
    return LayerShapes(((1, 2, height * width * len(params.boxes) * 4),))


@dataclass(frozen=True, slots=True)
class DetectionParams:
    """A DetectionOutputParameter (defaults: weiliu89/caffe caffe.proto, DetectionOutputParameter).

    Attributes:
        classes: the class numbers that are looked for: all but the background's.
        num_classes: how many there are with the background.
        code_type: how boxes are told relative to the priors: CORNER, CENTER_SIZE or CORNER_SIZE.
        encoded: whether the variances are in the numbers already.
        threshold: least score, exclusive; None for no such.
        nms_threshold: overlap above which the box with the smaller score goes.
        nms_top_k: how many boxes of a class are looked at, the best; None for all.
        keep_top_k: how many boxes of an image are kept, the best; None for all.
    """

    classes: tuple[int, ...]
    num_classes: int
    code_type: str
    encoded: bool
    threshold: float | None
    nms_threshold: float
    nms_top_k: int | None
    keep_top_k: int | None


def detection_params(layer: LayerSpec) -> DetectionParams:
    """Read a layer's detection_output_param (weiliu89/caffe detection_output_layer.cpp, LayerSetUp).

    Raises:
        NetError: num_classes is missing, or a form is asked for that cannot be run.
    """
    view = layer.view.child("detection_output_param")
    suppression = view.child("nms_param")
    num_classes = view.integer("num_classes")
    if num_classes < 1:
        what = "num_classes must be at least 1"
        raise view.error(what, cure="add num_classes", field="num_classes")
    if num_classes > MOST_CLASSES:
        raise view.error(f"num_classes {num_classes} is more than {MOST_CLASSES}", field="num_classes")
    if not view.flag("share_location"):
        what = "boxes of their own for each class (share_location: false) are not supported"
        raise view.error(what, field="share_location")
    if suppression.number("eta") != 1.0:
        what = "an overlap that is lowered while boxes are suppressed is not supported"
        raise suppression.error(what, cure="set eta to 1", field="eta")
    background = view.integer("background_label_id")
    classes = tuple(number for number in range(num_classes) if number != background)
    if not classes:
        what = "there is no class beside the background"
        raise view.error(what, cure="count the background in num_classes", field="num_classes")
    top_k, keep = suppression.integer("top_k"), view.integer("keep_top_k")
    return DetectionParams(
        classes=classes,
        num_classes=num_classes,
        code_type=view.text("code_type"),
        encoded=view.flag("variance_encoded_in_target"),
        threshold=view.number("confidence_threshold") if view.has("confidence_threshold") else None,
        nms_threshold=suppression.number("nms_threshold"),
        nms_top_k=top_k if suppression.has("top_k") and top_k > -1 else None,
        keep_top_k=keep if keep > -1 else None,
    )


@shape_rule("DetectionOutput", bottoms=(3, 3))
def detection_output_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """One row of seven numbers per box found; the shape (1, 1, 1, 7) stands for what shows when it runs.

    Bottoms are the boxes relative to the priors (n, priors * 4), the scores (n, priors * classes) and the
    priors (1, 2, priors * 4).
    """
    boxes, scores, priors = inputs
    params = detection_params(layer)
    if len(priors) < 3 or priors[1] != 2 or priors[2] % 4:
        what = f"a third bottom of shape {priors} cannot hold priors"
        raise layer.view.error(what, field="bottom")
    count = priors[2] // 4
    for shape, per_prior, meaning in ((boxes, 4, "boxes"), (scores, params.num_classes, "scores")):
        if math.prod(shape[1:]) != count * per_prior:
            what = f"{meaning} of shape {shape} are not {per_prior} numbers for each of the {count} priors"
            raise layer.view.error(what, cure="check num_classes and the priors", field="bottom")
    return LayerShapes(((1, 1, 1, 7),))


@dataclass(frozen=True, slots=True)
class RoiPoolingParams:
    """An ROIPoolingParameter (defaults: rbgirshick/caffe-fast-rcnn caffe.proto, ROIPoolingParameter)."""

    pooled: tuple[int, int]
    spatial_scale: float


def roi_pooling_params(layer: LayerSpec) -> RoiPoolingParams:
    """Read a layer's roi_pooling_param.

    Raises:
        NetError: the size of the top is not told.
    """
    view = layer.view.child("roi_pooling_param")
    pooled = (view.integer("pooled_h"), view.integer("pooled_w"))
    if min(pooled) < 1:
        what = f"pooled_h and pooled_w must be at least 1, found {pooled}"
        raise view.error(what, field="pooled_h")
    return RoiPoolingParams(pooled, view.number("spatial_scale"))


@shape_rule("ROIPooling", bottoms=(2, 2))
def roi_pooling_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """For each region (image, x1, y1, x2, y2) of the second bottom the first one pooled to a fixed size."""
    require_rank(layer, inputs[0], 4, 4)
    return LayerShapes(((_regions(layer, inputs[1]), inputs[0][1], *roi_pooling_params(layer).pooled),))


def _regions(layer: LayerSpec, shape: Shape) -> int:
    """How many regions (image, x1, y1, x2, y2) a bottom holds."""
    count = shape[0] if shape else 0
    if math.prod(shape) != 5 * count:
        what = f"regions must be (number, 5), found {shape}"
        raise layer.view.error(what, field="bottom")
    return count


@dataclass(frozen=True, slots=True)
class PsRoiPoolingParams:
    """A PSROIPoolingParameter (daijifeng001/caffe-rfcn psroi_pooling_layer.cpp, LayerSetUp).

    Attributes:
        output_dim: channels of the top.
        group_size: bins along height and along width, each with channels of its own.
        spatial_scale: from the regions' pixels to the bottom's.
    """

    output_dim: int
    group_size: int
    spatial_scale: float


def psroi_pooling_params(layer: LayerSpec) -> PsRoiPoolingParams:
    """Read a layer's psroi_pooling_param.

    Raises:
        NetError: a size is not told.
    """
    view = layer.view.child("psroi_pooling_param")
    for field in ("output_dim", "group_size"):
        if view.integer(field) < 1:
            what = f"{field} must be at least 1, found {view.integer(field)}"
            raise view.error(what, cure=f"add {field}", field=field)
    return PsRoiPoolingParams(view.integer("output_dim"), view.integer("group_size"), view.number("spatial_scale"))


@shape_rule("PSROIPooling", bottoms=(2, 2))
def psroi_pooling_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """For each region group_size x group_size bins, each averaged over channels of its own."""
    require_rank(layer, inputs[0], 4, 4)
    params = psroi_pooling_params(layer)
    count, bins = _regions(layer, inputs[1]), params.group_size
    if inputs[0][1] != params.output_dim * bins * bins:
        what = f"output_dim {params.output_dim} and {bins} x {bins} bins need "
        what += f"{params.output_dim * bins * bins} channels, the bottom has {inputs[0][1]}"
        raise layer.view.error(what, field="psroi_pooling_param")
    images, _, height, width = inputs[0]
    check_shape(layer, (bins, bins, count, images, height, width), "the table of which pixel is in which bin")
    return LayerShapes(((count, params.output_dim, bins, bins),))

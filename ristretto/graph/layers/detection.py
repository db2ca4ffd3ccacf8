"""PriorBox as a constant, DetectionOutput as NonMaxSuppression, ROIPooling as MaxRoiPool, PSROIPooling as MatMul."""

from __future__ import annotations

import numpy as np
import onnx

from ristretto.caffe.catalogue.detection import (
    DetectionParams,
    detection_params,
    prior_box_params,
    prior_boxes,
    psroi_pooling_params,
    roi_pooling_params,
)
from ristretto.graph.fake_quant import emit_round
from ristretto.graph.layers.detection_double import maxima_of_regions, without_overlaps
from ristretto.graph.registry import LayerContext, emits
from ristretto.numerics.rounding import Rounding

_LEAST = float(np.finfo(np.float32).min)
"""The score of what is out of the race, and the threshold where none is given."""


@emits("PriorBox")
def prior_box(context: LayerContext) -> list[str]:
    """Boxes that only the shapes of the bottoms decide on (weiliu89/caffe prior_box_layer.cpp)."""
    params = prior_box_params(context.layer, context.input_shapes)
    height, width = context.input_shapes[0][2:]
    return [context.weight(prior_boxes(params, (height, width)), "priors")]


@emits("DetectionOutput")
def detection_output(context: LayerContext) -> list[str]:
    """The best boxes of each class that do not overlap (weiliu89/caffe detection_output_layer.cpp).

    A row is (image, class, score, xmin, ymin, xmax, ymax); rows are sorted by image, class and falling score.
    Where nothing at all is found there is a row for each image of its number and -1.
    """
    params = detection_params(context.layer)
    op, ints = context.op, context.nodes.ints
    boxes = _decoded(context, params)
    scores = op("Reshape", context.inputs[1], ints([0, -1, params.num_classes]))
    classes = op("Gather", op("Transpose", scores, perm=[0, 2, 1]), ints(params.classes), axis=1)
    kept = _suppressed(context, params, boxes, _best_of_class(context, params, classes))
    best, places = _best_of_image(context, params, kept)
    return [_rows(context, params, boxes, best, places)]


@emits("ROIPooling")
def roi_pooling(context: LayerContext) -> list[str]:
    """The maxima of regions cut into bins (rbgirshick/caffe-fast-rcnn roi_pooling_layer.cpp)."""
    params = roi_pooling_params(context.layer)
    regions = context.op("Reshape", context.inputs[1], context.nodes.ints([-1, 5]))
    if context.nodes.double:
        return [maxima_of_regions(context, params, regions)]
    return [
        context.op(
            "MaxRoiPool",
            context.inputs[0],
            regions,
            pooled_shape=params.pooled,
            spatial_scale=params.spatial_scale,
        )
    ]


@emits("PSROIPooling")
def psroi_pooling(context: LayerContext) -> list[str]:
    """Means over bins of regions, each bin of its own channels (daijifeng001/caffe-rfcn psroi_pooling_layer.cu).

    A bin is a mask of ones and zeros over all pixels of all images; a product of matrices adds up what is in it.
    """
    op, ints = context.op, context.nodes.ints
    params = psroi_pooling_params(context.layer)
    bins, (height, width) = params.group_size, context.input_shapes[0][2:]
    regions = op("Reshape", context.inputs[1], ints([-1, 5]))
    image, *corners = context.nodes.ops("Split", regions, count=5, axis=1)
    left, upper, right, lower = corners
    rows, columns = _bins(context, upper, lower, height), _bins(context, left, right, width)
    # Axes of the masks: row of bins, column of bins, region, image, height, width.
    masks = op("Mul", op("Unsqueeze", rows, ints([1, 3, 5])), op("Unsqueeze", columns, ints([0, 3, 4])))
    masks = op("Mul", masks, op("Unsqueeze", _is_image(context, image), ints([0, 1, 4, 5])))
    count = op("Shape", regions, start=0, end=1)
    masks = op("Reshape", masks, op("Concat", ints([bins, bins]), count, ints([-1]), axis=0))
    pixels = op("Reshape", context.inputs[0], ints([0, params.output_dim, bins, bins, height, width]))
    pixels = op("Transpose", pixels, perm=[2, 3, 0, 4, 5, 1])
    sums = op("MatMul", masks, op("Reshape", pixels, ints([bins, bins, -1, params.output_dim])))
    pixels_in = op("ReduceSum", masks, ints([3]), keepdims=1)
    means = op("Div", sums, op("Max", pixels_in, context.nodes.floats(1.0)))
    return [op("Transpose", means, perm=[2, 3, 0, 1])]


def _bins(context: LayerContext, first: str, last: str, length: int) -> str:
    """Which pixels along an axis are in each bin of each region, as ones and zeros: (bins, regions, length)."""
    op, floats = context.op, context.nodes.floats
    params = psroi_pooling_params(context.layer)
    bins, scale = params.group_size, floats(params.spatial_scale)
    start = op("Mul", emit_round(context.nodes, first, Rounding.HALF_AWAY), scale)
    end = emit_round(context.nodes, last, Rounding.HALF_AWAY)
    end = op("Mul", op("Add", end, floats(1.0)), scale)
    size = op("Div", op("Max", op("Sub", end, start), floats(0.1)), floats(float(bins)))
    numbers = context.weight(np.arange(bins, dtype=np.float32).reshape(bins, 1, 1), "bins")
    low = op("Floor", op("Add", op("Mul", numbers, size), start))
    high = op("Ceil", op("Add", op("Mul", op("Add", numbers, floats(1.0)), size), start))
    pixels = context.weight(np.arange(length, dtype=np.float32), "pixels")
    inside = op("And", op("GreaterOrEqual", pixels, low), op("Less", pixels, high))
    return op("Cast", inside, to=onnx.TensorProto.FLOAT)


def _is_image(context: LayerContext, image: str) -> str:
    """Which image each region is of, as ones and zeros: (regions, images)."""
    op, ints = context.op, context.nodes.ints
    images = op("Range", ints(0), op("Squeeze", op("Shape", context.inputs[0], start=0, end=1)), ints(1))
    return op("Cast", op("Equal", op("Cast", image, to=onnx.TensorProto.INT64), images), to=onnx.TensorProto.FLOAT)


def _count(context: LayerContext) -> int:
    """The number of priors."""
    return context.input_shapes[2][2] // 4


def _decoded(context: LayerContext, params: DetectionParams) -> str:
    """The boxes (n, priors, 4) as corners in parts of the image (bbox_util.cpp, DecodeBBox)."""
    op, ints = context.op, context.nodes.ints
    told = op("Reshape", context.inputs[0], ints([0, -1, 4]))
    pairs = op("Reshape", context.inputs[2], ints([2, -1, 4]))
    priors, variances = context.nodes.ops("Split", pairs, count=2, axis=0)
    if not params.encoded:
        told = op("Mul", told, variances)
    if params.code_type == "CORNER":
        return op("Add", priors, told)
    low, high = context.nodes.ops("Split", priors, count=2, axis=2)
    size = op("Sub", high, low)
    if params.code_type == "CORNER_SIZE":
        return op("Add", priors, op("Mul", told, op("Concat", size, size, axis=2)))
    half = context.nodes.floats(0.5)
    centre_told, size_told = context.nodes.ops("Split", told, count=2, axis=2)
    centre = op("Add", op("Mul", centre_told, size), op("Mul", op("Add", low, high), half))
    reach = op("Mul", op("Mul", op("Exp", size_told), size), half)
    return op("Concat", op("Sub", centre, reach), op("Add", centre, reach), axis=2)


def _best_of_class(context: LayerContext, params: DetectionParams, scores: str) -> str:
    """Scores (n, classes, priors), of which only the best of each class stay in the race."""
    if params.nms_top_k is None or params.nms_top_k >= _count(context):
        return scores
    values, places = context.nodes.ops("TopK", scores, context.nodes.ints([params.nms_top_k]), count=2, axis=2)
    return context.op("ScatterElements", _out_of_race(context, scores), places, values, axis=2)


def _out_of_race(context: LayerContext, like: str) -> str:
    """A value of the same shape in which nothing is in the race."""
    return context.op("Expand", context.nodes.floats(_LEAST), context.op("Shape", like))


def _suppressed(context: LayerContext, params: DetectionParams, boxes: str, scores: str) -> str:
    """Scores (n, classes, priors), of which those stay in the race that no better box overlaps."""
    threshold = _LEAST if params.threshold is None else params.threshold
    if context.nodes.double:
        return without_overlaps(context, boxes, scores, params.nms_threshold, threshold, _out_of_race(context, scores))
    chosen = context.op(
        "NonMaxSuppression",
        boxes,
        scores,
        context.nodes.ints([_count(context)]),
        context.nodes.floats([params.nms_threshold]),
        context.nodes.floats([threshold]),
    )
    values = context.op("GatherND", scores, chosen)
    return context.op("ScatterND", _out_of_race(context, scores), chosen, values)


def _best_of_image(context: LayerContext, params: DetectionParams, scores: str) -> tuple[str, str]:
    """The best scores of each image (n, k) and their places, class * priors + prior, by class and score."""
    op, ints = context.op, context.nodes.ints
    count = len(params.classes) * _count(context)
    keep = count if params.keep_top_k is None else min(params.keep_top_k, count)
    flat = op("Reshape", scores, ints([0, -1]))
    values, places = context.nodes.ops("TopK", flat, ints([keep]), count=2, axis=1)
    # Among equals TopK keeps the order, so that within a class the best stay in front.
    classes = op("Div", places, ints(_count(context)))
    _, order = context.nodes.ops("TopK", classes, ints([keep]), count=2, axis=1, largest=0)
    return op("GatherElements", values, order, axis=1), op("GatherElements", places, order, axis=1)


def _rows(context: LayerContext, params: DetectionParams, boxes: str, scores: str, places: str) -> str:
    """The output's rows, for what is in the race among the given scores (n, k) and places (n, k)."""
    op, ints = context.op, context.nodes.ints
    column = ints([2])
    priors = op("Mod", places, ints(_count(context)))
    numbers = op("Gather", ints(params.classes), op("Div", places, ints(_count(context))))
    images = _image_numbers(context, scores)
    parts = [
        op("Unsqueeze", images, column),
        op("Unsqueeze", op("Cast", numbers, to=onnx.TensorProto.FLOAT), column),
        op("Unsqueeze", scores, column),
        op("GatherND", boxes, op("Unsqueeze", priors, column), batch_dims=1),
    ]
    table = op("Reshape", op("Concat", *parts, axis=2), ints([-1, 7]))
    alive = op("Greater", op("Reshape", scores, ints([-1])), context.nodes.floats(_LEAST))
    found = op("Compress", table, alive, axis=0)
    nothing = _rows_of_nothing(context, images, alive)
    return op("Reshape", op("Concat", found, nothing, axis=0), ints([1, 1, -1, 7]))


def _image_numbers(context: LayerContext, like: str) -> str:
    """The number of its image in every place of a value (n, k), as a float."""
    ones = context.op("Expand", context.nodes.floats(1.0), context.op("Shape", like))
    return context.op("CumSum", ones, context.nodes.ints(0), exclusive=1)


def _rows_of_nothing(context: LayerContext, images: str, alive: str) -> str:
    """A row for each image of its number and six times -1, if nothing is alive; else no row."""
    op, ints = context.op, context.nodes.ints
    numbers = op("Slice", images, ints([0]), ints([1]), ints([1]))
    rows = op("Pad", numbers, ints([0, 0, 0, 6]), context.nodes.floats(-1.0))
    total = op("ReduceSum", op("Cast", alive, to=onnx.TensorProto.INT64), keepdims=0)
    empty = op("Expand", op("Equal", total, ints(0)), op("Shape", numbers, start=0, end=1))
    return op("Compress", rows, empty, axis=0)

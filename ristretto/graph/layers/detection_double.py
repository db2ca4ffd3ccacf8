"""Regions and boxes in float64, for which onnxruntime has neither MaxRoiPool nor NonMaxSuppression."""

from __future__ import annotations

import numpy as np
import onnx

from ristretto.caffe.catalogue.detection import RoiPoolingParams
from ristretto.graph.fake_quant import emit_round
from ristretto.graph.registry import LayerContext
from ristretto.numerics.rounding import Rounding

_LEAST = float(np.finfo(np.float32).min)
"""What Caffe starts a maximum from (-FLT_MAX)."""


def maxima_of_regions(context: LayerContext, params: RoiPoolingParams, regions: str) -> str:
    """ROIPooling of regions (r, 5), one region after the other: (r, c, pooled_h, pooled_w)."""
    nodes, op, ints = context.nodes, context.op, context.nodes.ints
    height, width = context.input_shapes[0][2:]
    images, *corners = nodes.ops("Split", regions, count=5, axis=1)
    scale = nodes.floats(params.spatial_scale)
    left, upper, right, lower = (emit_round(nodes, op("Mul", corner, scale), Rounding.HALF_AWAY) for corner in corners)
    all_rows = _bins(context, upper, lower, params.pooled[0], height)
    all_columns = _bins(context, left, right, params.pooled[1], width)
    image, rows, columns = (nodes.unique(stem) for stem in ("image", "rows", "columns"))

    def one_region() -> list[str]:
        """Maxima over rows, then over columns; what is in no bin is too small to win."""
        value = op("Gather", context.inputs[0], op("Cast", image, to=onnx.TensorProto.INT64), axis=0)
        value = op("Reshape", value, ints([-1, 1, height, width]))
        value = _maxima(context, value, op("Unsqueeze", rows, ints([2])), 2)
        return [_maxima(context, op("Unsqueeze", value, ints([2])), columns, 3)]

    body = nodes.body(nodes.unique("region"), (image, rows, columns), one_region)
    scanned = (op("Reshape", images, ints([-1])), all_rows, all_columns)
    maxima = op("Scan", *scanned, body=body, num_scan_inputs=3)
    nothing = op("Equal", maxima, nodes.floats(_LEAST))
    return op("Where", nothing, nodes.floats(0.0), maxima)


def _maxima(context: LayerContext, value: str, inside: str, axis: int) -> str:
    """The maxima along an axis of what is inside."""
    counts = context.op("Cast", inside, to=onnx.TensorProto.BOOL)
    kept = context.op("Where", counts, value, context.nodes.floats(_LEAST))
    return context.op("ReduceMax", kept, axes=[axis], keepdims=0)


def _bins(context: LayerContext, first: str, last: str, count: int, length: int) -> str:
    """Which pixels along an axis are in each bin, as ones and zeros: (regions, count, length) for ends (regions, 1)."""
    op, floats, ints = context.op, context.nodes.floats, context.nodes.ints
    size = op("Add", op("Sub", last, first), floats(1.0))
    size = op("Div", op("Max", size, floats(1.0)), floats(float(count)))
    numbers = np.arange(count, dtype=np.float64)
    start = op("Add", op("Floor", op("Mul", size, context.weight(numbers, "bins"))), first)
    end = op("Add", op("Ceil", op("Mul", size, context.weight(numbers + 1.0, "bins"))), first)
    pixels = context.weight(np.arange(length, dtype=np.float64), "pixels")
    begun = op("GreaterOrEqual", pixels, op("Unsqueeze", start, ints([2])))
    inside = op("And", begun, op("Less", pixels, op("Unsqueeze", end, ints([2]))))
    return op("Cast", inside, to=onnx.TensorProto.FLOAT)


def without_overlaps(
    context: LayerContext, boxes: str, scores: str, overlap: float, threshold: float, out_of_race: str
) -> str:
    """Scores (n, classes, priors), with ``out_of_race`` in place of those whose box overlaps a better one's.

    In each round the best box of each class of each image is kept, and what overlaps it by more than ``overlap`` leaves
    the race, until no score above the threshold is left.
    """
    nodes, op, ints = context.nodes, context.op, context.nodes.ints
    least = nodes.floats(threshold)
    corners = nodes.ops("Split", op("Unsqueeze", boxes, ints([1])), count=4, axis=3)
    sides = [op("Squeeze", corner, ints([3])) for corner in corners]
    area = _area(context, *sides)
    places = op("Range", ints(0), op("Squeeze", op("Shape", scores, start=2)), ints(1))
    turn, going, race, kept = (nodes.unique(stem) for stem in ("turn", "going", "race", "kept"))

    def one_round() -> list[str]:
        place = op("ArgMax", race, axis=2, keepdims=1)
        in_race = op("Greater", op("ReduceMax", race, axes=[2], keepdims=1), least)
        chosen = op("And", op("Equal", places, place), in_race)
        ends = nodes.ops("Split", op("GatherND", boxes, place, batch_dims=1), count=4, axis=2)
        low = [op("Max", side, end) for side, end in zip(sides[:2], ends[:2], strict=True)]
        high = [op("Min", side, end) for side, end in zip(sides[2:], ends[2:], strict=True)]
        common = _area(context, *low, *high)
        union = op("Sub", op("Add", area, _area(context, *ends)), common)
        # Two boxes without area give NaN, which is not greater.
        hides = op("Greater", op("Div", common, union), nodes.floats(overlap))
        lost = op("Or", chosen, op("And", hides, in_race))
        left = op("Where", lost, out_of_race, race)
        goes_on = op("Greater", op("ReduceMax", left, keepdims=0), least)
        return [goes_on, left, op("Where", chosen, race, kept)]

    body = nodes.body(nodes.unique("round"), (turn, going, race, kept), one_round, loop=True)
    begun = op("Greater", op("ReduceMax", scores, keepdims=0), least)
    _, result = nodes.ops("Loop", "", begun, scores, out_of_race, count=2, body=body)
    return result


def _area(context: LayerContext, left: str, upper: str, right: str, lower: str) -> str:
    """Of boxes; none where an end lies before its start."""
    zero = context.nodes.floats(0.0)
    width, height = (context.op("Max", context.op("Sub", *pair), zero) for pair in ((right, left), (lower, upper)))
    return context.op("Mul", width, height)

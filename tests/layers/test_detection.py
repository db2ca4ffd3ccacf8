"""PriorBox and DetectionOutput against loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ristretto.numerics.arithmetic import Arithmetic
from tests.layers.harness import (
    Arrays,
    Case,
    assert_close,
    cases,
    check,
    check_double,
    complaint,
    layer_text,
    run_case,
)
from tests.layers.reference import Array, places, suppress


def prior_box(fields: str) -> str:
    return layer_text("PriorBox", "prior_box_param", fields)


def priors(
    sides: list[list[tuple[float, float]]],
    *,
    variance: tuple[float, ...] = (0.1, 0.1, 0.1, 0.1),
    image: tuple[float, float] = (60.0, 100.0),
    step: tuple[float, float] = (20.0, 20.0),
    offset: float = 0.5,
    clip: bool = False,
):
    """Boxes of the given (width, height) around the centre of every cell of 3 rows and 5 columns."""

    def expected(*_: Arrays) -> Array:
        boxes = []
        for row, column in places(3, 5):
            y, x = (row + offset) * step[0], (column + offset) * step[1]
            for wide, high in [side for group in sides for side in group]:
                box = [(x - wide / 2) / image[1], (y - high / 2) / image[0]]
                box += [(x + wide / 2) / image[1], (y + high / 2) / image[0]]
                boxes.append(np.clip(box, 0, 1) if clip else box)
        return np.stack([np.reshape(boxes, -1), np.tile(variance, len(boxes))])[None]

    return expected


FEATURES, IMAGE = np.zeros((2, 4, 3, 5)), np.zeros((2, 3, 60, 100))
ROOT = math.sqrt(2.0)


@cases(
    Case("square", prior_box("min_size: 30"), priors([[(30, 30)]]), (FEATURES, IMAGE)),
    Case(
        "between-sizes",
        prior_box("min_size: 16 max_size: 25 clip: true"),
        priors([[(16, 16), (20, 20)]], clip=True),
        (FEATURES, IMAGE),
    ),
    Case(
        "flipped-ratio",
        prior_box("min_size: 20 aspect_ratio: [1, 2, 2]"),
        priors([[(20, 20), (20 * ROOT, 20 / ROOT), (20 / ROOT, 20 * ROOT)]]),
        (FEATURES, IMAGE),
    ),
    Case(
        "two-sizes",
        prior_box("min_size: [9, 20] max_size: [16, 45] aspect_ratio: 2 flip: false"),
        priors([[(9, 9), (12, 12), (9 * ROOT, 9 / ROOT)], [(20, 20), (30, 30), (20 * ROOT, 20 / ROOT)]]),
        (FEATURES, IMAGE),
    ),
    Case(
        "own-step-and-offset",
        prior_box("min_size: 20 step_h: 8 step_w: 16 offset: 0.25 img_h: 50 img_w: 80 variance: [0.1, 0.1, 0.2, 0.2]"),
        priors([[(20, 20)]], step=(8, 16), offset=0.25, image=(50, 80), variance=(0.1, 0.1, 0.2, 0.2)),
        (FEATURES, IMAGE),
    ),
)
def test_prior_box(case: Case) -> None:
    check(replace(case, double=1e-6))  # boxes are float32 numbers


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "min_size must be given and positive; add min_size"),
        ("min_size: 3 max_size: 2", "max_size 2 is not larger than min_size 3"),
        (
            "min_size: 3 max_size: [4, 5]",
            "max_size is given 2 times, min_size 1 times; give one max_size for each min_size",
        ),
        ("min_size: 3 variance: [1, 2]", "variance is given 2 times, not once or four times"),
    ],
)
def test_prior_box_complains(fields: str, message: str) -> None:
    assert complaint(prior_box(fields), (1, 4, 3, 5), (1, 3, 60, 100)) == message


def detection(fields: str) -> str:
    return layer_text("DetectionOutput", "detection_output_param", fields)


def decode(code: str, prior: Array, variance: Array, told: Array) -> Array:
    """One box from its prior."""
    told = told * variance
    low, high = prior[:2], prior[2:]
    size = high - low
    if code == "CORNER":
        return prior + told
    if code == "CORNER_SIZE":
        return prior + told * np.concatenate([size, size])
    centre = told[:2] * size + (low + high) / 2
    reach = np.exp(told[2:]) * size / 2
    return np.concatenate([centre - reach, centre + reach])


def detected(
    *,
    code: str = "CORNER",
    encoded: bool = False,
    background: int = 0,
    threshold: float = -np.inf,
    overlap: float = 0.3,
    top_k: int | None = None,
    keep: int | None = None,
):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        told, scores, priors_ = (bottom.astype(np.float64) for bottom in bottoms)
        boxes, variances = priors_.reshape(2, -1, 4)
        if encoded:
            variances = np.ones_like(variances)
        classes = scores.shape[1] // len(boxes)
        rows = []
        for image in range(len(told)):
            parts = zip(boxes, variances, told[image].reshape(-1, 4), strict=True)
            decoded = np.array([decode(code, *part) for part in parts])
            found = []
            for label in range(classes):
                column = scores[image].reshape(-1, classes)[:, label]
                if label != background:
                    stay = suppress(decoded, column, overlap, threshold, top_k)
                    found += [(float(column[index]), label, index) for index in stay]
            found = sorted(found, key=lambda item: -item[0])[:keep]
            for score, label, index in sorted(found, key=lambda item: (item[1], -item[0])):
                rows.append([image, label, score, *decoded[index]])
        if not rows:
            rows = [[image, *[-1.0] * 6] for image in range(len(told))]
        return np.array(rows)[None, None]

    return expected


COUNT = 30


def scene(classes: int, images: int = 2) -> Arrays:
    """Boxes that overlap a good deal, distinct scores."""
    rng = np.random.default_rng(classes)
    corner, size = rng.random((COUNT, 2)) * 0.6, rng.random((COUNT, 2)) * 0.3 + 0.1
    boxes = np.concatenate([corner, corner + size], axis=1)
    prior = np.stack([boxes.reshape(-1), np.tile([0.1, 0.1, 0.2, 0.2], COUNT)])[None]
    return rng.standard_normal((images, COUNT * 4)) * 0.5, rng.random((images, COUNT * classes)), prior


@cases(
    Case("corner", detection("num_classes: 3"), detected(), scene(3)),
    Case("centre", detection("num_classes: 3 code_type: CENTER_SIZE"), detected(code="CENTER_SIZE"), scene(3)),
    Case("corner-size", detection("num_classes: 2 code_type: CORNER_SIZE"), detected(code="CORNER_SIZE"), scene(2)),
    Case(
        "encoded",
        detection("num_classes: 2 code_type: CENTER_SIZE variance_encoded_in_target: true"),
        detected(code="CENTER_SIZE", encoded=True),
        scene(2),
    ),
    Case(
        "threshold-and-overlap",
        detection("num_classes: 4 confidence_threshold: 0.6 nms_param { nms_threshold: 0.1 }"),
        detected(threshold=0.6, overlap=0.1),
        scene(4),
    ),
    Case("best-of-class", detection("num_classes: 3 nms_param { top_k: 5 }"), detected(top_k=5), scene(3)),
    Case("best-of-image", detection("num_classes: 4 keep_top_k: 7"), detected(keep=7), scene(4)),
    Case(
        "more-than-there-is", detection("num_classes: 2 keep_top_k: 900 nms_param { top_k: 900 }"), detected(), scene(2)
    ),
    Case(
        "other-background",
        detection("num_classes: 3 background_label_id: 2 keep_top_k: 4"),
        detected(background=2, keep=4),
        scene(3, 1),
    ),
    Case("no-background", detection("num_classes: 2 background_label_id: -1"), detected(background=-1), scene(2)),
    Case("nothing", detection("num_classes: 2 confidence_threshold: 2"), detected(threshold=2.0), scene(2)),
)
def test_detection_output(case: Case) -> None:
    """The shape rule cannot know the number of rows, so that values alone are compared."""
    (top,), bottoms, blobs = run_case(case)
    assert_close(top, case.expected(bottoms, blobs), 1e-5)
    check_double(case)


def test_boxes_that_touch_or_have_no_area_stay_in_float64() -> None:
    """What NonMaxSuppression makes of them in float32 too: they overlap nothing."""
    boxes = np.array([[0.1, 0.1, 0.3, 0.3], [0.3, 0.1, 0.5, 0.3], [0.2, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2]])
    prior = np.stack([boxes.reshape(-1), np.full(16, 0.1)])[None]
    scores = np.array([[0.5, 0.9, 0.5, 0.8, 0.5, 0.7, 0.5, 0.6]])
    case = Case("flat", detection("num_classes: 2"), lambda *_: 0.0, (np.zeros((1, 16)), scores, prior))
    (single,), _, _ = run_case(case)
    (double,), _, _ = run_case(case, arithmetic=Arithmetic.FLOAT64)
    assert double.shape == single.shape == (1, 1, 4, 7)
    np.testing.assert_allclose(double, single, atol=1e-7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "num_classes must be at least 1; add num_classes"),
        ("num_classes: 1", "there is no class beside the background; count the background in num_classes"),
        (
            "num_classes: 2 share_location: false",
            "boxes of their own for each class (share_location: false) are not supported",
        ),
        (
            "num_classes: 2 nms_param { eta: 0.5 }",
            "an overlap that is lowered while boxes are suppressed is not supported; set eta to 1",
        ),
        (
            "num_classes: 3",
            "scores of shape (1, 10) are not 3 numbers for each of the 5 priors; check num_classes and the priors",
        ),
    ],
)
def test_detection_complains(fields: str, message: str) -> None:
    assert complaint(detection(fields), (1, 20), (1, 10), (1, 2, 20)) == message


def roi_pooling(fields: str) -> str:
    return layer_text("ROIPooling", "roi_pooling_param", fields)


def half_away(value: float) -> int:
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def roi_pooled(high: int, wide: int, scale: float):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        x, regions = bottoms
        top = np.zeros((len(regions), x.shape[1], high, wide))
        for number, (image, *corners) in enumerate(regions.reshape(-1, 5).tolist()):
            x1, y1, x2, y2 = (half_away(corner * scale) for corner in corners)
            rows, columns = max(y2 - y1 + 1, 1) / high, max(x2 - x1 + 1, 1) / wide
            for row, column in places(high, wide):
                h0, h1 = (min(max(y1 + at, 0), x.shape[2]) for at in (int(row * rows), math.ceil((row + 1) * rows)))
                w0, w1 = (
                    min(max(x1 + at, 0), x.shape[3])
                    for at in (int(column * columns), math.ceil((column + 1) * columns))
                )
                if h1 > h0 and w1 > w0:
                    top[number, :, row, column] = x[int(image), :, h0:h1, w0:w1].max(axis=(1, 2))
        return top

    return expected


REGIONS = np.array([[0, 0, 0, 30, 20], [1, 8, 8, 40, 31], [1, 50, 50, 60, 60], [0, 12, 4, 12, 4]])
EIGHTH = roi_pooling("pooled_h: 2 pooled_w: 3 spatial_scale: 0.125")
QUARTER = roi_pooling("pooled_h: 4 pooled_w: 4 spatial_scale: 0.25")
WHOLE = roi_pooling("pooled_h: 1 pooled_w: 1")


@cases(
    Case("eighth", EIGHTH, roi_pooled(2, 3, 0.125), ((2, 3, 5, 6), REGIONS)),
    Case("quarter", QUARTER, roi_pooled(4, 4, 0.25), ((2, 3, 9, 12), REGIONS)),
    Case("four-axes", WHOLE, roi_pooled(1, 1, 1.0), ((2, 3, 40, 50), REGIONS.reshape(-1, 5, 1, 1))),
)
def test_roi_pooling(case: Case) -> None:
    check(case)


def test_roi_pooling_complains() -> None:
    message = "pooled_h and pooled_w must be at least 1, found (2, 0)"
    assert complaint(roi_pooling("pooled_h: 2"), (1, 1, 4, 4), (3, 5)) == message
    message = "regions must be (number, 5), found (3, 4)"
    assert complaint(roi_pooling("pooled_h: 2 pooled_w: 2"), (1, 1, 4, 4), (3, 4)) == message


def psroi_pooling(fields: str) -> str:
    return layer_text("PSROIPooling", "psroi_pooling_param", fields)


def psroi_pooled(bins: int, scale: float):
    """In the float type of the net as the source computes, so that bins end at the same pixels."""

    def expected(bottoms: Arrays, _: Arrays) -> Array:
        x, regions = bottoms
        top = np.zeros((len(regions), x.shape[1] // bins**2, bins, bins))
        real = regions.dtype.type
        one = real(np.float32(scale))
        for number, (image, *corners) in enumerate(regions.reshape(-1, 5).tolist()):
            x1, y1 = (real(half_away(corner)) * one for corner in corners[:2])
            x2, y2 = (real(half_away(corner) + 1) * one for corner in corners[2:])
            high, wide = (max(side, real(0.1)) / real(bins) for side in (y2 - y1, x2 - x1))
            for c, row, column in places(*top.shape[1:]):
                h0, w0 = math.floor(real(row) * high + y1), math.floor(real(column) * wide + x1)
                h1, w1 = math.ceil(real(row + 1) * high + y1), math.ceil(real(column + 1) * wide + x1)
                window = x[
                    int(image), (c * bins + row) * bins + column, max(h0, 0) : max(h1, 0), max(w0, 0) : max(w1, 0)
                ]
                top[number, c, row, column] = window.mean() if window.size else 0.0
        return top

    return expected


FRACTIONS = REGIONS + np.array([0, 0.5, 0.49, -0.5, 1.7])
OUTSIDE = np.array([[0, -20, -9, -12, -3], [0, -20, -9, 12, 30], [0, 9, 9, 3, 3]])


@cases(
    Case("thirds", psroi_pooling("output_dim: 2 group_size: 3 spatial_scale: 0.125"), psroi_pooled(3, 0.125),
         ((2, 18, 5, 6), REGIONS)),
    Case("sixteenth", psroi_pooling("output_dim: 3 group_size: 2 spatial_scale: 0.0625"), psroi_pooled(2, 0.0625),
         ((2, 12, 4, 5), FRACTIONS)),
    Case("sevenths", psroi_pooling("output_dim: 1 group_size: 7 spatial_scale: 0.3"), psroi_pooled(7, 0.3),
         ((2, 49, 12, 11), FRACTIONS)),
    Case("outside", psroi_pooling("output_dim: 2 group_size: 2"), psroi_pooled(2, 1.0), ((1, 8, 20, 10), OUTSIDE)),
    Case("one-bin", psroi_pooling("output_dim: 2 group_size: 1 spatial_scale: 0.5"), psroi_pooled(1, 0.5),
         ((3, 2, 40, 50), REGIONS.reshape(-1, 5, 1, 1))),
)  # fmt: skip
def test_psroi_pooling(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("fields", "regions", "message"),
    [
        ("group_size: 2", (3, 5), "output_dim must be at least 1, found 0; add output_dim"),
        ("output_dim: 2", (3, 5), "group_size must be at least 1, found 0; add group_size"),
        ("output_dim: 2 group_size: 2", (3, 4), "regions must be (number, 5), found (3, 4)"),
        (
            "output_dim: 2 group_size: 3",
            (3, 5),
            "output_dim 2 and 3 x 3 bins need 18 channels, the bottom has 8",
        ),
    ],
)
def test_psroi_pooling_complains(fields: str, regions: tuple[int, ...], message: str) -> None:
    assert complaint(psroi_pooling(fields), (1, 8, 4, 4), regions) == message

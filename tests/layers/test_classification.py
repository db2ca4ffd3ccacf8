"""Softmax, Accuracy and the losses over classes, against loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.blobs import blob_pieces
from tests.layers import reference
from tests.layers.harness import (
    Arrays,
    Case,
    cases,
    check,
    check_free_batch,
    complaint,
    layer_text,
    run_case,
    shapes_of,
)
from tests.layers.reference import Array


def labels(classes: int, *shape: int) -> Array:
    return np.random.default_rng(classes).integers(0, classes, shape).astype(np.float32)


def softmax(fields: str = "") -> str:
    return layer_text("Softmax", "softmax_param", fields)


@cases(
    Case("matrix", softmax(), lambda b, _: reference.softmax(b[0], 1), ((3, 5),)),
    Case("images", softmax(), lambda b, _: reference.softmax(b[0], 1)),
    Case("axis-2", softmax("axis: 2"), lambda b, _: reference.softmax(b[0], 2)),
    Case("axis-minus-1", softmax("axis: -1"), lambda b, _: reference.softmax(b[0], 3)),
    Case("large-values", softmax(), lambda b, _: reference.softmax(b[0], 1), ([[1000.0, 999.0, -1000.0]],)),
)
def test_softmax(case: Case) -> None:
    check(case)
    check_free_batch(case, 4)


def softmax_loss(fields: str = "") -> str:
    return f'type: "SoftmaxWithLoss" {fields}'


def loss(axis: int = 1, **options: object):
    return lambda bottoms, _: reference.softmax_loss(bottoms[0], bottoms[1], axis, **options)


def loss_and_probabilities(bottoms: Arrays, _: Arrays) -> list[Array]:
    return [np.float64(reference.softmax_loss(*bottoms)), reference.softmax(bottoms[0], 1)]


MATRIX = ((6, 4), labels(4, 6))
IMAGES = ((3, 4, 2, 5), labels(4, 3, 1, 2, 5))
IGNORE = "ignore_label: 2"
LOSSES = (
    Case("matrix", softmax_loss(), loss(), MATRIX),
    Case("images", softmax_loss(), loss(), IMAGES),
    Case("labels-without-channel", softmax_loss(), loss(), ((3, 4, 2, 5), labels(4, 3, 2, 5))),
    Case("ignore", softmax_loss(f"loss_param {{ {IGNORE} }}"), loss(ignore=2), IMAGES),
    Case("ignore-negative", softmax_loss("loss_param { ignore_label: -1 }"), loss(ignore=-1), ((3, 4), [0, -1, 3])),
    Case(
        "full-ignore",
        softmax_loss(f"loss_param {{ {IGNORE} normalization: FULL }}"),
        loss(ignore=2, mode="FULL"),
        IMAGES,
    ),
    Case("batch", softmax_loss("loss_param { normalization: BATCH_SIZE }"), loss(mode="BATCH_SIZE"), IMAGES),
    Case(
        "batch-ignore",
        softmax_loss(f"loss_param {{ {IGNORE} normalization: BATCH_SIZE }}"),
        loss(ignore=2, mode="BATCH_SIZE"),
        IMAGES,
    ),
    Case("none", softmax_loss("loss_param { normalization: NONE }"), loss(mode="NONE"), IMAGES),
    Case("old-normalize", softmax_loss("loss_param { normalize: true }"), loss(), IMAGES),
    Case("old-not-normalize", softmax_loss("loss_param { normalize: false }"), loss(mode="BATCH_SIZE"), IMAGES),
    Case(
        "normalization-beats-normalize",
        softmax_loss("loss_param { normalize: false normalization: VALID }"),
        loss(),
        IMAGES,
    ),
    Case("axis-3", softmax_loss("softmax_param { axis: 3 }"), loss(3), ((3, 4, 2, 5), labels(5, 3, 4, 2))),
    Case(
        "axis-minus-1-batch",
        softmax_loss("softmax_param { axis: -1 } loss_param { normalization: BATCH_SIZE }"),
        loss(3, mode="BATCH_SIZE"),
        ((3, 4, 2, 5), labels(5, 3, 4, 2)),
    ),
    Case("impossible", softmax_loss(), loss(), ([[500.0, 0.0], [0.0, 0.0]], [1, 0])),
    Case("two-tops", softmax_loss(), loss_and_probabilities, MATRIX, tops=2),
)


@cases(*LOSSES)
def test_softmax_loss(case: Case) -> None:
    check(case)


FREE_LOSSES = tuple(case for case in LOSSES if not case.id.startswith("axis"))


@cases(*FREE_LOSSES)
def test_softmax_loss_any_batch(case: Case) -> None:
    check_free_batch(case, 4)


def test_loss_where_all_is_ignored_is_zero() -> None:
    check(replace(LOSSES[3], inputs=((2, 4, 1, 1), np.full((2, 1), 2.0)), expected=lambda *_: np.float64(0.0)))


def test_loss_complains_of_labels() -> None:
    message = (
        "labels of shape (3, 2) do not give one label for each of the 3 places of (3, 4); "
        "the classes are taken to lie along axis 1"
    )
    assert complaint(softmax_loss(), (3, 4), (3, 2)) == message


def accuracy(fields: str = "") -> str:
    return layer_text("Accuracy", "accuracy_param", fields)


def scored(tops: int = 1, **options: object):
    def expected(bottoms: Arrays, _: Arrays) -> list[Array]:
        total, each = reference.accuracy(*bottoms, **options)
        return [np.float64(total), each][:tops]

    return expected


TIES = (np.random.default_rng(5).integers(0, 3, (40, 4)), labels(4, 40))
SCORES = (
    Case("matrix", accuracy(), scored(), ((40, 4), labels(4, 40))),
    Case("top-2", accuracy("top_k: 2"), scored(top_k=2), ((40, 4), labels(4, 40))),
    Case("top-all", accuracy("top_k: 4"), scored(top_k=4), TIES),
    Case("ties", accuracy(), scored(), TIES),
    Case("ties-top-2", accuracy("top_k: 2"), scored(top_k=2), TIES),
    Case("all-equal", accuracy("top_k: 3"), scored(top_k=3), (np.zeros((5, 4)), labels(4, 5))),
    Case("images", accuracy(), scored(), ((3, 4, 5, 6), labels(4, 3, 1, 5, 6))),
    Case("ignore", accuracy("ignore_label: 1"), scored(ignore=1), ((3, 4, 5, 6), labels(4, 3, 5, 6))),
    Case("ignore-all", accuracy("ignore_label: 1"), scored(ignore=1), ((2, 4), np.ones(2))),
    Case("classes", accuracy(), scored(2), TIES, tops=2),
    Case("classes-absent", accuracy("top_k: 2"), scored(2, top_k=2), ((5, 4), [1, 1, 3, 3, 3]), tops=2),
    Case(
        "classes-ignore",
        accuracy("ignore_label: 1 top_k: 2"),
        scored(2, ignore=1, top_k=2),
        ((3, 4, 5, 6), labels(4, 3, 5, 6)),
        tops=2,
    ),
)


@cases(*SCORES, Case("axis-3", accuracy("axis: 3"), scored(2, axis=3), ((3, 4, 5, 6), labels(6, 3, 4, 5)), tops=2))
def test_accuracy(case: Case) -> None:
    check(case)


@cases(*SCORES)
def test_accuracy_any_batch(case: Case) -> None:
    check_free_batch(case, 7)


def test_accuracy_of_not_a_number_is_none() -> None:
    """No comparison with NaN holds: Caffe takes that for right. A place that does not count does no harm."""
    scores = np.float32([[1, 0, 0], [0, math.nan, 0], [0, 0, 2]])
    (top,), _, _ = run_case(Case("nan", accuracy(), scored(), (scores, [0, 0, 2])))
    assert math.isnan(top)
    ignored = Case("nan", accuracy("ignore_label: 1"), scored(ignore=1), (scores, [0, 1, 2]))
    (top,), _, _ = run_case(ignored)
    assert top == 1.0


def test_accuracy_complains() -> None:
    assert complaint(accuracy("top_k: 5"), (3, 4), (3,)) == "top_k 5 is not between 1 and the 4 classes of (3, 4)"
    assert "labels of shape (4,)" in complaint(accuracy(), (3, 4), (4,))
    assert shapes_of(accuracy(), (3, 4), (3,), tops=2).outputs == ((), (4,))


MATRIX_OF_GAIN = np.random.default_rng(2).random((1, 1, 4, 4))


def infogain(fields: str = "") -> str:
    return f'type: "InfogainLoss" {fields}'


def gained(axis: int = 1, **options: object):
    return lambda bottoms, _: reference.infogain_loss(*bottoms, axis, **options)


@cases(
    Case("matrix", infogain(), gained(), (*MATRIX, MATRIX_OF_GAIN)),
    Case("images", infogain(), gained(), (*IMAGES, MATRIX_OF_GAIN)),
    Case("ignore", infogain(f"loss_param {{ {IGNORE} }}"), gained(ignore=2), (*IMAGES, MATRIX_OF_GAIN)),
    Case("batch", infogain("loss_param { normalize: false }"), gained(mode="BATCH_SIZE"), (*IMAGES, MATRIX_OF_GAIN)),
    Case(
        "axis-2",
        infogain("infogain_loss_param { axis: 2 }"),
        gained(2),
        ((3, 2, 4, 5), labels(4, 3, 2, 5), MATRIX_OF_GAIN),
    ),
    Case(
        "probabilities",
        infogain(),
        lambda b, _: [np.float64(reference.infogain_loss(*b)), reference.softmax(b[0], 1)],
        (*MATRIX, MATRIX_OF_GAIN),
        tops=2,
    ),
)
def test_infogain_loss(case: Case) -> None:
    check(case)


def test_infogain_complains() -> None:
    message = "the infogain matrix has shape (3, 3), the bottom (6, 4) has 4 classes"
    assert complaint(infogain(), (6, 4), (6,), (3, 3)) == message
    message = "the layer has no infogain matrix; name a .binaryproto as source, or feed the matrix to the layer as "
    assert complaint(infogain(), (6, 4), (6,), run=True) == message + "a third bottom"


def test_infogain_matrix_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "gain.binaryproto"
    path.write_bytes(b"".join(bytes(piece) for piece in blob_pieces(MATRIX_OF_GAIN.astype(np.float32))))
    text = infogain(f'infogain_loss_param {{ source: "{path}" }}')
    gain = MATRIX_OF_GAIN.astype(np.float32).astype(np.float64)
    check(Case("file", text, lambda b, _: reference.infogain_loss(*b, gain, 1), MATRIX))
    three = "the infogain matrix in {} has 16 elements, 3 classes need 9"
    assert complaint(text, (6, 3), (6,), run=True) == three.format(path)
    path.write_bytes(b"not a blob")
    assert complaint(text, (6, 4), (6,), run=True) == f"cannot read the infogain matrix {path}: it is no .binaryproto"
    path.unlink()
    missing = f"cannot read the infogain matrix {path}: No such file or directory"
    assert complaint(text, (6, 4), (6,), run=True) == missing


def multinomial(bottoms: Arrays, _: Arrays) -> float:
    rows = bottoms[0].reshape(len(bottoms[0]), -1)
    picked = [max(float(row[int(label)]), 1e-20) for row, label in zip(rows, bottoms[1].reshape(-1), strict=True)]
    return -sum(map(math.log, picked)) / len(rows)


PROBABILITIES = reference.softmax(np.random.default_rng(3).standard_normal((5, 4)), 1)


@cases(
    Case("matrix", 'type: "MultinomialLogisticLoss"', multinomial, (PROBABILITIES, labels(4, 5))),
    Case(
        "images", 'type: "MultinomialLogisticLoss"', multinomial, (PROBABILITIES.reshape(5, 2, 2), labels(4, 5, 1, 1))
    ),
    Case("impossible", 'type: "MultinomialLogisticLoss"', multinomial, ([[1.0, 0.0]], [1])),
)
def test_multinomial_logistic_loss(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def hinge(norm: str):
    def expected(bottoms: Arrays, _: Arrays) -> float:
        total = 0.0
        rows = bottoms[0].reshape(len(bottoms[0]), -1)
        for row, label in zip(rows, bottoms[1].reshape(-1), strict=True):
            for number, value in enumerate(row):
                miss = max(0.0, 1.0 + (-value if number == int(label) else value))
                total += miss if norm == "L1" else miss**2
        return float(total / len(rows))

    return expected


@cases(
    Case("default", 'type: "HingeLoss"', hinge("L1"), MATRIX),
    Case("l1", layer_text("HingeLoss", "hinge_loss_param", "norm: L1"), hinge("L1"), ((3, 2, 2), labels(4, 3, 1))),
    Case("l2", layer_text("HingeLoss", "hinge_loss_param", "norm: L2"), hinge("L2"), MATRIX),
)
def test_hinge_loss(case: Case) -> None:
    check(case)
    check_free_batch(case, 4)


@pytest.mark.parametrize("kind", ["HingeLoss", "MultinomialLogisticLoss"])
def test_one_label_for_each_item(kind: str) -> None:
    message = "labels of shape (4,) are not one for each of the 3 items of (3, 5)"
    assert complaint(f'type: "{kind}"', (3, 5), (4,)) == message

"""Losses that compare two blobs value by value, against loops."""

from __future__ import annotations

import math

import numpy as np

from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text


def euclidean(bottoms: Arrays, _: Arrays) -> float:
    difference = bottoms[0].astype(np.float64).reshape(-1) - bottoms[1].reshape(-1)
    return float(difference @ difference) / len(bottoms[0]) / 2


@cases(
    Case("matrix", 'type: "EuclideanLoss"', euclidean, ((3, 5), (3, 5))),
    Case("images", 'type: "EuclideanLoss"', euclidean, ((3, 2, 4, 5), (3, 2, 4, 5))),
    Case("other-axes", 'type: "EuclideanLoss"', euclidean, ((3, 2, 4), (3, 8, 1, 1))),
    Case("vectors", 'type: "EuclideanLoss"', euclidean, ((3,), (3,))),
)
def test_euclidean_loss(case: Case) -> None:
    check(case)
    check_free_batch(case, 4)


def test_euclidean_loss_complains() -> None:
    message = "bottoms of shapes (3, 4) and (3, 5) do not hold equally many items of equally many values"
    assert complaint('type: "EuclideanLoss"', (3, 4), (3, 5)) == message


def sigmoid_loss(fields: str = "") -> str:
    return layer_text("SigmoidCrossEntropyLoss", "loss_param", fields)


def cross_entropy(mode: str = "BATCH_SIZE", ignore: int | None = None):
    def expected(bottoms: Arrays, _: Arrays) -> float:
        loss, valid = 0.0, 0
        for x, t in zip(bottoms[0].reshape(-1).tolist(), bottoms[1].reshape(-1).tolist(), strict=True):
            if int(t) == ignore:
                continue
            valid += 1
            loss -= x * (t - (x >= 0)) - math.log(1 + math.exp(x - 2 * x * (x >= 0)))
        count = bottoms[0].size
        divisors = {"BATCH_SIZE": len(bottoms[0]), "FULL": count, "VALID": max(1, valid), "NONE": 1}
        return loss / divisors[mode]

    return expected


TARGETS = np.random.default_rng(0).integers(0, 3, (3, 2, 4)) / 2
PAIR = ((3, 2, 4), TARGETS)
HUGE = (np.array([[80.0, -80.0, 0.0]]), np.array([[0.0, 1.0, 0.5]]))


@cases(
    Case("default", sigmoid_loss(), cross_entropy(), PAIR),
    Case("valid", sigmoid_loss("normalization: VALID"), cross_entropy("VALID"), PAIR),
    Case("valid-ignore", sigmoid_loss("normalization: VALID ignore_label: 1"), cross_entropy("VALID", 1), PAIR),
    Case("batch-ignore", sigmoid_loss("ignore_label: 1"), cross_entropy(ignore=1), PAIR),
    Case("full", sigmoid_loss("normalization: FULL"), cross_entropy("FULL"), PAIR),
    Case("none", sigmoid_loss("normalization: NONE"), cross_entropy("NONE"), PAIR),
    Case("old-normalize", sigmoid_loss("normalize: true"), cross_entropy("VALID"), PAIR),
    Case("other-axes", sigmoid_loss(), cross_entropy(), ((3, 8), TARGETS)),
    Case("huge", sigmoid_loss(), cross_entropy(), HUGE),
)
def test_sigmoid_cross_entropy_loss(case: Case) -> None:
    check(case)
    check_free_batch(case, 4)


def contrastive(fields: str = "") -> str:
    return layer_text("ContrastiveLoss", "contrastive_loss_param", fields)


def contrasted(margin: float = 1.0, *, legacy: bool = False):
    def expected(bottoms: Arrays, _: Arrays) -> float:
        first, second, alike = (bottom.reshape(len(bottom), -1).astype(np.float64) for bottom in bottoms)
        loss = 0.0
        for a, b, same in zip(first, second, alike, strict=True):
            squared = float(((a - b) ** 2).sum())
            if int(same[0]):
                loss += squared
            elif legacy:
                loss += max(margin - squared, 0.0)
            else:
                loss += max(margin - math.sqrt(squared), 0.0) ** 2
        return loss / len(first) / 2

    return expected


PAIRS = ((6, 3), (6, 3), [1, 0, 0, 1, 0, 0.5])


@cases(
    Case("default", contrastive(), contrasted(), PAIRS),
    Case("wide", contrastive("margin: 4"), contrasted(4.0), PAIRS),
    Case("legacy", contrastive("margin: 9 legacy_version: true"), contrasted(9.0, legacy=True), PAIRS),
    Case("four-axes", contrastive("margin: 3"), contrasted(3.0), ((2, 3, 1, 1), (2, 3, 1, 1), [[1], [0]])),
)
def test_contrastive_loss(case: Case) -> None:
    check(case)
    check_free_batch(case, 5)


def test_contrastive_loss_complains() -> None:
    message = "features must be (n, c) and alike in both bottoms, found (6, 3) and (6, 4)"
    assert complaint(contrastive(), (6, 3), (6, 4), (6,)) == message
    message = "a third bottom of shape (5,) does not say of 6 pairs if they are alike"
    assert complaint(contrastive(), (6, 3), (6, 3), (5,)) == message

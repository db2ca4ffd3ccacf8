"""BatchNorm, LRN, MVN and Normalize against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.layers.harness import Arrays, Case, cases, check, check_free_batch, complaint, layer_text, shapes_of, stored
from tests.layers.reference import Array, batch_statistics, normalize_channels, respond_across, respond_within


def batch_norm(fields: str = "") -> str:
    return layer_text("BatchNorm", "batch_norm_param", fields)


def stored_statistics(eps: float = 1e-5):
    """The blobs are sums, and the factor says of how many; of none it makes zeros."""

    def expected(bottoms: Arrays, blobs: Arrays) -> Array:
        mean, variance, factor = (blob.astype(np.float64) for blob in blobs)
        scale = 0.0 if factor[0] == 0 else 1.0 / factor[0]
        return normalize_channels(bottoms[0], mean * scale, variance * scale, stored(eps))

    return expected


def of_the_batch(eps: float = 1e-5):
    return lambda bottoms, _: normalize_channels(bottoms[0], *batch_statistics(bottoms[0]), stored(eps))


def statistics(channels: int, factor: float) -> Arrays:
    rng = np.random.default_rng(channels)
    mean, variance = rng.standard_normal(channels), rng.random(channels) + 0.1
    blobs = (mean * factor, variance * factor, np.array([factor]))
    return tuple(blob.astype(np.float32) for blob in blobs)


STORED = (
    Case("images", batch_norm(), stored_statistics(), blobs=statistics(6, 1.0)),
    Case("factor-999", batch_norm(), stored_statistics(), blobs=statistics(6, 999.0)),
    Case("factor-0", batch_norm(), stored_statistics(), blobs=(*statistics(6, 1.0)[:2], np.zeros(1, np.float32))),
    Case("large-eps", batch_norm("eps: 0.5"), stored_statistics(0.5), blobs=statistics(6, 1.0)),
    Case("rank-2", batch_norm(), stored_statistics(), ((5, 3),), blobs=statistics(3, 2.0)),
    Case("rank-5", batch_norm(), stored_statistics(), ((2, 3, 2, 3, 2),), blobs=statistics(3, 2.0)),
    Case("rank-1", batch_norm(), stored_statistics(), ((7,),), blobs=statistics(1, 2.0)),
    Case("many-channels", batch_norm(), stored_statistics(), ((2, 100, 2, 2),), blobs=statistics(100, 1.0)),
    Case(
        "train-with-stored",
        batch_norm("use_global_stats: true"),
        stored_statistics(),
        phase="TRAIN",
        blobs=statistics(6, 1.0),
    ),
)


@cases(*STORED)
def test_stored_statistics(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


@cases(
    Case("train", batch_norm(), of_the_batch(), phase="TRAIN"),
    Case("test-with-batch", batch_norm("use_global_stats: false"), of_the_batch()),
    Case("large-eps", batch_norm("use_global_stats: false eps: 0.5"), of_the_batch(0.5)),
    Case("rank-2", batch_norm("use_global_stats: false"), of_the_batch(), ((5, 3),)),
    Case("rank-5", batch_norm("use_global_stats: false"), of_the_batch(), ((2, 3, 2, 3, 2),)),
    Case("rank-1", batch_norm("use_global_stats: false"), of_the_batch(), ((7,),)),
)
def test_statistics_of_the_batch(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_batch_norm_blobs() -> None:
    assert shapes_of(batch_norm(), (2, 6, 7, 9)).blobs == ((6,), (6,), (1,))


def lrn(fields: str) -> str:
    return layer_text("LRN", "lrn_param", fields)


def across(size: int, alpha: float, beta: float, k: float = 1.0):
    return lambda bottoms, _: respond_across(bottoms[0], size, alpha, beta, k)


def within(size: int, alpha: float, beta: float):
    return lambda bottoms, _: respond_within(bottoms[0], size, alpha, beta)


@cases(
    Case("across-default", lrn(""), across(5, 1.0, 0.75)),
    Case("across-1", lrn("local_size: 1 alpha: 2 beta: 0.5"), across(1, 2.0, 0.5)),
    Case("across-wider-than-channels", lrn("local_size: 15 k: 2"), across(15, 1.0, 0.75, 2.0)),
    Case("across-strong", lrn("local_size: 3 alpha: 9 beta: 1.5"), across(3, 9.0, 1.5), tolerance=2e-5),
    Case("within-3", lrn("norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2"), within(3, 2.0, 0.75)),
    Case("within-ignores-k", lrn("norm_region: WITHIN_CHANNEL local_size: 5 k: 7"), within(5, 1.0, 0.75)),
    Case("within-1", lrn("norm_region: WITHIN_CHANNEL local_size: 1 beta: 1"), within(1, 1.0, 1.0)),
)
def test_lrn(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_lrn_needs_an_odd_size() -> None:
    assert complaint(lrn("local_size: 4"), (2, 3, 4, 5)) == "local_size must be odd, found 4; use 5"


def standardised(axes: tuple[int, ...], eps: float = 1e-9, *, variance: bool = True):
    def expected(bottoms: Arrays, _: Arrays) -> Array:
        x = bottoms[0].astype(np.float64)
        centred = x - x.mean(axis=axes, keepdims=True)
        if not variance:
            return centred
        return centred / (np.sqrt((centred**2).mean(axis=axes, keepdims=True)) + eps)

    return expected


def mvn(fields: str = "") -> str:
    return layer_text("MVN", "mvn_param", fields)


@cases(
    Case("channel", mvn(), standardised((2, 3))),
    Case("image", mvn("across_channels: true"), standardised((1, 2, 3))),
    Case("mean-only", mvn("normalize_variance: false"), standardised((2, 3), variance=False)),
    Case("eps-outside-the-root", mvn("eps: 0.5"), standardised((2, 3), 0.5)),
    Case("rank-3", mvn(), standardised((2,)), ((2, 3, 5),)),
    Case("matrix-across", mvn("across_channels: true"), standardised((1,)), ((4, 5),)),
)
def test_mvn(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_mvn_of_single_values_is_zero() -> None:
    check(Case("matrix", mvn(), lambda bottoms, _: np.zeros(bottoms[0].shape), ((4, 5),)))


def normalised(axes: tuple[int, ...], eps: float = 1e-10):
    def expected(bottoms: Arrays, blobs: Arrays) -> Array:
        x = bottoms[0].astype(np.float64)
        scale = blobs[0].reshape(-1, *(1,) * (x.ndim - 2))
        return scale * x / np.sqrt((x**2).sum(axis=axes, keepdims=True) + eps)

    return expected


def normalize(fields: str = "") -> str:
    return layer_text("Normalize", "norm_param", fields)


NORMALIZE = (
    Case("image", normalize(), normalised((1, 2, 3))),
    Case("position", normalize("across_spatial: false"), normalised((1,))),
    Case("channels", normalize("channel_shared: false"), normalised((1, 2, 3))),
    Case("position-channels", normalize("across_spatial: false channel_shared: false"), normalised((1,))),
    Case("eps", normalize("across_spatial: false eps: 2"), normalised((1,), 2.0)),
    Case("matrix", normalize("channel_shared: false"), normalised((1,)), ((3, 4),)),
)


@cases(*NORMALIZE)
def test_normalize(case: Case) -> None:
    check(case)
    check_free_batch(case, 3)


def test_normalize_of_zeros_is_zero() -> None:
    check(replace(NORMALIZE[1], inputs=(np.zeros((1, 2, 2, 2)),)))
    assert shapes_of(normalize(), (1, 2, 2, 2)).blobs == ((),)
    assert shapes_of(normalize("channel_shared: false"), (1, 2, 2, 2)).blobs == ((2,),)

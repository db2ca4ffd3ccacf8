"""Random layers that keep the shape of what they read, with their formulas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.layers.random_net import Array, Blob, Canvas, Maker, Result, message, only
from tests.layers.reference import (
    batch_statistics,
    normalize_channels,
    respond_across,
    respond_within,
    sigmoid,
    softmax,
)


def float32(number: float) -> float:
    """A number as Caffe's schema stores it, whatever the net computes in."""
    return float(np.float32(number))


def relu(c: Canvas) -> None:
    slope = c.choose([None, 0.0, 0.25, -0.5, 1.5])
    factor = slope or 0.0
    fields = message("relu_param", negative_slope=slope)
    bottom = c.of_rank(0, 5)
    c.add(
        "ReLU", fields, [bottom], lambda x, _: only(np.maximum(x[0], 0) + factor * np.minimum(x[0], 0)), in_place=True
    )


def relu6(c: Canvas) -> None:
    slope = c.choose([None, 0.125])
    fields = message("relu6_param", negative_slope=slope)

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        return only(np.clip(x[0], 0, 6) + (slope or 0.0) * np.minimum(x[0], 0))

    c.add("ReLU6", fields, [c.of_rank(0, 5)], forward, in_place=True)


def prelu(c: Canvas) -> None:
    bottom = c.of_rank(2, 5)
    shared = c.flag()
    slopes = c.weight() if shared else c.weight(bottom.shape[1])

    def forward(x: Sequence[Array], blobs: Sequence[Array]) -> list[Result]:
        slope = blobs[0].reshape(-1, *(1,) * (x[0].ndim - 2))
        return only(np.maximum(x[0], 0) + slope * np.minimum(x[0], 0))

    fields = message("prelu_param", channel_shared=shared)
    c.add("PReLU", fields, [bottom], forward, slopes, in_place=True)


def elu(c: Canvas) -> None:
    alpha = c.choose([None, 0.5, 2.0])
    factor = 1.0 if alpha is None else alpha

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        return only(np.where(x[0] > 0, x[0], factor * np.expm1(np.minimum(x[0], 0))), np.abs(x[0]) + factor)

    c.add("ELU", message("elu_param", alpha=alpha), [c.of_rank(0, 5)], forward, in_place=True)


def sigmoid_layer(c: Canvas) -> None:
    c.add("Sigmoid", "", [c.of_rank(0, 5)], lambda x, _: only(sigmoid(x[0]), 1.0), in_place=True)


def tanh(c: Canvas) -> None:
    c.add("TanH", "", [c.of_rank(0, 5)], lambda x, _: only(np.tanh(x[0]), 1.0), in_place=True)


def absolute(c: Canvas) -> None:
    c.add("AbsVal", "", [c.of_rank(0, 5)], lambda x, _: only(np.abs(x[0])), in_place=True)


def bnll(c: Canvas) -> None:

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        return only(np.logaddexp(0.0, x[0]), np.abs(x[0]) + 1)

    c.add("BNLL", "", [c.of_rank(0, 5)], forward, in_place=True)


def swish(c: Canvas) -> None:
    beta = c.choose([None, 0.5, -2.0])
    factor = 1.0 if beta is None else beta

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        return only(x[0] * sigmoid(factor * x[0]), np.abs(x[0]) + x[0] ** 2)

    c.add("Swish", message("swish_param", beta=beta), [c.of_rank(0, 5)], forward, in_place=True)


def threshold(c: Canvas) -> None:
    bound = c.choose([None, 0.5, -1.0, 2.0])

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        return only((x[0] > (bound or 0.0)).astype(np.float64))

    fields = message("threshold_param", threshold=bound)
    c.add("Threshold", fields, [c.of_rank(0, 5)], forward, in_place=True, below=2)


def clip(c: Canvas) -> None:
    least, most = c.choose([(-1.0, 1.0), (0.25, 0.75), (0.0, 6.0), (-2.0, -2.0)])
    fields = message("clip_param", min=least, max=most)
    c.add("Clip", fields, [c.of_rank(0, 5)], lambda x, _: only(np.clip(x[0], least, most)), in_place=True)


def dropout(c: Canvas) -> None:
    fields = message("dropout_param", dropout_ratio=c.choose([None, 0.0, 0.75]))
    c.add("Dropout", fields, [c.of_rank(0, 5)], lambda x, _: only(x[0]), in_place=True)


def affine(c: Canvas) -> tuple[float | None, float | None, float, float]:
    """A scale and a shift, as given and as meant."""
    scale, shift = c.choose([None, 0.5, -2.0, 0.0]), c.choose([None, 1.0, -0.25, 3.0])
    return scale, shift, 1.0 if scale is None else scale, shift or 0.0


def power(c: Canvas) -> None:
    bottom = c.of_rank(0, 5)
    scale, shift, a, b = affine(c)
    exponents = [None, 1.0, 2.0, 3.0, 0.0]
    if np.min(b + a * bottom.value) > 0.1:
        exponents += [0.5, -1.0, -0.75]
    exponent = c.choose(exponents)
    p = 1.0 if exponent is None else exponent

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        base = b + a * x[0]
        steep = np.abs(p) * np.abs(base) ** (p - 1) if p else 0.0
        return only(base**p, np.abs(base**p) + steep * (abs(b) + np.abs(a * x[0])))

    c.add("Power", message("power_param", power=exponent, scale=scale, shift=shift), [bottom], forward, in_place=True)


def exponential(c: Canvas) -> None:
    bottom = c.of_rank(0, 5)
    scale, shift, a, b = affine(c)
    base = c.choose([None, -1.0, 2.0, 0.5, 1.0])
    log_base = 1.0 if base in (None, -1.0) else float(np.log(base))

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        value = np.exp(log_base * (b + a * x[0]))
        return only(value, value * (1 + abs(b * log_base) + np.abs(log_base * a * x[0])))

    c.add("Exp", message("exp_param", base=base, scale=scale, shift=shift), [bottom], forward, in_place=True)


def logarithm(c: Canvas) -> None:
    scale, shift, a, b = affine(c)
    if a == 0.0 and b <= 0.0:
        scale, a = 1.0, 1.0
    options = [blob for blob in c.blobs.values() if np.min(b + a * blob.value) > 0.1]
    if options:
        bottom = c.choose(options)
    else:
        bottom = c.of_rank(0, 5)
        a, b = 1.0, 1.0 - float(np.floor(np.min(bottom.value)))
        scale, shift = None, b
    base = c.choose([None, -1.0, 2.0, 0.5, 10.0])
    log_base = 1.0 if base in (None, -1.0) else float(np.log(base))

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        inner = b + a * x[0]
        value = np.log(inner) / log_base
        return only(value, np.abs(value) + (abs(b) + np.abs(a * x[0])) / np.abs(inner * log_base))

    c.add("Log", message("log_param", base=base, scale=scale, shift=shift), [bottom], forward, in_place=True)


def softmax_layer(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    axis, called = (1, None) if bottom.rank > 1 and c.flag() else c.axis(0, bottom.rank)
    fields = message("softmax_param", axis=called)
    c.add("Softmax", fields, [bottom], lambda x, _: only(softmax(x[0], axis), 1.0), in_place=True)


def lrn(c: Canvas) -> None:
    size, alpha, beta = c.choose([None, 1, 3, 7]), c.choose([None, 0.0001, 2.0]), c.choose([None, 0.5, 1.0])
    n, a, b = size or 5, 1.0 if alpha is None else float32(alpha), 0.75 if beta is None else beta
    bottom = c.of_rank(4, 4)
    if c.flag():
        k = c.choose([None, 2.0])
        fields = message("lrn_param", local_size=size, alpha=alpha, beta=beta, k=k)
        c.add("LRN", fields, [bottom], lambda x, _: only(respond_across(x[0], n, a, b, 1.0 if k is None else k)))
        return
    fields = message("lrn_param", local_size=size, alpha=alpha, beta=beta, norm_region="WITHIN_CHANNEL")
    c.add("LRN", fields, [bottom], lambda x, _: only(respond_within(x[0], n, a, b)))


def batch_norm(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    channels = bottom.shape[1] if bottom.rank > 1 else 1
    eps = c.choose([None, 0.5])
    added = float32(1e-5) if eps is None else eps
    factor = np.array([c.choose([1.0, 999.0, 0.5])], np.float32)
    mean = c.weight(channels) * factor
    variance = (np.abs(c.weight(channels)) + np.float32(0.1)) * factor
    own = c.integer(0, 3) == 3

    def forward(x: Sequence[Array], blobs: Sequence[Array]) -> list[Result]:
        (bottom,) = x
        m, v = batch_statistics(bottom) if own else (blobs[0] / blobs[2], blobs[1] / blobs[2])
        value = normalize_channels(bottom, m, v, added)
        sides = (-1, *(1,) * (bottom.ndim - 2))
        spread = np.sqrt(v + added).reshape(sides)
        largest = np.abs(bottom).max() + np.abs(m).reshape(sides)
        return only(value, largest / spread * (1 + np.abs(value)))

    fields = message("batch_norm_param", eps=eps, use_global_stats=False if own else None)
    c.add("BatchNorm", fields, [bottom], forward, mean, variance, factor, in_place=True)


def mvn(c: Canvas) -> None:
    bottom = c.of_rank(2, 4)
    variance, across, eps = c.choose([None, True, False]), c.flag(), c.choose([None, 0.5])
    added = float32(1e-9) if eps is None else eps
    axes = tuple(range(1 if across else 2, bottom.rank))

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        largest = np.abs(x[0]).max()
        if not axes:
            return only(np.zeros_like(x[0]))
        centred = x[0] - x[0].mean(axis=axes, keepdims=True)
        if variance is False:
            return only(centred, largest)
        spread = np.sqrt((centred**2).mean(axis=axes, keepdims=True)) + added
        return only(centred / spread, largest / spread * (1 + np.abs(centred / spread)))

    fields = message("mvn_param", normalize_variance=variance, across_channels=across, eps=eps)
    c.add("MVN", fields, [bottom], forward)


def normalize(c: Canvas) -> None:
    bottom = c.of_rank(2, 4)
    across, shared, eps = c.choose([None, True, False]), c.flag(), c.choose([None, 2.0])
    axes = (1,) if across is False else tuple(range(1, bottom.rank))
    added = float32(1e-10) if eps is None else eps

    def forward(x: Sequence[Array], blobs: Sequence[Array]) -> list[Result]:
        scale = blobs[0].reshape(-1, *(1,) * (x[0].ndim - 2))
        return only(scale * x[0] / np.sqrt((x[0] ** 2).sum(axis=axes, keepdims=True) + added))

    fields = message("norm_param", across_spatial=across, channel_shared=shared, eps=eps)
    c.add("Normalize", fields, [bottom], forward, c.weight() if shared else c.weight(bottom.shape[1]))


def broadcast(first: Array, factors: Array, axis: int) -> Array:
    """Factors for some axes of a blob, in a shape that numpy multiplies as Caffe does."""
    return factors.reshape(*factors.shape, *(1,) * (first.ndim - axis - factors.ndim))


def factors(c: Canvas, bottom: Blob) -> tuple[int, tuple[int, ...], dict[str, int | None], bool]:
    """Axis and shape of what a Scale or Bias layer holds, or reads as second bottom (the last says which)."""
    if bottom.rank > 1 and c.integer(0, 2) == 0:
        return 1, bottom.shape[1:2], {}, False
    axis, called = c.axis(0, bottom.rank)
    count = c.integer(0, bottom.rank - axis)
    if c.flag():
        return axis, bottom.shape[axis : axis + count], {"axis": called}, True
    rest = count == bottom.rank - axis and c.flag()
    return axis, bottom.shape[axis : axis + count], {"axis": called, "num_axes": -1 if rest else count}, False


def scale(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    axis, shape, fields, fed = factors(c, bottom)
    bias = c.flag()

    def forward(x: Sequence[Array], blobs: Sequence[Array]) -> list[Result]:
        many = [*x[1:], *blobs]
        product = x[0] * broadcast(x[0], many[0], axis)
        added = broadcast(x[0], many[1], axis) if bias else np.zeros(())
        return only(product + added, np.abs(product) + np.abs(added))

    text = message("scale_param", **fields, bias_term=True if bias else None)
    second = [c.pick(lambda blob: blob.shape == shape, lambda: shape)] if fed else []
    weights = [c.weight(*shape) for _ in range((not fed) + bias)]
    c.add("Scale", text, [bottom, *second], forward, *weights, in_place=True)


def bias(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    axis, shape, fields, fed = factors(c, bottom)

    def forward(x: Sequence[Array], blobs: Sequence[Array]) -> list[Result]:
        added = broadcast(x[0], [*x[1:], *blobs][0], axis)
        return only(x[0] + added, np.abs(x[0]) + np.abs(added))

    second = [c.pick(lambda blob: blob.shape == shape, lambda: shape)] if fed else []
    weights = [] if fed else [c.weight(*shape)]
    c.add("Bias", message("bias_param", **fields), [bottom, *second], forward, *weights, in_place=True)


def axpy(c: Canvas) -> None:
    x = c.of_rank(4, 4)
    many = x.shape[:2]
    a = c.pick(lambda blob: blob.shape in (many, (*many, 1, 1)), lambda: (*many, 1, 1) if c.flag() else many)

    def forward(bottoms: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        product = bottoms[0].reshape(*bottoms[1].shape[:2], 1, 1) * bottoms[1]
        return only(product + bottoms[2], np.abs(product) + np.abs(bottoms[2]))

    c.add("Axpy", "", [a, x, c.like(x)], forward)


MAKERS: dict[str, Maker] = {
    "ReLU": relu,
    "ReLU6": relu6,
    "PReLU": prelu,
    "ELU": elu,
    "Sigmoid": sigmoid_layer,
    "TanH": tanh,
    "AbsVal": absolute,
    "BNLL": bnll,
    "Swish": swish,
    "Threshold": threshold,
    "Clip": clip,
    "Dropout": dropout,
    "Power": power,
    "Exp": exponential,
    "Log": logarithm,
    "Softmax": softmax_layer,
    "LRN": lrn,
    "BatchNorm": batch_norm,
    "MVN": mvn,
    "Normalize": normalize,
    "Scale": scale,
    "Bias": bias,
    "Axpy": axpy,
}

"""Caffe's layers in plain numpy and loops, in float64, written from the formulas of its sources."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def places(*lengths: int) -> itertools.product[tuple[int, ...]]:
    """All index tuples of an array with axes of the given lengths."""
    return itertools.product(*map(range, lengths))


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int] | None = None,
    group: int = 1,
) -> Array:
    """Correlate (n, c, ...) with (outputs, c / group, kernel...), any number of spatial axes."""
    axes = x.ndim - 2
    dilation = dilation or [1] * axes
    kernel = weight.shape[2:]
    sizes = []
    for i in range(axes):
        extent = dilation[i] * (kernel[i] - 1) + 1
        sizes.append((x.shape[2 + i] + 2 * pad[i] - extent) // stride[i] + 1)
    outputs, members = weight.shape[0], weight.shape[1]
    top = np.zeros((x.shape[0], outputs, *sizes))
    for n, o, *at in places(*top.shape):
        total = 0.0 if bias is None else float(bias[o])
        first = o // (outputs // group) * members
        for tap in places(*kernel):
            source = [at[i] * stride[i] - pad[i] + tap[i] * dilation[i] for i in range(axes)]
            if all(0 <= source[i] < x.shape[2 + i] for i in range(axes)):
                values = x[(n, slice(first, first + members), *source)]
                total += float(np.dot(values.astype(np.float64), weight[(o, slice(None), *tap)]))
        top[(n, o, *at)] = total
    return top


def deconvolve(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int] | None = None,
    group: int = 1,
) -> Array:
    """Spread every value of (n, c, ...) over the window (c, outputs / group, kernel...) says."""
    axes = x.ndim - 2
    dilation = dilation or [1] * axes
    kernel, members = weight.shape[2:], weight.shape[1]
    sizes = [stride[i] * (x.shape[2 + i] - 1) + dilation[i] * (kernel[i] - 1) + 1 - 2 * pad[i] for i in range(axes)]
    top = np.zeros((x.shape[0], members * group, *sizes))
    for n, c, *at in places(*x.shape):
        first = c // (x.shape[1] // group) * members
        for tap in places(*kernel):
            target = [at[i] * stride[i] - pad[i] + tap[i] * dilation[i] for i in range(axes)]
            if all(0 <= target[i] < sizes[i] for i in range(axes)):
                added = float(x[(n, c, *at)]) * weight[(c, slice(None), *tap)].astype(np.float64)
                top[(n, slice(first, first + members), *target)] += added
    if bias is not None:
        top += bias.reshape(-1, *(1,) * axes)
    return top


def image_to_columns(x: Array, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> Array:
    """Each channel as one channel per position of the window."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    rows = (padded.shape[2] - kernel[0]) // stride[0] + 1
    columns = (padded.shape[3] - kernel[1]) // stride[1] + 1
    top = np.zeros((x.shape[0], x.shape[1] * kernel[0] * kernel[1], rows, columns))
    for c, i, j, row, column in places(x.shape[1], *kernel, rows, columns):
        channel = (c * kernel[0] + i) * kernel[1] + j
        top[:, channel, row, column] = padded[:, c, row * stride[0] + i, column * stride[1] + j]
    return top


def unfold(
    x: Array, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], dilation: Sequence[int]
) -> Array:
    """Each channel of images as one channel per position of a window that may have holes."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    sizes = [(padded.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    channels = []
    for c, i, j in places(x.shape[1], *kernel):
        rows = [i * dilation[0] + row * stride[0] for row in range(sizes[0])]
        columns = [j * dilation[1] + column * stride[1] for column in range(sizes[1])]
        channels.append(padded[:, c][:, rows][:, :, columns])
    return np.stack(channels, axis=1)


def unpool(values: Array, mask: Array, size: Sequence[int]) -> Array:
    """Zeros, but for the values at the places that a mask counts row by row through their channels' images."""
    top = np.zeros((*values.shape[:2], *size))
    for place in places(*values.shape):
        row, column = divmod(int(mask[place]), size[1])
        top[(*place[:2], row, column)] = values[place]
    return top


def pool_windows(size: int, kernel: int, stride: int, pad: int, *, clip: bool, floor: bool = False) -> int:
    """Number of windows, by laying them down one by one until they cover the image and its padding."""
    count = 1
    while (count - 1) * stride + kernel < size + 2 * pad:
        count += 1
    if floor and (count - 1) * stride + kernel > size + 2 * pad:
        count -= 1
    if clip and (count - 1) * stride >= size + pad:
        count -= 1
    return count


def pool(
    x: Array,
    method: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0),
    *,
    floor: bool = False,
) -> tuple[Array, Array]:
    """Pooled image, and for MAX the places of the maxima in their channels' images."""
    height, width = x.shape[2:]
    sizes = [pool_windows(x.shape[2 + i], kernel[i], stride[i], pad[i], clip=any(pad), floor=floor) for i in (0, 1)]
    top = np.zeros((*x.shape[:2], *sizes))
    mask = np.full(top.shape, -1.0)
    for n, c, row, column in places(*top.shape):
        h0, w0 = row * stride[0] - pad[0], column * stride[1] - pad[1]
        h1, w1 = min(h0 + kernel[0], height + pad[0]), min(w0 + kernel[1], width + pad[1])
        area = (h1 - h0) * (w1 - w0)
        inside = [(h, w) for h in range(max(h0, 0), min(h1, height)) for w in range(max(w0, 0), min(w1, width))]
        values = [float(x[n, c, h, w]) for h, w in inside]
        if method == "MAX":
            best = max(values, default=-float(np.finfo(np.float32).max))
            top[n, c, row, column] = best
            if values:
                h, w = inside[values.index(best)]
                mask[n, c, row, column] = h * width + w
        elif method == "AVE":
            top[n, c, row, column] = sum(values) / area
        else:
            total = float(np.finfo(np.float32).tiny) + sum(values)
            top[n, c, row, column] = sum(value * value for value in values) / total
    return top, mask


def pyramid(x: Array, levels: int, method: str) -> Array:
    """Spatial pyramid pooling: all bins of all levels, channel by channel."""
    parts = []
    for level in range(levels):
        bins = 2**level
        kernel = [math.ceil(side / bins) for side in x.shape[2:]]
        pad = [(kernel[i] * bins - x.shape[2 + i] + 1) // 2 for i in (0, 1)]
        top, _ = pool(x, method, kernel, kernel, pad)
        parts.append(top.reshape(len(x), -1) if levels > 1 else top)
    return np.concatenate(parts, axis=1)


def normalize_channels(x: Array, mean: Array, variance: Array, eps: float) -> Array:
    """Batch normalization without scale and bias; a bottom with one axis is one channel."""
    top = np.zeros(x.shape)
    for at in places(*x.shape):
        channel = at[1] if x.ndim > 1 else 0
        top[at] = (float(x[at]) - mean[channel]) / math.sqrt(variance[channel] + eps)
    return top


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and variance of each channel."""
    rows = np.moveaxis(x.astype(np.float64), 1, 0).reshape(x.shape[1], -1) if x.ndim > 1 else x[None]
    mean = rows.mean(axis=1)
    return mean, ((rows - mean[:, None]) ** 2).mean(axis=1)


def respond_across(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """Local response normalization across channels."""
    top = np.zeros(x.shape)
    reach = (size - 1) // 2
    for n, c, h, w in places(*x.shape):
        near = x[n, max(0, c - reach) : c + reach + 1, h, w].astype(np.float64)
        top[n, c, h, w] = x[n, c, h, w] * (k + alpha / size * (near**2).sum()) ** -beta
    return top


def respond_within(x: Array, size: int, alpha: float, beta: float) -> Array:
    """Local response normalization within a channel, by Caffe's average pooling of squares."""
    reach = (size - 1) // 2
    mean, _ = pool(x.astype(np.float64) ** 2, "AVE", (size, size), (1, 1), (reach, reach))
    return x * (1.0 + alpha * mean) ** -beta


def softmax(x: Array, axis: int) -> Array:
    """Exponentials over their sum."""
    powers = np.exp(x.astype(np.float64) - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def by_place(x: Array, labels: Array, axis: int) -> list[tuple[Array, int]]:
    """For every place its values along the class axis, and its label."""
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    return list(zip(rows, labels.reshape(-1).astype(int).tolist(), strict=True))


def normalizer(mode: str, x: Array, axis: int, valid: int) -> float:
    """What a loss is divided by."""
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    return max(1.0, {"FULL": outer * inner, "VALID": valid, "BATCH_SIZE": outer, "NONE": 1}[mode])


def softmax_loss(x: Array, labels: Array, axis: int = 1, mode: str = "VALID", ignore: int | None = None) -> float:
    """Cross entropy of a softmax."""
    loss, valid = 0.0, 0
    for row, label in by_place(softmax(x, axis), labels, axis):
        if label != ignore:
            loss -= math.log(max(float(row[label]), float(np.finfo(np.float32).tiny)))
            valid += 1
    return loss / normalizer(mode, x, axis, valid)


def infogain_loss(
    x: Array, labels: Array, matrix: Array, axis: int = 1, mode: str = "VALID", ignore: int | None = None
) -> float:
    """Cross entropy of a softmax, in which a matrix tells what a class is worth where another is meant."""
    loss, valid = 0.0, 0
    rows = matrix.reshape(x.shape[axis], x.shape[axis])
    for row, label in by_place(softmax(x, axis), labels, axis):
        if label != ignore:
            for other, probability in enumerate(row):
                loss -= float(rows[label, other]) * math.log(max(float(probability), 1e-20))
            valid += 1
    return loss / normalizer(mode, x, axis, valid)


def accuracy(x: Array, labels: Array, top_k: int = 1, axis: int = 1, ignore: int | None = None) -> tuple[float, Array]:
    """The part of the places that are right, over all and for each class; ties count against a place."""
    right, counted = np.zeros(x.shape[axis]), np.zeros(x.shape[axis])
    for row, label in by_place(x, labels, axis):
        if label == ignore:
            continue
        better = sum(1 for other, value in enumerate(row) if other != label and value >= row[label])
        counted[label] += 1
        right[label] += better < top_k
    total = right.sum() / counted.sum() if counted.sum() else 0.0
    return total, np.divide(right, counted, out=np.zeros_like(right), where=counted > 0)


def largest(values: Array, top_k: int) -> list[tuple[float, int]]:
    """The largest (value, index) pairs, falling: of equal values the one with the larger index first."""
    return sorted(((float(value), index) for index, value in enumerate(values)), reverse=True)[:top_k]


def sigmoid(x: Array) -> Array:
    """The logistic function."""
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


def interpolate(x: Array, size: Sequence[int]) -> Array:
    """Bilinear interpolation with the corners fixed."""
    top = np.zeros((*x.shape[:2], *size))
    for row, column in places(*size):
        spots = []
        for at, wanted, given in ((row, size[0], x.shape[2]), (column, size[1], x.shape[3])):
            spot = at * (given - 1) / (wanted - 1) if wanted > 1 else 0.0
            low = int(spot)
            spots.append((low, min(low + 1, given - 1), spot - low))
        (h0, h1, dh), (w0, w1, dw) = spots
        top[:, :, row, column] = (1 - dh) * ((1 - dw) * x[:, :, h0, w0] + dw * x[:, :, h0, w1]) + dh * (
            (1 - dw) * x[:, :, h1, w0] + dw * x[:, :, h1, w1]
        )
    return top


def rnn(x: Array, cont: Array, blobs: Sequence[Array], static: Array | None, state: Array) -> tuple[Array, Array]:
    """An Elman network, time after time: outputs (t, n, d) and the last hidden state (n, d)."""
    w_xh, b_h, *more = (blob.astype(np.float64) for blob in blobs)
    w_static = more.pop(0) if static is not None else None
    w_hh, w_ho, b_o = more
    outputs = []
    for t in range(len(x)):
        total = x[t].reshape(len(x[t]), -1) @ w_xh.T + b_h + (cont[t][:, None] * state) @ w_hh.T
        if w_static is not None and static is not None:
            total = total + static.reshape(len(static), -1) @ w_static.T
        state = np.tanh(total)
        outputs.append(np.tanh(state @ w_ho.T + b_o))
    return np.stack(outputs), state


def lstm(
    x: Array, cont: Array, blobs: Sequence[Array], static: Array | None, state: Array, cell: Array
) -> tuple[Array, Array, Array]:
    """Long short-term memory: hidden states (t, n, d), the last one and the last cell (n, d)."""
    w_xc, b_c, *more = (blob.astype(np.float64) for blob in blobs)
    w_static = more.pop(0) if static is not None else None
    (w_hc,) = more
    d = w_hc.shape[1]
    outputs = []
    for t in range(len(x)):
        gates = x[t].reshape(len(x[t]), -1) @ w_xc.T + b_c + (cont[t][:, None] * state) @ w_hc.T
        if w_static is not None and static is not None:
            gates = gates + static.reshape(len(static), -1) @ w_static.T
        i, f, o = (sigmoid(gates[:, k * d : (k + 1) * d]) for k in range(3))
        f = np.where(cont[t][:, None] == 0, 0.0, f)
        cell = f * cell + i * np.tanh(gates[:, 3 * d :])
        state = o * np.tanh(cell)
        outputs.append(state)
    return np.stack(outputs), state, cell


def overlap(a: Array, b: Array) -> float:
    """Area of the intersection of two boxes over that of their union."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def suppress(boxes: Array, scores: Array, threshold: float, least: float, top_k: int | None) -> list[int]:
    """Greedy non-maximum suppression: the boxes that stay, best first."""
    order = [i for i in np.argsort(-scores, kind="stable").tolist() if scores[i] > least][:top_k]
    kept: list[int] = []
    for candidate in order:
        if all(overlap(boxes[candidate], boxes[other]) <= threshold for other in kept):
            kept.append(candidate)
    return kept

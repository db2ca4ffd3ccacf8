"""Random layers that join, cut, reorder and reduce blobs, or make them out of nothing, with their formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.layers.random_net import Array, Blob, Canvas, Maker, Result, Shape, message, only
from tests.layers.reference import accuracy, largest, softmax_loss


def eltwise(c: Canvas) -> None:
    first = c.of_rank(0, 5)
    bottoms = [first, *(c.like(first) for _ in range(c.integer(1, 2)))]
    operation = c.choose([None, "SUM", "PROD", "MAX"])
    given = operation in (None, "SUM") and c.flag()
    coeffs = [c.choose([1.0, -1.0, 0.5, 0.0]) if given else 1.0 for _ in bottoms]

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        if operation == "PROD":
            return only(np.prod(np.stack(x), axis=0))
        if operation == "MAX":
            return only(np.max(np.stack(x), axis=0))
        terms = np.stack([coeff * part for coeff, part in zip(coeffs, x, strict=True)])
        return only(terms.sum(axis=0), np.abs(terms).sum(axis=0))

    text = message("eltwise_param", operation=operation, coeff=coeffs if given else [])
    c.add("Eltwise", text, bottoms, forward)


def named_axis(c: Canvas, rank: int, old: str) -> tuple[int, dict[str, int]]:
    """The axis of a Concat or Slice layer: the default, or by its new name, or by its old one."""
    if rank > 1 and c.integer(0, 2) == 0:
        return 1, {}
    axis, called = c.axis(0, rank)
    return axis, {old: axis} if called >= 0 and c.flag() else {"axis": called}


def concat(c: Canvas) -> None:
    first = c.of_rank(1, 5)
    axis, fields = named_axis(c, first.rank, "concat_dim")

    def suits(blob: Blob) -> bool:
        return blob.rank == first.rank and all(blob.shape[i] == first.shape[i] for i in range(first.rank) if i != axis)

    bottoms = [first]
    for _ in range(c.integer(0, 2)):
        fresh = (*first.shape[:axis], c.integer(1, 3), *first.shape[axis + 1 :])
        bottoms.append(c.pick(suits, lambda fresh=fresh: fresh))
    c.add("Concat", message("concat_param", **fields), bottoms, lambda x, _: only(np.concatenate(x, axis)))


def slice_layer(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    axis, fields = named_axis(c, bottom.rank, "slice_dim")
    length = bottom.shape[axis]
    equal = [count for count in (1, 2, 3) if length % count == 0]
    if c.flag() or length == 1:
        count, points = c.choose(equal), []
        cuts = [length // count * number for number in range(1, count)]
    else:
        points = cuts = sorted({c.integer(1, length - 1) for _ in range(2)})

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        return [Result(part) for part in np.split(x[0], cuts, axis)]

    c.add("Slice", message("slice_param", **fields, slice_point=points), [bottom], forward)


def split(c: Canvas) -> None:
    count = c.integer(1, 3)
    c.add("Split", "", [c.of_rank(0, 5)], lambda x, _: [Result(x[0])] * count, shares=True)


def flatten(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    first, called = (1, None) if bottom.rank > 1 and c.flag() else c.axis(0, bottom.rank)
    last, last_called = (bottom.rank - 1, None) if c.flag() else c.axis(first, bottom.rank)
    text = message("flatten_param", axis=called, end_axis=last_called)
    shape = (*bottom.shape[:first], math.prod(bottom.shape[first : last + 1]), *bottom.shape[last + 1 :])
    c.add("Flatten", text, [bottom], lambda x, _: only(x[0].reshape(shape)), shares=True)


def reshape(c: Canvas) -> None:
    """Some axes made others: lengths drawn as divisors of what there is, some told by 0 or -1."""
    bottom = c.of_rank(0, 5)
    start = c.integer(0, bottom.rank)
    end = bottom.rank if c.flag() else c.integer(start, bottom.rank)
    left = math.prod(bottom.shape[start:end])
    wanted = []
    for _ in range(c.integer(0, 2)):
        wanted.append(c.choose([d for d in range(1, left + 1) if left % d == 0]))
        left //= wanted[-1]
    if left > 1 or c.flag():
        wanted.append(left)
    dims = list(wanted)
    for i, length in enumerate(wanted):
        if start + i < bottom.rank and bottom.shape[start + i] == length and c.flag():
            dims[i] = 0
    if dims and c.flag():
        dims[c.integer(0, len(dims) - 1)] = -1
    axis = None if start == 0 and c.flag() else c.choose([start, start - bottom.rank - 1])
    count = None if end == bottom.rank and c.flag() else end - start
    lengths = " ".join(f"dim: {length}" for length in dims)
    words = [f"shape {{ {lengths} }}"]
    words += [f"{key}: {value}" for key, value in (("axis", axis), ("num_axes", count)) if value is not None]
    shape = (*bottom.shape[:start], *wanted, *bottom.shape[end:])
    text = f"reshape_param {{ {' '.join(words)} }}"
    c.add("Reshape", text, [bottom], lambda x, _: only(x[0].reshape(shape)), shares=True)


def permute(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    order = list(range(bottom.rank))
    for i in range(bottom.rank - 1):
        j = c.integer(i, bottom.rank - 1)
        order[i], order[j] = order[j], order[i]
    named = order[: c.integer(0, bottom.rank)]
    whole = [*named, *(axis for axis in range(bottom.rank) if axis not in named)]
    c.add("Permute", message("permute_param", order=named), [bottom], lambda x, _: only(x[0].transpose(whole)))


def crop(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    axis, called = (2, None) if bottom.rank > 2 and c.flag() else c.axis(0, bottom.rank)

    lengths = bottom.shape[axis:]
    way = c.choose(["none", "one", "each"])
    spare = c.integer(0, min(lengths) - 1) if way == "one" else 0

    def suits(blob: Blob) -> bool:
        pairs = zip(blob.shape[axis:], lengths, strict=False)
        return blob.rank == bottom.rank and all(wanted + spare <= length for wanted, length in pairs)

    def fresh() -> Shape:
        return (*c.shape(5, 5)[:axis], *(c.integer(1, length - spare) for length in lengths))

    like = c.pick(suits, fresh)
    room = [length - wanted for length, wanted in zip(lengths, like.shape[axis:], strict=True)]
    if way == "each":
        given = [c.integer(0, most) for most in room]
    else:
        given = [c.integer(spare, min(room))] if way == "one" else []
    offsets = given if len(given) == len(room) else (given or [0]) * len(room)
    cut = (slice(None),) * axis + tuple(
        slice(offset, offset + length) for offset, length in zip(offsets, like.shape[axis:], strict=True)
    )
    c.add("Crop", message("crop_param", axis=called, offset=given), [bottom, like], lambda x, _: only(x[0][cut]))


def tile(c: Canvas) -> None:
    bottom, tiles = c.of_rank(1, 5), c.integer(1, 3)
    axis, called = (1, None) if bottom.rank > 1 and c.flag() else c.axis(0, bottom.rank)
    repeats = [tiles if i == axis else 1 for i in range(bottom.rank)]
    c.add("Tile", message("tile_param", axis=called, tiles=tiles), [bottom], lambda x, _: only(np.tile(x[0], repeats)))


def shuffle_channel(c: Canvas) -> None:
    bottom = c.of_rank(2, 5)
    channels = bottom.shape[1]
    groups = c.choose([d for d in range(1, channels + 1) if channels % d == 0])
    order = [member + group * (channels // groups) for member in range(channels // groups) for group in range(groups)]
    text = message("shuffle_channel_param", group=groups)
    c.add("ShuffleChannel", text, [bottom], lambda x, _: only(x[0][:, order]))


def reduction(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    axis, called = (0, None) if c.flag() else c.axis(0, bottom.rank)
    operation, coeff = c.choose([None, "SUM", "ASUM", "SUMSQ", "MEAN"]), c.choose([None, 0.5, -2.0])

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        rows = x[0].reshape(*x[0].shape[:axis], -1)
        parts = {"ASUM": np.abs(rows), "SUMSQ": rows**2, "MEAN": rows / rows.shape[-1]}.get(operation or "SUM", rows)
        factor = 1.0 if coeff is None else coeff
        return only(parts.sum(axis=-1) * factor, np.abs(parts).sum(axis=-1) * abs(factor))

    text = message("reduction_param", operation=operation, axis=called, coeff=coeff)
    c.add("Reduction", text, [bottom], forward)


def argmax(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    axis, called = (None, None) if c.flag() else c.axis(0, bottom.rank)
    length = math.prod(bottom.shape[1:]) if axis is None else bottom.shape[axis]
    top_k, values = c.integer(1, min(3, length)), c.choose([None, False, True])

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        rows = x[0].reshape(len(x[0]), -1) if axis is None else np.moveaxis(x[0], axis, -1)
        found = np.apply_along_axis(lambda row: np.array(largest(row, top_k)).T, -1, rows)  # (..., 2, top_k)
        best, numbers = found[..., 0, :], found[..., 1, :]
        if axis is not None:
            return only(np.moveaxis(best if values else numbers, -1, axis))
        parts = [numbers, best] if values else [numbers]
        return only(np.stack(parts, axis=1).reshape(len(x[0]), len(parts), top_k, *(1,) * (x[0].ndim - 3)))

    text = message("argmax_param", top_k=top_k, axis=called, out_max_val=values)
    c.add("ArgMax", text, [bottom], forward, below=None if values else length)


def batch_reindex(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    numbers = c.numbers((c.integer(1, 4),), bottom.shape[0])
    c.add("BatchReindex", "", [bottom, numbers], lambda x, _: only(x[0][x[1].astype(int)]))


def silence(c: Canvas) -> None:
    c.add("Silence", "", [c.of_rank(0, 5) for _ in range(c.integer(1, 2))], lambda *_: [])


def parameter(c: Canvas) -> None:
    shape = c.shape(1, 4)
    dims = " ".join(f"dim: {length}" for length in shape)
    text = f"parameter_param {{ shape {{ {dims} }} }}"
    c.add("Parameter", text, [], lambda _, blobs: only(blobs[0]), c.weight(*shape))


def dummy_data(c: Canvas) -> None:
    shape, value = c.shape(1, 4), c.choose([None, 0.5, -3.0])
    dims = " ".join(f"dim: {length}" for length in shape)
    filler = "" if value is None else f' data_filler {{ type: "constant" value: {value} }}'
    text = f"dummy_data_param {{ shape {{ {dims} }}{filler} }}"
    c.add("DummyData", text, [], lambda *_: only(np.full(shape, value or 0.0)))


def euclidean_loss(c: Canvas) -> None:
    first = c.of_rank(1, 5)

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        halved = 2 * len(x[0])
        return only(((x[0] - x[1]) ** 2).sum() / halved, (x[0] ** 2 + x[1] ** 2).sum() / halved)

    c.add("EuclideanLoss", "", [first, c.like(first)], forward)


def labelled(c: Canvas) -> tuple[Blob, Blob, int, int | None]:
    """Scores, labels, the class axis and how it is called."""
    scores = c.of_rank(2, 4)
    axis, called = (1, None) if c.flag() else c.axis(0, scores.rank)
    labels = c.numbers((*scores.shape[:axis], *scores.shape[axis + 1 :]), scores.shape[axis])
    return scores, labels, axis, called


def softmax_with_loss(c: Canvas) -> None:
    scores, labels, axis, called = labelled(c)
    mode, ignored = c.choose([None, "FULL", "BATCH_SIZE", "NONE", "VALID"]), c.choose([None, 0, 1])
    text = message("softmax_param", axis=called) + " " + message("loss_param", normalization=mode, ignore_label=ignored)

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        loss = softmax_loss(x[0], x[1], axis, mode or "VALID", ignored)
        return only(np.array(loss), abs(loss) + np.abs(x[0]).max())

    c.add("SoftmaxWithLoss", text, [scores, labels], forward)


def accuracy_layer(c: Canvas) -> None:
    scores, labels, axis, called = labelled(c)
    top_k, ignored = c.integer(1, min(2, scores.shape[axis])), c.choose([None, 0, 1])
    text = message("accuracy_param", axis=called, top_k=top_k, ignore_label=ignored)
    c.add("Accuracy", text, [scores, labels], lambda x, _: only(np.array(accuracy(*x, top_k, axis, ignored)[0])))


MAKERS: dict[str, Maker] = {
    "Eltwise": eltwise,
    "Concat": concat,
    "Slice": slice_layer,
    "Split": split,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "Crop": crop,
    "Tile": tile,
    "ShuffleChannel": shuffle_channel,
    "Reduction": reduction,
    "ArgMax": argmax,
    "BatchReindex": batch_reindex,
    "Silence": silence,
    "Parameter": parameter,
    "DummyData": dummy_data,
    "EuclideanLoss": euclidean_loss,
    "SoftmaxWithLoss": softmax_with_loss,
    "Accuracy": accuracy_layer,
}

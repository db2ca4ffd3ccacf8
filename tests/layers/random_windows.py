"""Random layers that move a window over images, multiply matrices or resize, with their formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tests.layers.random_net import Array, Blob, Canvas, Maker, Result, Shape, message, only
from tests.layers.reference import convolve, deconvolve, interpolate, pool, pool_windows, pyramid, unfold, unpool

MOST_PLACES = 4000
"""No convolution has more (output, kernel position) pairs, as the reference loops over them."""


def per_axis(c: Canvas, field: str, short: str | None, values: Sequence[int], default: int | None) -> dict[str, Any]:
    """A spatial parameter in one of the ways that the prototxt has for it."""
    if set(values) == {default} and c.flag():
        return {}
    if len(set(values)) == 1 and c.flag():
        return {field: values[0]}
    if short and len(values) == 2 and c.flag():
        return {f"{short}_h": values[0], f"{short}_w": values[1]}
    return {field: list(values)}


def window(c: Canvas, sizes: Shape, *, dilated: bool = True) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Fields of a ConvolutionParameter that fit images of such sizes, and what they mean."""
    kernel, stride, pad, dilation = [], [], [], []
    for size in sizes:
        pad.append(c.integer(0, 2))
        room = size + 2 * pad[-1]
        kernel.append(min(c.integer(1, 4 if len(sizes) < 3 else 2), room))
        most = (room - 1) // (kernel[-1] - 1) if kernel[-1] > 1 else 2
        dilation.append(min(c.integer(1, 2), most) if dilated else 1)
        stride.append(c.integer(1, 3))
    fields = per_axis(c, "kernel_size", "kernel", kernel, None)
    fields |= per_axis(c, "stride", "stride", stride, 1) | per_axis(c, "pad", "pad", pad, 0)
    fields |= per_axis(c, "dilation", None, dilation, 1)
    return fields, {"kernel": kernel, "stride": stride, "pad": pad, "dilation": dilation}


def images(x: Array, axis: int) -> Array:
    """All axes before the channels as one."""
    return x.reshape(-1, *x.shape[axis:])


def sliding(c: Canvas, type_name: str) -> None:
    """A layer of the convolution family, of one or two bottoms."""
    bottom = c.of_rank(3, 5)
    axis = 2 if bottom.rank > 3 and c.integer(0, 3) == 3 else 1
    called = c.choose([None, 1, 1 - bottom.rank]) if axis == 1 else c.choose([axis, axis - bottom.rank])
    channels, sizes = bottom.shape[axis], bottom.shape[axis + 1 :]
    depthwise, turned, biased = "epthwise" in type_name, type_name == "Deconvolution", c.flag()
    for _ in range(5):
        group = channels if depthwise else c.choose([d for d in range(1, channels + 1) if channels % d == 0])
        outputs = channels if depthwise else group * c.integer(1, 3)
        fields, how = window(c, sizes)
        kernel = how.pop("kernel")
        lengths = [
            outputs,
            *((spread if turned else slide)(*one) for one in zip(sizes, kernel, *how.values(), strict=True)),
        ]
        places = math.prod(bottom.shape if turned else [*bottom.shape[:axis], *lengths]) * math.prod(kernel)
        if places <= MOST_PLACES and min(lengths) > 0:
            break
    else:
        return
    shape = (channels, outputs // group) if turned else (outputs, channels // group)
    weight = c.weight(*shape, *kernel, fan_in=math.prod(kernel) * channels // group)
    blobs = [weight, c.weight(outputs)] if biased else [weight]
    run = deconvolve if turned else convolve

    def forward(x: Sequence[Array], blobs: Sequence[Array]) -> list[Result]:
        results = []
        for image in x:
            value = run(images(image, axis), *blobs, group=group, **how)
            terms = run(images(np.abs(image), axis), *map(np.abs, blobs), group=group, **how)
            top = (*image.shape[:axis], *value.shape[1:])
            results.append(Result(value.reshape(top), terms.reshape(top)))
        return results

    known = {} if depthwise else {"num_output": outputs, "group": group if group > 1 or c.flag() else None}
    text = message("convolution_param", **known, bias_term=None if biased else False, axis=called, **fields)
    second = [c.like(bottom)] if c.integer(0, 5) == 5 else []
    c.add(type_name, text, [bottom, *second], forward, *blobs)


def slide(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """How often a window fits."""
    return (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1


def spread(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """What the windows of a deconvolution cover."""
    return stride * (size - 1) + dilation * (kernel - 1) + 1 - 2 * pad


def im2col(c: Canvas) -> None:
    bottom = c.of_rank(4, 4)
    fields, how = window(c, bottom.shape[2:])
    called = c.choose([None, 1, -3])
    text = message("convolution_param", axis=called, **fields)
    c.add("Im2col", text, [bottom], lambda x, _: only(unfold(x[0], **how)))


def inner_product(c: Canvas) -> None:
    bottom = c.of_rank(1, 5)
    axis, called = (1, None) if bottom.rank > 1 and c.flag() else c.axis(0, bottom.rank)
    length, outputs = math.prod(bottom.shape[axis:]), c.integer(1, 7)
    biased, transposed = c.flag(), c.flag()
    weight = c.weight(*((length, outputs) if transposed else (outputs, length)), fan_in=length)
    blobs = [weight, c.weight(outputs)] if biased else [weight]

    def product(x: Array, weight: Array, *bias: Array) -> Array:
        rows = x.reshape(*x.shape[:axis], -1) @ (weight if transposed else weight.T)
        return rows + bias[0] if bias else rows

    def forward(x: Sequence[Array], blobs: Sequence[Array]) -> list[Result]:
        return only(product(x[0], *blobs), product(np.abs(x[0]), *map(np.abs, blobs)))

    text = message(
        "inner_product_param",
        num_output=outputs,
        bias_term=None if biased else False,
        axis=called,
        transpose=True if transposed else None,
    )
    c.add("InnerProduct", text, [bottom], forward, *blobs)


def embed(c: Canvas) -> None:
    known = [blob for blob in c.blobs.values() if blob.below is not None and blob.rank < 4]
    bottom = c.choose(known) if known and c.flag() else c.feed(c.shape(1, 3), c.integer(1, 5))
    rows, outputs, biased = (bottom.below or 1) + c.integer(0, 2), c.integer(1, 5), c.flag()
    blobs = [c.weight(rows, outputs), c.weight(outputs)] if biased else [c.weight(rows, outputs)]

    def forward(x: Sequence[Array], blobs: Sequence[Array]) -> list[Result]:
        chosen = blobs[0][x[0].astype(int)]
        added = blobs[1] if biased else np.zeros(outputs)
        return only(chosen + added, np.abs(chosen) + np.abs(added))

    text = message("embed_param", num_output=outputs, input_dim=rows, bias_term=None if biased else False)
    c.add("Embed", text, [bottom], forward, *blobs)


def pool_sides(c: Canvas, shape: Shape, *, touching: bool) -> tuple[dict[str, Any], list[list[int]]]:
    """Kernel, stride and pad that fit an image; ``touching`` windows leave nothing out between them."""
    kernel, stride, pad = [], [], []
    for size in shape[2:]:
        kernel.append(c.integer(1, min(4, size)))
        stride.append(c.integer(1, kernel[-1] if touching else kernel[-1] + 1))
        pad.append(c.integer(0, min(2, kernel[-1] - 1)))
    fields: dict[str, Any] = {}
    for field, short, values, default in (
        ("kernel_size", "kernel", kernel, None),
        ("stride", "stride", stride, 1),
        ("pad", "pad", pad, 0),
    ):
        if values[0] == values[1] and c.flag():
            fields |= {} if values[0] == default else {field: values[0]}
        else:
            fields |= {f"{short}_h": values[0], f"{short}_w": values[1]}
    return fields, [kernel, stride, pad]


def pooling(c: Canvas) -> None:
    bottom = c.of_rank(4, 4)
    methods = ["MAX", "AVE"] + (["STOCHASTIC"] if np.min(bottom.value) >= 0 else [])
    method = c.choose(methods)
    with_mask = method == "MAX" and c.flag()
    named = None if method == "MAX" and c.flag() else method
    if c.integer(0, 4) == 4:
        sides: list[list[int]] = [list(bottom.shape[2:]), [1, 1], [0, 0]]
        fields: dict[str, Any] = {"global_pooling": True}
        down = False
    else:
        fields, sides = pool_sides(c, bottom.shape, touching=with_mask or method != "MAX")
        down = c.integer(0, 3) == 3
        fields |= c.choose([{"round_mode": "FLOOR"}, {"ceil_mode": False}]) if down else {}
    if method == "STOCHASTIC" and sides[2] != [0, 0]:
        return
    if beside(bottom.shape, sides, down=down):
        return

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        value, mask = pool(x[0], method, *sides, floor=down)
        terms = pool(np.abs(x[0]), "AVE", *sides, floor=down)[0] if method == "AVE" else None
        return [Result(value, terms), Result(mask)][: 1 + with_mask]

    tops = c.add("Pooling", message("pooling_param", pool=named, **fields), [bottom], forward)
    if len(tops) == 2:
        c.poolings.append((*tops, bottom.shape))


def beside(shape: Shape, sides: list[list[int]], *, down: bool) -> bool:
    """Whether a window lies beside the image, where Caffe divides by nothing or keeps the least number."""
    kernel, stride, pad = sides
    for i in (0, 1):
        count = pool_windows(shape[2 + i], kernel[i], stride[i], pad[i], clip=any(pad), floor=down)
        first = (count - 1) * stride[i] - pad[i]
        if first >= shape[2 + i] or count < 1:
            return True
    return False


def masked(c: Canvas) -> tuple[Blob, Blob, Shape] | None:
    """Values and mask of a pooling, an earlier one or a new one, and the shape before it."""

    def alive() -> list[tuple[Blob, Blob, Shape]]:
        return [item for item in c.poolings if all(c.blobs[blob.name] is blob for blob in item[:2])]

    if not alive():
        bottom = c.of_rank(4, 4)
        fields, sides = pool_sides(c, bottom.shape, touching=True)

        def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
            return [Result(part) for part in pool(x[0], "MAX", *sides)]

        tops = c.add("Pooling", message("pooling_param", **fields), [bottom], forward)
        if len(tops) == 2:
            c.poolings.append((*tops, bottom.shape))
    return c.choose(alive()) if alive() else None


def upsample(c: Canvas) -> None:
    if c.flag():
        found = masked(c)
        if found:
            values, mask, shape = found
            text = message("upsample_param", upsample_h=shape[2], upsample_w=shape[3])
            c.add("Upsample", text, [values, mask], lambda x, _: only(unpool(*x, shape[2:])))
        return
    bottom, factor = c.of_rank(4, 4), c.choose([None, 1, 2, 3])
    times = 2 if factor is None else factor
    text = message("upsample_param", scale=factor)
    c.add("Upsample", text, [bottom], lambda x, _: only(x[0].repeat(times, axis=2).repeat(times, axis=3)))


def max_unpool(c: Canvas) -> None:
    found = masked(c)
    if not found:
        return
    values, mask, shape = found
    size = shape[2:]
    if c.flag():
        like = c.pick(lambda blob: blob.rank == 4 and blob.shape[2:] == size, lambda: shape)
        c.add("MaxUnpool", "", [values, mask, like], lambda x, _: only(unpool(*x[:2], size)))
    else:
        text = message("max_unpool_param", dst_h=size[0], dst_w=size[1])
        c.add("MaxUnPool", text, [values, mask], lambda x, _: only(unpool(*x, size)))


def spp(c: Canvas) -> None:
    bottom, levels, method = c.of_rank(4, 4), c.integer(1, 3), c.choose([None, "AVE", "MAX"])
    for bins in (2**level for level in range(levels)):
        kernel = [math.ceil(size / bins) for size in bottom.shape[2:]]
        pad = [(kernel[i] * bins - bottom.shape[2 + i] + 1) // 2 for i in (0, 1)]
        if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
            return

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        return only(pyramid(x[0], levels, method or "MAX"), np.abs(x[0]).max())

    c.add("SPP", message("spp_param", pyramid_height=levels, pool=method), [bottom], forward)


def interp(c: Canvas) -> None:
    bottom = c.of_rank(4, 4)
    begin, end = (c.integer(0, 1) if min(bottom.shape[2:]) > 2 else 0 for _ in range(2))
    sizes = [size - begin - end for size in bottom.shape[2:]]
    way = c.choose(["zoom", "shrink", "both", "size"])
    fields: dict[str, int] = {}
    if way in ("shrink", "both"):
        fields["shrink_factor"] = c.integer(1, 3)
        sizes = [(size - 1) // fields["shrink_factor"] + 1 for size in sizes]
    if way in ("zoom", "both"):
        fields["zoom_factor"] = c.integer(1, 3)
        sizes = [size + (size - 1) * (fields["zoom_factor"] - 1) for size in sizes]
    if way == "size":
        sizes = [c.integer(1, 9), c.integer(1, 9)]
        fields |= {"height": sizes[0], "width": sizes[1]}
    pads = {"pad_beg": -begin or None, "pad_end": -end or None}

    def forward(x: Sequence[Array], _: Sequence[Array]) -> list[Result]:
        part = x[0][:, :, begin : x[0].shape[2] - end, begin : x[0].shape[3] - end]
        return only(interpolate(part, sizes), np.abs(part).max())

    c.add("Interp", message("interp_param", **fields, **pads), [bottom], forward)


MAKERS: dict[str, Maker] = {
    **{
        name: partial(sliding, type_name=name)
        for name in ("Convolution", "Deconvolution", "ConvolutionDepthwise", "DepthwiseConvolution")
    },
    "Im2col": im2col,
    "InnerProduct": inner_product,
    "Embed": embed,
    "Pooling": pooling,
    "Upsample": upsample,
    "MaxUnpool": max_unpool,
    "SPP": spp,
    "Interp": interp,
}

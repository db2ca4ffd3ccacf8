"""The weights: whether they are those of the net, and are numbers that make sense."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import replace

from ristretto.caffe.netspec import LayerSpec, NetSpec, Shape
from ristretto.caffe.parameters import Blobs, fit_weights
from ristretto.caffe.shapes import FED_TYPES, NetShapes
from ristretto.caffe.weights import Weights
from ristretto.decide.plan import group_of
from ristretto.errors import RistrettoError
from ristretto.pipeline.doctor.wiring import Shapes
from ristretto.pipeline.sound import broken_in
from ristretto.report.findings import Finding

_MANY = 3
"""So many names are told; and from so many layers on, if most are missing, they are told in one finding."""


def weight_findings(net: NetSpec, shapes: Shapes, weights: Weights) -> Iterator[Finding]:
    """Layers without weights, blobs of other shapes, weights without a layer, numbers that make no sense.

    A layer whose shapes are not known is still looked for by its name.
    """
    files = ", ".join(map(str, weights.files))
    names = {layer.name for layer in net.layers}
    spare = {layer.name: layer.blobs for layer in weights.layers if layer.blobs and layer.name not in names}
    rules = [(layer, rule) for layer, rule in zip(net.layers, shapes.layers, strict=True) if rule and rule.blobs]
    wanted = {layer.name: rule.blobs for layer, rule in rules}
    unknown = [layer for layer, rule in zip(net.layers, shapes.layers, strict=True) if rule is None]
    looked_for = [layer for layer, _ in rules] + [layer for layer in unknown if group_of(layer.type) is not None]
    missing = [layer for layer in looked_for if weights.get(layer.name) is None and not _shares(layer)]
    if len(missing) >= _MANY and 2 * len(missing) > len(looked_for):
        yield _other_net(missing, len(looked_for), spare, files)
    else:
        for layer in missing:
            yield _missing(layer, wanted.get(layer.name, ()), spare, files)
    for layer, rule in rules:
        if layer not in missing:
            yield from _fitting(net, shapes, layer, rule.blobs, weights)
    yield from _unused(spare, files)
    for layer in net.layers:
        yield from _numbers(layer, weights)


def _shares(layer: LayerSpec) -> bool:
    return any(param.text("name") for param in layer.view.children("param"))


def _other_net(missing: list[LayerSpec], count: int, spare: dict[str, Blobs], file: str) -> Finding:
    names = _some([layer.name for layer in missing])
    what = f"{len(missing)} of the net's {count} layers with weights are not in the file: {names}"
    held = f"it holds {_some(list(spare))}" if spare else "it holds no others"
    cure = f"these are the weights of another net ({held}), or all layers were renamed: give this net's own"
    return Finding("error", "weights", what, cure, file)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(f"'{name}'" for name in names[:_MANY]) + more


def _missing(layer: LayerSpec, wanted: tuple[Shape, ...], spare: dict[str, Blobs], file: str) -> Finding:
    """A finding for a layer without weights, with the layer of the file that may be meant."""
    sizes = [math.prod(shape) for shape in wanted]
    alike = [name for name, blobs in spare.items() if [blob.size for blob in blobs] == sizes]
    near = difflib.get_close_matches(layer.name, alike, n=1, cutoff=0.0) or difflib.get_close_matches(
        layer.name, list(spare), n=1
    )
    what = f"no weights for the layer in {file}"
    cure = "is it the weights file of this net? layers are matched by name"
    if near:
        suits = ", whose shapes fit" if near[0] in alike else ""
        cure = f"the file has '{near[0]}'{suits}: was the layer renamed? layers are matched by name"
    view = layer.view
    return Finding("error", "weights", what, cure, view.document.file, view.line, layer.name)


def _fitting(
    net: NetSpec, shapes: Shapes, layer: LayerSpec, wanted: tuple[Shape, ...], weights: Weights
) -> Iterator[Finding]:
    """Whether one layer's weights fit; the others are put aside for it."""
    alone = tuple(
        rule if rule is not None and each is layer else replace(rule, blobs=()) if rule is not None else None
        for each, rule in zip(net.layers, shapes.layers, strict=True)
    )
    known = [(each, rule) for each, rule in zip(net.layers, alone, strict=True) if rule is not None]
    part = replace(net, layers=tuple(each for each, _ in known))
    try:
        fit_weights(part, NetShapes(shapes.values, tuple(rule for _, rule in known)), weights)
    except RistrettoError as error:
        cure = _data_cure(net, shapes, layer, wanted, weights) or error.cure
        line = error.line or layer.view.line
        yield Finding("error", "weights", error.what, cure, error.file or net.file, line, layer.name)


def _data_cure(net: NetSpec, shapes: Shapes, layer: LayerSpec, wanted: tuple[Shape, ...], weights: Weights) -> str:
    """What to do where a layer does not fit because of the images that it is fed."""
    blobs = weights.get(layer.name) or ()
    if not blobs or not wanted or not layer.inputs:
        return ""
    found, bottom = blobs[0].shape, shapes.values.get(layer.inputs[0], ())
    maker = net.producer(layer.inputs[0])
    fed = maker is not None and maker.type in FED_TYPES and len(found) == len(wanted[0]) == len(bottom) == 4
    if fed and found[1] != wanted[0][1] and (found[0], *found[2:]) == (wanted[0][0], *wanted[0][2:]):
        gray = "force_gray: true, or is_color: false in an ImageData layer, makes them gray"
        color = "force_color: true, or is_color: true in an ImageData layer, makes them coloured"
        cure = {1: gray, 3: color}.get(found[1], "give images such as it was trained on")
        return f"the images have {bottom[1]} channels, the weights want {found[1]}: {cure}"
    if layer.type == "InnerProduct" and blobs[0].size % wanted[0][0] == 0 and wanted[0][0] in found:
        inputs = blobs[0].size // wanted[0][0]
        if len(bottom) == 4 and inputs % bottom[1] == 0:
            return (
                f"it is fed {math.prod(bottom[1:])} values and wants {inputs}: the images are of another size than in "
                "training; correct crop_size, or new_height and new_width"
            )
    return ""


def _unused(spare: dict[str, Blobs], file: str) -> Iterator[Finding]:
    if not spare:
        return
    what = f"{len(spare)} layers of the weights file are not in the net: {_some(list(spare))}"
    cure = "side branches of the training net are often cut off; if not, were layers renamed?"
    yield Finding("note", "unused_weights", what, cure, file)


def _numbers(layer: LayerSpec, weights: Weights) -> Iterator[Finding]:
    blobs = weights.get(layer.name) or ()
    file = ", ".join(map(str, weights.files))
    broken = list(broken_in(layer.name, weights))
    for blob in broken:
        cure = "did the training diverge? take an earlier snapshot"
        yield Finding("error", "bad_weights", blob.what, cure, file, 0, layer.name)
    if broken:
        return
    if layer.type == "BatchNorm":
        if len(blobs) == 3 and blobs[2].size == 1 and blobs[2].flat[0] == 0:
            what = "the scale factor of BatchNorm (blob 2) is 0: mean and variance count as 0"
            cure = "the file was saved before any training step, or converted wrongly: set it to 1"
            yield Finding("warning", "bad_weights", what, cure, file, 0, layer.name)
        elif len(blobs) > 1 and blobs[1].size and float(blobs[1].min()) < 0:
            what = "a variance of BatchNorm (blob 1) is negative"
            yield Finding(
                "warning", "bad_weights", what, "the file is damaged or was converted wrongly", file, 0, layer.name
            )
        return
    if blobs and blobs[0].size > 1 and not blobs[0].any():
        what = "all weights (blob 0) are 0: the layer's output does not depend on its input"
        cure = "was the layer left out of the training, or the file converted wrongly?"
        yield Finding("warning", "bad_weights", what, cure, file, 0, layer.name)

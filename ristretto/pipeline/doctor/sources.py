"""The data: whether it is there, opens, holds images of the right kind, and labels that the net has classes for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.shapes import NetShapes
from ristretto.data import Cache, DataSource, open_data
from ristretto.data.image_list import ImageListSource
from ristretto.data.records import RecordSource
from ristretto.data.transform import Transform
from ristretto.errors import RistrettoError
from ristretto.pipeline.doctor.wiring import Shapes
from ristretto.pipeline.feed import Feed, fed_layers, open_feed
from ristretto.pipeline.labels import label_rules
from ristretto.pipeline.pieces import cut_of
from ristretto.report.findings import Finding, Severity

_READ = frozenset({"Data", "ImageData", "HDF5Data"})
_SAMPLES = 65
_NAMED = 3
_DEFAULT_BATCHES = 50
"""Batches per score of ``ristretto quantize`` where --iterations does not say otherwise."""

_GIB = 1 << 30
_MUCH_MEMORY = 4 * _GIB
_IMAGENET_MEAN = np.array([104.0, 117.0, 123.0])


@dataclass(frozen=True, slots=True)
class Sample:
    """One item of a source."""

    number: int
    image: NDArray[np.generic]
    label: float


def open_sources(
    net: NetSpec, inputs: Path | None, data_root: Path | None, cache: Cache, findings: list[Finding]
) -> Feed | None:
    """All that a net reads, each layer by itself; None where something cannot be read."""
    if inputs is not None:
        try:
            return open_feed(net, inputs=inputs, data_root=data_root, seed=0, batched=True)
        except RistrettoError as error:
            findings.append(Finding.of(error, "inputs"))
            return None
    sources: list[DataSource] = []
    layers = fed_layers(net)
    silent = [layer for layer in layers if layer.type not in _READ]
    if silent:
        tops = ", ".join(top for layer in silent for top in layer.tops)
        what = f"the net has no data of its own: '{tops}' is fed from outside, by a layer of type {silent[0].type}"
        cure = "ristretto init writes data layers into a deploy prototxt; or give the arrays with --inputs data.npz"
        findings.append(Finding("error", "no_data", what, cure, net.file, silent[0].view.line, silent[0].name))
    for layer in layers:
        if layer.type not in _READ:
            continue
        try:
            sources.append(open_data(layer, data_root=data_root, seed=0, cache=cache))
        except RistrettoError as error:
            findings.append(Finding.of(error, "source"))
    return Feed(tuple(sources)) if len(sources) == len(layers) and layers else None


def source_findings(net: NetSpec, feed: Feed, shapes: Shapes) -> Iterator[Finding]:
    """What the items of the sources tell."""
    for source, layer in _records(net, feed):
        if isinstance(source, ImageListSource):
            yield from _missing(source, layer)
        faults: list[RistrettoError] = []
        samples = list(_samples(source, faults))
        for fault in faults[:_NAMED]:
            yield Finding.of(fault, "image")
        yield from _image_findings(source, layer, samples)
        yield from _label_findings(net, source, layer, samples, shapes)
        yield from _transform_findings(source.transform, layer, samples)
        if source.batch_size == 1:
            what = (
                f"batch_size is 1: a score of {_DEFAULT_BATCHES} iterations sees {_DEFAULT_BATCHES} images, and is slow"
            )
            yield _at(layer, "note", "batch_size", what, "set it to 50 or so, or use --iterations all")


def _records(net: NetSpec, feed: Feed) -> Iterator[tuple[RecordSource, LayerSpec]]:
    layers = fed_layers(net)
    if len(feed.sources) != len(layers):
        return  # an npz file for all
    for source, layer in zip(feed.sources, layers, strict=True):
        if isinstance(source, RecordSource):
            yield source, layer


def _at(layer: LayerSpec, severity: Severity, check: str, what: str, cure: str) -> Finding:
    file, line = layer.view.document.file, layer.view.line
    return Finding(severity, check, what, cure, file, line, layer.name)


def _missing(source: ImageListSource, layer: LayerSpec) -> Iterator[Finding]:
    missing = source.missing()
    if missing:
        some = ", ".join(f"'{path}'" for path in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        what = f"{len(missing)} of {source.images} images of the list do not exist: {some}{more}"
        cure = "correct the list or root_folder, or name the folder that paths are relative to with --data-root"
        yield _at(layer, "error", "image", what, cure)


def _samples(source: RecordSource, faults: list[RistrettoError]) -> Iterator[Sample]:
    """Items spread over the source, the first and the last among them."""
    read = source.kept()
    for number in sorted({int(place) for place in np.linspace(0, source.images - 1, _SAMPLES)}):
        sample = None
        try:
            sample = Sample(number, *read(number))
        except RistrettoError as error:
            if "does not exist" not in error.what:  # all of those are named together
                faults.append(error)
        if sample is not None:
            yield sample


def _image_findings(source: RecordSource, layer: LayerSpec, samples: list[Sample]) -> Iterator[Finding]:
    rng, transform = np.random.default_rng(0), source.transform
    faults: dict[str, RistrettoError] = {}
    sizes: dict[tuple[int, ...], Sample] = {}
    for sample in samples:
        sizes.setdefault(transform.output_shape(sample.image.shape), sample)
        try:
            transform.apply(sample.image, rng, lambda number=sample.number: source.describe(number))  # type: ignore[misc,arg-type]
        except RistrettoError as error:
            faults.setdefault(error.cure, error)
    for fault in faults.values():
        yield Finding.of(fault, "transform")
    if len(sizes) > 1 and source.batch_size > 1:
        (first, _), (other, sample), *_ = sizes.items()
        what = f"the images have several sizes: {list(first)} and, {source.describe(sample.number)}, {list(other)}"
        cure = "set crop_size, resize the images (new_height, new_width), or use batch_size 1"
        yield _at(layer, "error", "image", what, cure)
    flat = [sample for sample in samples if sample.image.size and sample.image.min() == sample.image.max()]
    if samples and len(flat) == len(samples):
        what = f"the images are empty: all pixels of each of the {len(samples)} that were looked at are the same"
        yield _at(layer, "warning", "empty_images", what, "convert the images again")


def _label_findings(
    net: NetSpec, source: RecordSource, layer: LayerSpec, samples: list[Sample], shapes: Shapes
) -> Iterator[Finding]:
    if len(source.tops) < 2 or not samples:
        return
    blob = source.tops[1]
    labels = np.array([sample.label for sample in samples])
    judged = replace(net, layers=tuple(each for each in net.layers if shapes.values.keys() >= set(each.inputs)))
    for rule in label_rules(judged, NetShapes(shapes.values, ())):
        if rule.blob != blob or rule.steps or rule.layer.type == "Embed":
            continue
        wrong = (labels < 0) | (labels >= rule.classes)
        if rule.ignored is not None:
            wrong &= labels != rule.ignored
        if wrong.any():
            worst = samples[int(np.flatnonzero(wrong)[0])]
            what = f"label {worst.label:g} of {source.describe(worst.number)}, the net has {rule.classes} classes"
            cure = f"labels count from 0 to {rule.classes - 1}"
            if labels.min() == 1 and labels.max() == rule.classes:
                cure += "; these count from 1: take 1 off each"
            yield _at(layer, "error", "label", what, cure)
            break
    if len(samples) > 1 and len(set(labels)) == 1:
        what = f"all labels that were looked at ({len(samples)} images spread over the source) are {labels[0]:g}"
        yield _at(layer, "warning", "label", what, "write the true labels, or the score says nothing")


def _transform_findings(transform: Transform, layer: LayerSpec, samples: list[Sample]) -> Iterator[Finding]:
    values = None if transform.mean_values is None else transform.mean_values.ravel()
    brightest = max((float(sample.image.max()) for sample in samples), default=0.0)
    if values is not None and brightest > 2 and 0 < np.abs(values).max() <= 1:
        what = f"mean_value {values[0]:g} is taken off pixels of up to {brightest:g}: the mean comes before the scale"
        yield _at(layer, "warning", "transform", what, "give the mean in units of pixels, 0 to 255")
    if values is not None and values.size == 3 and np.abs(values[::-1] - _IMAGENET_MEAN).max() < 1.5:
        what = "mean_value has ImageNet's means in the order red, green, blue"
        cure = "Caffe's images are blue, green, red: give 104, 117, 123, unless yours were stored as RGB"
        yield _at(layer, "warning", "transform", what, cure)
    if transform.scale > 1 and brightest > 2:
        what = f"scale is {transform.scale:g}: pixels are multiplied by it"
        yield _at(layer, "warning", "transform", what, "for pixels from 0 to 1 it is 0.00390625")
    if transform.mirror and layer.phase == "TEST":
        what = "mirror is on in phase TEST, where it is drawn by chance as well"
        yield _at(layer, "note", "transform", what, "take it out, so that a score is that of the images as they are")


def count_findings(net: NetSpec, feed: Feed, shapes: Shapes) -> Iterator[Finding]:
    """How many images there are, and how much memory a batch takes."""
    asked = _DEFAULT_BATCHES * feed.batch_size
    if feed.images is not None and feed.images < asked and isinstance(feed.sources[0], RecordSource):
        what = (
            f"the {net.phase} source holds {feed.images} images, the default of {_DEFAULT_BATCHES} iterations asks for "
            f"{asked}: some would be scored more than once"
        )
        cure = "use --iterations all"
        if feed.images % feed.batch_size == 0:
            cure += f", or --iterations {feed.images // feed.batch_size}"
        yield Finding("note", "wraps_around", what, cure, net.file)
    complete = shapes.complete
    if complete is None:
        return
    fed = feed.shapes
    largest = max((math.prod(shape) for shape in shapes.values.values()), default=0)
    if cut_of(net, complete, fed) is not None:
        largest = max((math.prod(shape) for shape in fed.values()), default=0)
    needed = 3 * 4 * largest
    if needed > _MUCH_MEMORY:
        what = f"a batch of {feed.batch_size} images takes about {needed / _GIB:.0f} GiB of memory"
        yield Finding("warning", "memory", what, "make batch_size smaller, and --iterations greater", net.file)


def phase_findings(test: Feed, train: Feed, train_net: NetSpec) -> Iterator[Finding]:
    """Where the data of the two phases disagree."""
    tests = [source for source in test.sources if isinstance(source, RecordSource)]
    for source, layer in _records(train_net, train):
        for other in tests:
            if source.tops != other.tops:
                continue
            if source.identity == other.identity:
                what = "TRAIN and TEST read the same images: ranges are measured on what is scored"
                yield _at(layer, "note", "same_data", what, "name the training images, if you have them")
            unequal = _differing(source.transform, other.transform)
            if unequal:
                what = f"{unequal} differs between the data layers of TRAIN and TEST"
                cure = "ranges are measured on TRAIN data: prepare both alike"
                yield _at(layer, "warning", "transform", what, cure)


def _differing(one: Transform, other: Transform) -> str:
    if one.scale != other.scale:
        return f"scale ({one.scale:g}, {other.scale:g})"
    for name in ("mean_values", "mean_image"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if (mine is None) != (theirs is None) or (mine is not None and not np.array_equal(mine, theirs)):
            return {"mean_values": "mean_value", "mean_image": "mean_file"}[name]
    return ""

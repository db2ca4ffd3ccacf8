"""Weights files: .caffemodel in every form that Caffe has written, and .caffemodel.h5."""

from __future__ import annotations

import codecs
import logging
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.atomic import atomic_write_bytes
from ristretto.caffe.blobs import blob_pieces, parse_blob
from ristretto.caffe.hdf5 import HDF5_MAGIC
from ristretto.caffe.limits import LAYERS, MAX_LAYER_BLOBS, limit, most_blobs, to_raise
from ristretto.caffe.weights_hdf5 import read_hdf5_layers
from ristretto.caffe.wire import BYTES, VARINT, WireError, fields, prefixed
from ristretto.errors import UsageError, WeightsError
from ristretto.inputs import open_input

_log = logging.getLogger(__name__)

_LAYER, _V1_LAYER = 100, 2
_NAME_KEY = b"\x0a"
"""How a NetParameter with a name starts: the file of a net without weights holds no more than that."""


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The blobs of one layer as a file holds them.

    Attributes:
        name, type: of the layer; V1 files give the type's number.
        blobs: float32 arrays; legacy shapes have four axes.
        bottoms, tops: blob names, for writing.
    """

    name: str
    type: str
    blobs: tuple[NDArray[np.float32], ...]
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """The content of one or more weights files.

    Attributes:
        layers: all layers, file after file.
        files: where they came from.
    """

    layers: tuple[LayerWeights, ...]
    files: tuple[Path, ...]
    _by_name: dict[str, tuple[NDArray[np.float32], ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_name = {layer.name: layer.blobs for layer in self.layers if layer.blobs}
        object.__setattr__(self, "_by_name", by_name)

    def get(self, name: str) -> tuple[NDArray[np.float32], ...] | None:
        """The blobs of a layer; where several have the name the last one counts, as it does when Caffe copies them."""
        return self._by_name.get(name)


def read_weights(paths: Sequence[Path] | str, *, untrusted: bool = False) -> Weights:
    """Read weights files; layers of later ones override those of earlier ones.

    Arrays of float32 data are read-only views of the mapped file, so that reading costs neither time nor memory
    beyond the pages that are used.

    Args:
        paths: the files, or their paths in one string, separated by commas.
        untrusted: whether what an HDF5 file links to must lie in its own folder.

    Raises:
        WeightsError: a file is missing, damaged, or no weights file.
        UsageError: an HDF5 file is given and h5py is not installed, or the string names no file.
    """
    files = split_paths(paths) if isinstance(paths, str) else tuple(paths)
    weights = Weights(tuple(layer for path in files for layer in _read(path, untrusted)), files)
    for path in files:
        _log.debug("read %s", path)
    with_blobs = [layer for layer in weights.layers if layer.blobs]
    numbers = sum(blob.size for layer in with_blobs for blob in layer.blobs)
    _log.debug("weights: %d numbers in %d layers", numbers, len(with_blobs))
    return weights


def _read(path: Path, untrusted: bool = False) -> list[LayerWeights]:
    try:
        with open_input(path, piped=True) as file:
            start = file.read(1024)
            if not start:
                raise WeightsError("the weights file is empty", file=str(path))
            if start.startswith(HDF5_MAGIC):
                return [LayerWeights(name, "", blobs) for name, blobs in read_hdf5_layers(path, untrusted)]
            if path.is_file():
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            else:  # a pipe cannot be mapped
                data = memoryview(start + file.read())
    except OSError as error:
        what = f"cannot read the weights: {error.strerror or error}"
        raise WeightsError(what, file=str(path), cure="check the path given") from error
    try:
        layers = list(_limited(_parse_net(data), path))
    except WireError as error:
        mistaken = _recognised(start)
        what = mistaken or f"damaged or no weights file: {error} (at byte {error.offset})"
        cure = "give the .caffemodel that Caffe saved; if it is one, fetch it again"
        raise WeightsError(what, file=str(path), layer="" if mistaken else error.layer, cure=cure) from error
    if not layers and (_recognised(start) or not start.startswith(_NAME_KEY)):
        what = _recognised(start) or "the file holds no layers"
        raise WeightsError(what, file=str(path), cure="give the .caffemodel that Caffe saved")
    return layers


def _recognised(start: bytes) -> str:
    """What a file is that was given in place of weights, or "", by its first bytes."""
    text = start.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "this is a web page, not a weights file"
    if text.startswith(b"version https://git-lfs"):
        return "this is a git-lfs pointer, not the file it points to"
    if text.startswith((b"name:", b"layer", b"input", b"#")):
        return "this is a prototxt, not a weights file"
    if start.startswith(b"PK"):
        return "this is a zip archive, not a weights file"
    if all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in start):
        return "this is a text file, not a weights file"
    return ""


def _limited(layers: Iterable[LayerWeights], path: Path) -> Iterator[LayerWeights]:
    """The same layers, as long as there are not too many of them, or of their blobs."""
    most, most_of_all, blobs = limit(LAYERS), most_blobs(), 0
    for count, layer in enumerate(layers, 1):
        blobs += len(layer.blobs)
        if count > most or blobs > most_of_all:
            what = f"the file holds more than {most} layers, or {most_of_all} blobs"
            raise WeightsError(what, file=str(path), cure=to_raise(LAYERS))
        yield layer


def _parse_net(data: memoryview) -> Iterable[LayerWeights]:
    for number, wire, low, high in fields(data, 0, len(data)):
        if wire != BYTES or number not in (_LAYER, _V1_LAYER):
            continue
        if number == _LAYER:
            yield _parse_layer(data, low, high, name=1, kind=2, blobs=7)
        else:
            yield _parse_v1_layer(data, low, high)


def _parse_v1_layer(data: memoryview, start: int, end: int) -> LayerWeights:
    """A V1 layer, or the V0 layer that it may hold as its field 1."""
    for number, wire, low, high in fields(data, start, end):
        if number == 1 and wire == BYTES:
            return _parse_layer(data, low, high, name=1, kind=2, blobs=50)
    return _parse_layer(data, start, end, name=4, kind=5, blobs=6)


def _parse_layer(data: memoryview, start: int, end: int, *, name: int, kind: int, blobs: int) -> LayerWeights:
    layer_name = layer_type = ""
    spans: list[tuple[int, int]] = []
    for number, wire, low, high in fields(data, start, end):
        if number == name and wire == BYTES:
            layer_name = _decode(data[low:high])
        elif number == kind:
            layer_type = str(low) if wire == VARINT else _decode(data[low:high])
        elif number == blobs and wire == BYTES:
            spans.append((low, high))
            if len(spans) > MAX_LAYER_BLOBS:
                what = f"a layer has more than {MAX_LAYER_BLOBS} blobs"
                raise WireError(what, start, layer_name)
    return LayerWeights(layer_name, layer_type, tuple(_parse_blob(data, *span, layer_name) for span in spans))


def _parse_blob(data: memoryview, start: int, end: int, layer: str) -> NDArray[np.float32]:
    try:
        return parse_blob(data, start, end)
    except WireError as error:
        raise WireError(str(error), error.offset, layer) from error
    except ValueError as error:  # numpy's refusal: no values, and sizes beside the zero that no array may have
        raise WireError("a blob has an impossible shape", start, layer) from error


def _decode(name: memoryview) -> str:
    """A name as the tree of a prototxt holds it: bytes that are no UTF-8 are kept as surrogates."""
    return bytes(name).decode("utf-8", "surrogateescape")


def write_caffemodel(path: Path, name: str, layers: Iterable[LayerWeights]) -> None:
    """Write a .caffemodel in today's form, whole or not at all.

    Args:
        path: where to.
        name: the net's name.
        layers: the layers with their blobs.

    Raises:
        UsageError: it cannot be written.
    """
    pieces: list[bytes | memoryview] = [_text(1, name)]
    for layer in layers:
        inner: list[bytes | memoryview] = [_text(1, layer.name), _text(2, layer.type)]
        inner += [_text(3, bottom) for bottom in layer.bottoms]
        inner += [_text(4, top) for top in layer.tops]
        for blob in layer.blobs:
            content = blob_pieces(blob)
            inner += [prefixed(7, sum(map(len, content))), *content]
        pieces += [prefixed(_LAYER, sum(map(len, inner))), *inner]
    atomic_write_bytes(path, pieces)


def _text(number: int, text: str) -> bytes:
    payload = text.encode("utf-8", "surrogateescape")
    return prefixed(number, len(payload)) + payload


def split_paths(text: str) -> tuple[Path, ...]:
    """Weights files as Caffe's flag takes them: separated by commas.

    Raises:
        UsageError: there is none.
    """
    paths = tuple(Path(part) for part in text.split(",") if part)
    if not paths:
        raise UsageError("no weights file is given", cure="write --weights x.caffemodel")
    return paths

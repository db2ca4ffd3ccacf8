"""Small data sources to test with: Datums, LMDBs, image files, mean files, and the layers that read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.net import build_net
from ristretto.caffe.netspec import LayerSpec, Phase
from ristretto.caffe.rules import NetState
from ristretto.caffe.schema import message_class
from ristretto.caffe.textproto import parse
from ristretto.data import Batch, DataSource, open_data

Pixels = NDArray[np.uint8]


def layer_of(text: str, phase: Phase = "TEST") -> LayerSpec:
    """The first layer of a net's text."""
    return build_net(parse(text, "net.prototxt"), NetState(phase)).layers[0]


def data_layer(
    type_name: str, parameters: str, transform: str = "", *, tops: str = "data label", phase: Phase = "TEST"
) -> LayerSpec:
    """A data layer on one line: parameters is the text of its own message, brackets included."""
    named = " ".join(f'top: "{top}"' for top in tops.split())
    transformed = f" transform_param {{ {transform} }}" if transform else ""
    return layer_of(f'layer {{ name: "d" type: "{type_name}" {named}{transformed} {parameters} }}', phase)


def database_layer(
    source: str, transform: str = "", *, batch_size: int = 2, more: str = "backend: LMDB", phase: Phase = "TEST"
) -> LayerSpec:
    """A Data layer of an LMDB."""
    return data_layer(
        "Data", f'data_param {{ source: "{source}" batch_size: {batch_size} {more} }}', transform, phase=phase
    )


def place(layer: LayerSpec, field: str) -> str:
    """Where the value of a field stands, as errors say it."""
    text = layer.view.document.text
    found = re.search(rf"\b{field}:?\s*", text)
    assert found
    return f"net.prototxt:1:{found.end() + 1}"


def opened(layer: LayerSpec, root: Path | None = None, *, seed: int = 0) -> DataSource:
    return open_data(layer, data_root=root, seed=seed)


def first(source: DataSource, count: int) -> list[Batch]:
    """The first few batches."""
    return list(islice(source.batches(), count))


def labels(batches: Sequence[Batch]) -> list[float]:
    return [float(label) for batch in batches for label in batch["label"]]


def raw_datum(pixels: Pixels, label: int = 0) -> bytes:
    """A Datum of bytes in the order channel, row, column."""
    channels, height, width = pixels.shape
    made = message_class("Datum")(channels=channels, height=height, width=width, data=pixels.tobytes(), label=label)
    return bytes(made.SerializeToString())


def encoded_datum(encoded: bytes, label: int = 0) -> bytes:
    """A Datum that holds an image file."""
    return bytes(message_class("Datum")(data=encoded, label=label, encoded=True).SerializeToString())


def write_lmdb(path: Path, records: Sequence[bytes]) -> Path:
    """An LMDB whose keys are in the order of the records."""
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for number, record in enumerate(records):
            transaction.put(b"%08d" % number, record)
    return path


def write_mean(path: Path, mean: NDArray[np.float32], *, legacy: bool = True) -> Path:
    """A mean file of an image (c, h, w), with sizes in the old fields or in today's shape."""
    blob = message_class("BlobProto")(data=mean.ravel().tolist())
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = (1, *mean.shape)
    else:
        blob.shape.dim.extend(mean.shape)
    path.write_bytes(blob.SerializeToString())
    return path


def picture(seed: int, height: int = 10, width: int = 12) -> Pixels:
    """Random pixels (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(image: NDArray[np.generic]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def jpeg(image: NDArray[np.generic]) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def failing(code: int) -> Callable[..., None]:
    """A function of OpenCV's that fails."""

    def fail(*_: object) -> None:
        error = cv2.error(f"error: ({code}:) in function")
        error.code = code
        raise error

    return fail


def numbered(count: int, shape: tuple[int, int, int] = (1, 2, 2)) -> list[bytes]:
    """Raw Datums; the pixels and the label of each are its number."""
    return [raw_datum(np.full(shape, number, np.uint8), number) for number in range(count)]

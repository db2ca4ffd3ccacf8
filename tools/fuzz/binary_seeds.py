"""Small binary files to begin from, and a place where readers of files find them."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import lmdb
import numpy as np

from ristretto.caffe.blobs import blob_pieces
from ristretto.caffe.solver_state import SolverState, write_solver_state
from ristretto.caffe.weights import LayerWeights, write_caffemodel
from ristretto.caffe.wire import prefixed, varint
from ristretto.data.opencv import cv2

ROOT = Path(tempfile.mkdtemp(prefix="ristretto-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder, for readers that remember what they have open."""
    made = Path(tempfile.mkdtemp(dir=ROOT))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def file_of(data: bytes, name: str = "input") -> Path:
    """A file that holds an input; it is the same file every time."""
    path = ROOT / name
    path.write_bytes(data)
    return path


def blob(array: object) -> bytes:
    """A BlobProto."""
    return b"".join(map(bytes, blob_pieces(np.asarray(array, np.float32))))


def old_blob() -> bytes:
    """A BlobProto of 2014, with unpacked doubles."""
    shape = b"".join(varint(number << 3) + varint(size) for number, size in ((1, 1), (2, 1), (3, 1), (4, 2)))
    return shape + b"".join(varint(8 << 3 | 1) + np.float64(value).tobytes() for value in (0.5, -2))


def weights() -> Iterator[bytes]:
    """Weights files: today's, V1 and V0."""
    blobs = np.ones((2, 1, 1, 1), np.float32), np.zeros(2, np.float32)
    layer = LayerWeights("conv1", "Convolution", blobs, ("a",), ("b",))
    path = ROOT / "seed"
    write_caffemodel(path, "net", [layer])
    yield path.read_bytes()
    held = old_blob()
    v1 = prefixed(4, 2) + b"ip" + varint(5 << 3) + varint(14) + prefixed(6, len(held)) + held
    yield prefixed(2, len(v1)) + v1
    v0 = prefixed(1, 1) + b"c" + prefixed(2, 4) + b"conv" + prefixed(50, len(held)) + held
    v0 = prefixed(1, len(v0)) + v0
    yield prefixed(2, len(v0)) + v0


def solver_states() -> Iterator[bytes]:
    """Snapshots of solvers."""
    state = SolverState(7, "net_iter_7.caffemodel", 1, (np.ones((2, 2), np.float32),))
    for hdf5 in (False, True):
        path = ROOT / "seed"
        write_solver_state(path, state, hdf5=hdf5)
        yield path.read_bytes()


def images() -> Iterator[bytes]:
    """Image files of several kinds."""
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    for end in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".pgm"):
        done, encoded = cv2.imencode(end, pixels[..., 0] if end == ".pgm" else pixels)
        if done:
            yield encoded.tobytes()


def datum(pixels: bytes, shape: tuple[int, int, int] = (0, 0, 0), *, encoded: bool = False) -> bytes:
    """A Datum."""
    head = b"".join(varint(number << 3) + varint(size) for number, size in enumerate(shape, 1))
    tail = varint(5 << 3) + varint(3) + (varint(7 << 3) + varint(1) if encoded else b"")
    return head + prefixed(4, len(pixels)) + pixels + tail


def datums() -> Iterator[bytes]:
    """Raw, encoded and float Datums."""
    yield datum(bytes(range(12)), (3, 2, 2))
    yield from (datum(image, encoded=True) for image in images())
    floats = np.ones(4, np.float32).tobytes()
    shape = b"".join(varint(number << 3) + varint(size) for number, size in enumerate((1, 2, 2), 1))
    yield shape + prefixed(6, len(floats)) + floats


def arrays() -> Iterator[bytes]:
    """Npz files: stored and deflated, of several types, and one that holds an object."""
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, data=np.ones((2, 1, 2, 2), np.float32), label=np.zeros(2, np.int64))
        yield buffer.getvalue()
    buffer = io.BytesIO()
    np.savez(buffer, data=np.asarray([{"an": "object"}], object), label=np.zeros((2, 2), ">f8", order="F"))
    yield buffer.getvalue()


def hdf5(groups: bool) -> bytes:
    """An HDF5 file of weights, or of data."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest" if groups else None) as file:
        if groups:
            file.create_group("data/conv1").create_dataset("0", data=np.ones((2, 2), np.float32))
        else:
            file.create_dataset("data", data=np.ones((4, 2), np.float32), chunks=(2, 2), compression="gzip")
            file.create_dataset("label", data=np.zeros(4, np.float32))
    return buffer.getvalue()


def databases() -> Iterator[bytes]:
    """LMDBs: one page, several levels, records in pages of their own, none at all."""
    for records, size in ((3, 12), (400, 20), (6, 3000), (0, 0)):
        with folder() as place:
            environment = lmdb.open(str(place / "db"), map_size=1 << 22)
            with environment.begin(write=True) as transaction:
                for number in range(records):
                    transaction.put(b"%05d" % number, datum(bytes(size), (1, 1, size)))
            environment.close()
            yield (place / "db" / "data.mdb").read_bytes()

"""Lists of images and of HDF5 files, and the labels that ristretto init reads."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from ristretto.caffe.net import build_net
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import parse
from ristretto.data import open_data
from ristretto.errors import RistrettoError

_FOLDER = Path(mkdtemp(prefix="ristretto-fuzz"))
_LIST = _FOLDER / "list.txt"

_NET = build_net(
    parse(
        f"""layer {{ name: "a" type: "ImageData" top: "x" top: "y"
  image_data_param {{ source: "{_LIST}" root_folder: "{_FOLDER}/" batch_size: 2 }} }}
layer {{ name: "b" type: "HDF5Data" top: "z" hdf5_data_param {{ source: "{_LIST}" batch_size: 2 }} }}"""
    ),
    NetState("TEST"),
)


def seeds() -> Iterable[bytes]:
    yield b"a.png 0\nb c.jpg 12\r\n\n  \nd\xff.png -1\n"
    yield b"../list.txt 3\n/dev/null 4\nlist.txt 2147483648\n"
    yield b"list.txt\n\n/dev/null\n"


def one_input(data: bytes) -> None:
    _LIST.write_bytes(data)
    for layer in _NET.layers:
        with suppress(RistrettoError):
            open_data(layer, data_root=_FOLDER, seed=0)

"""How large a net may be: stated limits, so that a file made to exhaust the machine is refused before anything is.

Each can be raised by an environment variable: ``RISTRETTO_MAX_LAYERS=50000``.
"""

from __future__ import annotations

import os
from pathlib import Path

from ristretto.errors import NetError, UsageError
from ristretto.inputs import open_input
from ristretto.memory import memory_bytes

PROTOTXT_MB, JSON_MB, YAML_MB = "PROTOTXT_MB", "JSON_MB", "YAML_MB"
LAYERS, STEPS, CONSTANT_MB = "LAYERS", "STEPS", "CONSTANT_MB"
ARRAYS_MB = "ARRAYS_MB"
"""Of the arrays that are read from one npz or HDF5 file: what is compressed may be a thousand times as large as the
file. Half of the memory, if the environment says nothing."""

DEFAULTS = {
    PROTOTXT_MB: 16,  # the largest published nets have 0.5
    JSON_MB: 64,  # a report of a thousand layers has 20
    YAML_MB: 1,  # ten thousand jobs; it is read slowly
    LAYERS: 10_000,  # ResNet-1001 has 4,000
    STEPS: 10_000,  # nodes are made for each of them
    CONSTANT_MB: 512,  # SSD's priors have 0.3
}
"""Megabytes of a prototxt, of JSON, of YAML; layers of a net; steps of an unrolled layer; megabytes of what a layer
makes of shapes alone."""

MAX_VALUES = 2**31 - 1
"""Values in a blob: Caffe counts them as int (blob.cpp, Reshape), so that no net of Caffe's has more."""

MAX_AXES = 32
"""Axes of a blob (blob.hpp, kMaxBlobAxes)."""

MAX_LAYER_BLOBS = 256
"""Blobs of one layer in a weights file, far more than any has."""


def most_blobs() -> int:
    """Blobs of a weights file, or arrays of a snapshot: ten for each layer that there may be."""
    return 10 * limit(LAYERS)


def variable(name: str) -> str:
    """The environment variable that raises a limit."""
    return f"RISTRETTO_MAX_{name}"


def limit(name: str) -> int:
    """A limit: that of the environment, or the default.

    Raises:
        UsageError: the environment has no whole number.
    """
    given = os.environ.get(variable(name), "")
    if not given:
        return DEFAULTS[name] if name in DEFAULTS else memory_bytes() >> 21
    if not (given.isascii() and given.isdigit()) or len(given) > 12:
        raise UsageError(f"{variable(name)} is {given[:80]!r}, no whole number", cure="give a number, or unset it")
    return int(given)


def to_raise(name: str) -> str:
    """The cure for what is beyond a limit and meant so."""
    return f"if it is meant so, set {variable(name)} to a larger number"


def read_at_most(path: Path, name: str, what: str) -> bytes:
    """The content of a file that is not larger than a limit.

    Args:
        path: the file.
        name: the limit.
        what: what it holds, for the error.

    Raises:
        OSError: it cannot be read.
        UsageError: it is larger; no more than the limit was read.
    """
    most = limit(name) << 20
    with open_input(path, piped=True) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UsageError(f"this {what} is larger than {limit(name)} MB", file=str(path), cure=to_raise(name))
    return data


def check_layers(count: int, file: str, most: int) -> None:
    """Refuse a net with too many layers.

    Raises:
        NetError: it has more than the limit, which is given since this is asked for every layer.
    """
    if count > most:
        raise NetError(f"the net has more than {most} layers", file=file, cure=to_raise(LAYERS))

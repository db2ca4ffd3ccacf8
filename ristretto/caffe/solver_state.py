"""Snapshots of a solver, as Caffe writes them: .solverstate, .solverstate.h5, and weights as .caffemodel.h5."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.atomic import atomic_write_bytes
from ristretto.caffe.blobs import blob_pieces, parse_blob
from ristretto.caffe.hdf5 import HDF5_ERRORS, HDF5_MAGIC, ArrayReader, import_h5py, open_hdf5
from ristretto.caffe.limits import most_blobs
from ristretto.caffe.weights import LayerWeights
from ristretto.caffe.wire import BYTES, VARINT, WireError, fields, prefixed, varint
from ristretto.errors import UsageError, WeightsError
from ristretto.inputs import open_input

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class SolverState:
    """Where training was (caffe.proto, SolverState).

    Attributes:
        iteration: the next one.
        learned_net: the weights file that goes with it, as written.
        current_step: how often the learning rate was lowered.
        history: what the update rule remembers, blob by blob.
    """

    iteration: int
    learned_net: str
    current_step: int
    history: tuple[NDArray[np.float32], ...]


def read_solver_state(path: Path) -> SolverState:
    """Read a .solverstate or .solverstate.h5, told apart by their first bytes.

    Raises:
        UsageError: it cannot be read, or needs h5py.
        WeightsError: it is damaged, or no such file.
    """
    try:
        with open_input(path) as file:
            start = file.read(len(HDF5_MAGIC))
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if start else memoryview(b"")
    except OSError as error:
        what = f"cannot read the snapshot: {error.strerror or error}"
        raise UsageError(what, file=str(path), cure="check the path given") from error
    if start == HDF5_MAGIC:
        return _read_hdf5(path)
    try:
        state = _parse(data)
    except (WireError, ValueError) as error:
        raise _no_snapshot(path, str(error)) from error
    if not state.learned_net or state.iteration < 0:
        raise _no_snapshot(path, "it names no weights file")
    return state


def _no_snapshot(path: Path, reason: str) -> WeightsError:
    cure = "give the .solverstate that was saved beside the weights"
    return WeightsError(f"damaged or no snapshot of a solver: {reason}", file=str(path), cure=cure)


def _parse(data: memoryview) -> SolverState:
    iteration = current = 0
    learned, history = "", []
    most = most_blobs()
    for number, wire, low, high in fields(data, 0, len(data)):
        if number == _ITER and wire == VARINT:
            iteration = low
        elif number == _CURRENT_STEP and wire == VARINT:
            current = low
        elif number == _LEARNED_NET and wire == BYTES:
            learned = bytes(data[low:high]).decode("utf-8", "surrogateescape")
        elif number == _HISTORY and wire == BYTES:
            history.append(parse_blob(data, low, high))
            if len(history) > most:
                what = f"it holds more than {most} arrays"
                raise ValueError(what)
        else:
            what = f"it has a field {number} that no snapshot has"
            raise ValueError(what)
    return SolverState(iteration, learned, current, tuple(history))


def _read_hdf5(path: Path) -> SolverState:
    try:
        with open_hdf5(path) as file:
            history, reader = file["history"], ArrayReader()
            learned = file["learned_net"][()]
            return SolverState(
                _number(file["iter"], reader),
                learned.decode("utf-8", "surrogateescape") if isinstance(learned, bytes) else str(learned),
                _number(file["current_step"], reader),
                tuple(reader.read(history[str(number)]) for number in range(len(history))),
            )
    except HDF5_ERRORS as error:
        raise _no_snapshot(path, " ".join(str(error).split())) from error


def _number(dataset: Any, reader: ArrayReader) -> int:
    reader.check(dataset)
    return int(np.ravel(dataset)[0])


def write_solver_state(path: Path, state: SolverState, *, hdf5: bool = False) -> None:
    """Write a snapshot, whole or not at all.

    Raises:
        UsageError: it cannot be written, or h5py is needed.
    """
    if not hdf5:
        name = state.learned_net.encode("utf-8", "surrogateescape")
        pieces: list[bytes | memoryview] = [varint(_ITER << 3) + varint(state.iteration)]
        pieces.append(prefixed(_LEARNED_NET, len(name)) + name)
        for blob in state.history:
            content = blob_pieces(blob)
            pieces += [prefixed(_HISTORY, sum(map(len, content))), *content]
        pieces.append(varint(_CURRENT_STEP << 3) + varint(state.current_step))
        atomic_write_bytes(path, pieces)
        return
    h5py = import_h5py(str(path))
    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        file["iter"] = np.array([state.iteration], np.int32)
        file["learned_net"] = np.bytes_(state.learned_net.encode("utf-8", "surrogateescape"))
        file["current_step"] = np.array([state.current_step], np.int32)
        group = file.create_group("history")
        for number, blob in enumerate(state.history):
            group[str(number)] = blob
    atomic_write_bytes(path, buffer.getvalue())


def write_caffemodel_hdf5(path: Path, layers: Iterable[LayerWeights]) -> None:
    """Write weights as HDF5, whole or not at all (net.cpp, ToHDF5).

    Raises:
        UsageError: it cannot be written, or h5py is needed.
    """
    h5py = import_h5py(str(path))
    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        data = file.create_group("data")
        for layer in layers:
            group = data.require_group(layer.name)
            for number, blob in enumerate(layer.blobs):
                group[str(number)] = blob
    atomic_write_bytes(path, buffer.getvalue())

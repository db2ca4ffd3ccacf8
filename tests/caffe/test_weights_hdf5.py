"""Weights in HDF5: what Caffe's snapshots look like, and what is none."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ristretto.caffe.weights import read_weights
from ristretto.errors import UsageError, WeightsError

h5py = pytest.importorskip("h5py")

CURE = "; give the .caffemodel.h5 that Caffe saved"


def write(path: Path, layers: dict[str, dict[int, np.ndarray]]) -> Path:
    """A file as Net::ToHDF5 writes it: a group for each layer, also for those without parameters."""
    with h5py.File(path, "w") as file:
        for name, blobs in layers.items():
            group = file.require_group(f"data/{name}")
            for number, blob in blobs.items():
                group[str(number)] = blob
    return path


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 7


@pytest.mark.parametrize("name", ["net.caffemodel.h5", "named_otherwise.caffemodel"])
def test_reads_every_blob_by_layer(tmp_path: Path, name: str) -> None:
    layers = {
        "conv1": {0: numbers(4, 3, 2, 2), 1: numbers(4)},
        "relu1": {},
        "inception/3x3": {0: numbers(2, 2)},
        "inception": {0: numbers(3)},
        "7": {0: numbers(1)},
        "many": {n: numbers(n + 1) for n in range(11)},
    }
    weights = read_weights([write(tmp_path / name, layers)])
    assert {layer.name for layer in weights.layers} == set(layers) - {"relu1"}
    for layer, blobs in layers.items():
        found = weights.get(layer) or ()
        assert len(found) == len(blobs)
        for n, blob in blobs.items():
            np.testing.assert_array_equal(found[n], blob)
            assert found[n].dtype == np.float32


def test_doubles_become_float32(tmp_path: Path) -> None:
    values = np.array([0.1, -1e30])
    weights = read_weights([write(tmp_path / "x.h5", {"ip": {0: values}})])
    np.testing.assert_array_equal((weights.get("ip") or ())[0], values.astype(np.float32))


def test_a_shared_blob_that_is_stored_elsewhere_keeps_its_place(tmp_path: Path) -> None:
    weights = read_weights([write(tmp_path / "x.h5", {"sharer": {1: numbers(3)}})])
    absent, bias = weights.get("sharer") or ()
    assert absent.shape == (0,)
    np.testing.assert_array_equal(bias, numbers(3))


def test_files_of_data_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = numbers(2, 3), numbers(2)
    with pytest.raises(WeightsError) as caught:
        read_weights([path])
    assert str(caught.value) == f"{path}: the HDF5 file holds no weights: it has no group 'data'{CURE}"


def test_damage_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5", {"ip": {999999999: numbers(1)}})
    with pytest.raises(
        WeightsError, match="damaged HDF5 file: layer 'ip' has a blob 999999999; fetch or save it again"
    ):
        read_weights([path])
    with h5py.File(path, "w") as file:
        file.create_dataset("data/ip/0", shape=(1 << 40,), dtype="f4")
    with pytest.raises(WeightsError, match=r"damaged HDF5 file: /data/ip/0 has shape \(1099511627776,\)"):
        read_weights([path])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_truncated_and_mutated(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "x.h5"
    content = bytearray(write(path, {"conv1": {0: numbers(4, 3), 1: numbers(4)}, "a/b": {0: numbers(2)}}).read_bytes())
    length = data.draw(st.integers(8, len(content)))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[:length])
    complaint: WeightsError | None = None
    try:
        read_weights([path])
    except WeightsError as error:
        complaint = error
    assert complaint is None or complaint.file == str(path)


def test_without_h5py_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.h5", {"ip": {0: numbers(1)}})
    real = builtins.__import__

    def without_h5py(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(UsageError) as caught:
        read_weights([path])
    cure = "pip install 'ristretto-fixed-point[hdf5]'"
    assert str(caught.value) == f"{path}: HDF5 files need the package h5py; {cure}"

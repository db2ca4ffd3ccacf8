"""HDF5 files that lie or that crash the library that reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.caffe import hdf5
from ristretto.caffe.hdf5 import open_hdf5, try_hdf5
from ristretto.caffe.solver_state import read_solver_state
from ristretto.caffe.weights import read_weights
from ristretto.errors import WeightsError

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

CRASHING = """
import json, os, sys
for path in json.load(sys.stdin)["paths"]:
    if "bad" in path:
        ACT
    print(flush=True)
"""


@pytest.fixture(autouse=True)
def _nothing_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_tried", {})


def weights_file(path: Path, **options: Any) -> Path:
    """A weights file with one blob, stored as h5py's options say."""
    with h5py.File(path, "w") as file:
        file.create_group("data").create_group("ip").create_dataset("0", **options)
    return path


@pytest.mark.parametrize("act", ["os.abort()", "os.kill(os.getpid(), 9)", "import time; time.sleep(60)"])
def test_a_crash_or_a_hang_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    script = tmp_path / "trial.py"
    script.write_text(CRASHING.replace("ACT", act))
    monkeypatch.setattr(hdf5, "_TRIAL", script)
    monkeypatch.setattr(hdf5, "_SECONDS", 1 if "sleep" in act else 60)
    good = weights_file(tmp_path / "good.h5", data=np.ones((2, 3), np.float32))
    bad = weights_file(tmp_path / "bad.h5", data=np.ones((2, 3), np.float32))
    assert read_weights([good]).layers[0].blobs[0].shape == (2, 3)
    with pytest.raises(WeightsError, match=r"bad\.h5: damaged HDF5 file: '.*bad\.h5' crashes or holds up the library"):
        read_weights([bad])
    with pytest.raises(OSError, match=r"bad\.h5"):
        try_hdf5([good, bad])


def test_the_trial_comes_through_all_files(tmp_path: Path) -> None:
    files = [weights_file(tmp_path / f"{n}.h5", data=np.ones((4, 4)), chunks=(2, 2)) for n in range(3)]
    files[1].write_bytes(files[1].read_bytes()[:700])
    asked = json.dumps({"paths": [*map(str, files), str(tmp_path / "none.h5")], "bytes": 1 << 20})
    command = [sys.executable, "-I", str(hdf5._TRIAL), str(Path(h5py.__file__).parents[1])]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    assert done.stdout == "\n" * 4


def test_a_file_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights_file(tmp_path / "w.h5", data=np.ones((2, 3), np.float32))
    read_weights([path])
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was tried again"))
    read_weights([path])
    weights_file(path, data=np.ones((20, 30), np.float32))
    with pytest.raises(pytest.fail.Exception):
        read_weights([path])


def test_the_folder_of_a_project_brings_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "h5py.py").write_text("open('run', 'w')")
    monkeypatch.chdir(tmp_path)
    read_weights([weights_file(tmp_path / "w.h5", data=np.ones((2, 3), np.float32))])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"shape": (1 << 20, 1 << 20), "dtype": "f4", "chunks": (16, 16)}, "fewer values are stored"),
        ({"shape": (1 << 10, 1 << 10), "dtype": "f4"}, "fewer values are stored"),
        (
            {"data": np.zeros((2048, 1024), np.float32), "compression": "gzip"},
            r"more than 4 MB.*RISTRETTO_MAX_ARRAYS_MB",
        ),
        ({"data": np.zeros((2048, 1024), np.uint8), "compression": "gzip"}, r"more than 4 MB.*RISTRETTO_MAX_ARRAYS_MB"),
        ({"data": [b"a", b"b"]}, "numbers are needed"),
    ],
)
def test_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], what: str) -> None:
    monkeypatch.setenv("RISTRETTO_MAX_ARRAYS_MB", "4")
    with pytest.raises(WeightsError, match=what):
        read_weights([weights_file(tmp_path / "w.h5", **options)])


def test_links_to_one_array_count_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISTRETTO_MAX_ARRAYS_MB", "4")
    path = weights_file(tmp_path / "w.h5", data=np.zeros((512, 512), np.float32))
    with h5py.File(path, "a") as file:
        for number in range(1, 20):
            file[f"data/ip/{number}"] = file["data/ip/0"]
    with pytest.raises(WeightsError, match="its arrays take more than 4 MB"):
        read_weights([path])


def test_a_snapshot_counts_exactly(tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate.h5"
    with h5py.File(path, "w") as file:
        file["iter"], file["current_step"] = np.int32([16777217]), np.int32(3)
        file["learned_net"] = "net.caffemodel.h5"
        file.create_group("history")
    found = read_solver_state(path)
    assert (found.iteration, found.current_step, found.learned_net) == (16777217, 3, "net.caffemodel.h5")


def test_what_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(OSError, match="Unable to"), open_hdf5(tmp_path / "w.h5"):
        pass

"""Named pipes and devices in place of files: they are named at once, where reading them would wait or never end."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ristretto.inputs import open_input
from tests.cli.runner import MODELS, ristretto

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")

NET, WEIGHTS = "digits_lenet/train_val.prototxt", "digits_lenet/digits_lenet.caffemodel"
DEPLOY = "digits_lenet/deploy.prototxt"
JOB = ("--trimming_mode", "dynamic_fixed_point", "--model_quantized", "q.prototxt")
SECONDS = 30
"""Beyond which a command is taken to wait for ever."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a net and a pipe that nobody writes to."""
    for name in ("digits_lenet", "digits_data"):
        shutil.copytree(MODELS / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("pipes").mkdir()
    os.mkfifo("pipes/a.png")
    Path("list.txt").write_text("pipe 0\n")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "words",
    [
        ("quantize", "--model", "pipe", "--weights", WEIGHTS, *JOB),
        ("quantize", "--model", NET, "--weights", "pipe", *JOB),
        ("quantize", "--model", NET, "--weights", WEIGHTS, *JOB, "--overrides", "pipe"),
        ("test", "--model", NET, "--weights", "pipe"),
        ("run", "--model", DEPLOY, "--weights", WEIGHTS, "--inputs", "pipe", "--outputs", "x.npz"),
        ("apply", "--model", NET, "--formats", "pipe", "--output", "q.prototxt"),
        ("upgrade", "--model", "pipe", "--output", "new.prototxt"),
        ("upgrade", "--model", NET, "--output", "x", "--weights", "pipe", "--output-weights", "y"),
        ("fold", "--model", NET, "--weights", "pipe", "--output", "f.prototxt", "--output-weights", "f.caffemodel"),
        ("verify", "pipe"),
        ("batch", "pipe"),
        ("finetune", "--solver", "pipe", "--weights", WEIGHTS),
        ("inspect", "--model", "pipe"),
    ],
    ids=" ".join,
)
def test_a_pipe_in_place_of_a_file(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    before = sorted(Path().iterdir())
    outcome = ristretto(capsys, *words)
    assert outcome.status == 2
    assert "it is a named pipe, not a file" in outcome.message, outcome
    assert sorted(Path().iterdir()) == before


def data_layer(kind: str, fields: str, transform: str = "") -> str:
    return f"""layer {{ name: "data" type: "{kind}" top: "data" top: "label" {fields} {transform} }}
layer {{ name: "loss" type: "Reduction" bottom: "data" top: "loss" }}"""


IMAGES = 'image_data_param {{ source: "{}" batch_size: 1 new_height: 4 new_width: 4 }}'


@pytest.mark.parametrize(
    "text",
    [
        data_layer("ImageData", IMAGES.format("pipe")),
        data_layer("ImageData", IMAGES.format("list.txt")),
        data_layer("ImageData", IMAGES.format("digits.txt"), 'transform_param { mean_file: "pipe" }'),
        data_layer("HDF5Data", 'hdf5_data_param { source: "pipe" batch_size: 1 }'),
        data_layer("HDF5Data", 'hdf5_data_param { source: "hdf5.txt" batch_size: 1 }'),
        data_layer("Data", 'data_param { source: "pipe" batch_size: 1 backend: LMDB }'),
        data_layer("Data", 'data_param { source: "folder" batch_size: 1 backend: LMDB }'),
    ],
)
def test_a_pipe_that_a_net_names(capsys: pytest.CaptureFixture[str], text: str) -> None:
    Path("net.prototxt").write_text(text)
    Path("digits.txt").write_text("digits.png 0\n")
    Path("hdf5.txt").write_text("pipe\n")
    Path("folder").mkdir()
    os.mkfifo("folder/data.mdb")
    outcome = ristretto(capsys, "test", "--model", "net.prototxt")
    assert outcome.status == 2
    assert any(part in outcome.message for part in ("it is a named pipe, not a file", "it holds no data.mdb")), outcome


def test_devices_are_no_files() -> None:
    with pytest.raises(OSError, match="it is a device, not a file"):
        open_input(Path("/dev/zero"))


def test_what_a_shell_hands_over_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """As with ``<(...)``, whose path leads to a pipe that has no name."""
    for path in (NET, WEIGHTS):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            with os.fdopen(writer, "wb") as file:
                file.write(Path(path).read_bytes())
            os._exit(0)
        os.close(writer)
        given = {NET: NET, WEIGHTS: WEIGHTS, path: f"/dev/fd/{reader}"}
        words = ("test", "--model", given[NET], "--weights", given[WEIGHTS], "--iterations", 1)
        assert ristretto(capsys, *words).status == 0
        os.close(reader)
        os.wait()

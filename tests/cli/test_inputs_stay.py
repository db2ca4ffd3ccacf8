"""No result takes the place of anything that a job reads: what a net or a report names, code of the user's."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from ristretto.errors import UsageError
from ristretto.pipeline import scoring
from ristretto.pipeline.convert import ConvertOptions, convert
from tests.cli.runner import MODELS, Outcome, ristretto

Capture = pytest.CaptureFixture[str]

LOST = "this file is an input too: it would be lost; write elsewhere"
KEPT = "the job keeps this file while it runs, and it is an input; give the result another name"
JOB = (
    *("--trimming_mode", "dynamic_fixed_point", "--iterations", 1, "--calibration_batches", 1, "--error_margin", 50),
    *("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8),
)
NET = ("--model", "m/digits_lenet/train_val.prototxt", "--weights", "m/digits_lenet/digits_lenet.caffemodel")
DATA = ("--data-root", "m")
IMAGES = ("--model", "images.prototxt", *NET[2:])
RUN = ("run", *NET, *DATA, "--outputs")
TEST = ("test", *NET, *DATA, "--iterations", 1, "--report")
QUANTIZE = ("quantize", *NET, *DATA, *JOB, "--model_quantized", "q.prototxt", "--report")

PLUGIN = "VALUE = 1\n"
SCRIPT = "def score(batches):\n    return sum(1 for _ in batches) / 10\n"
IMAGE_DATA = """layer {{ name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param {{ source: "list.txt" batch_size: 4 is_color: false }} transform_param {{ {transform} }} }}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that is read."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(MODELS, folder / "m")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        assert cv2.imwrite(str(folder / "images" / f"{number}.png"), random.integers(0, 256, (16, 16), np.uint8))
    (folder / "list.txt").write_text("".join(f"images/{number}.png {number}\n" for number in range(8)))
    text = (MODELS / "digits_lenet" / "train_val.prototxt").read_text()
    rest = text[text.index('layer {\n  name: "conv1"') :]
    mean = np.full((1, 1, 16, 16), 8, np.float32)
    (folder / "mean.binaryproto").write_bytes(
        b"\x08\x01\x10\x01\x18\x10\x20\x10\x2a" + b"\x80\x08" + mean.tobytes()  # num, channels, height, width, data
    )
    for name, transform in (("images", "scale: 0.00390625"), ("mean", 'mean_file: "mean.binaryproto"')):
        (folder / f"{name}.prototxt").write_text(IMAGE_DATA.format(transform=transform) + rest)
    (folder / "plug.py").write_text(PLUGIN)
    (folder / "script.py").write_text(SCRIPT)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def stays(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder, in which nothing changes."""
    monkeypatch.chdir(models)
    before = content(models)
    yield models
    assert content(models) == before


def refused(capsys: Capture, *words: object, said: str = LOST) -> Outcome:
    outcome = ristretto(capsys, *words)
    assert outcome.status == 2, outcome.err
    assert outcome.message.endswith(said), outcome.err
    return outcome


LMDB = "m/digits_data/test_lmdb"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((*QUANTIZE, f"{LMDB}/data.mdb"), id="quantize"),
        pytest.param((*QUANTIZE, "m/digits_data/train_lmdb/data.mdb"), id="quantize, what is calibrated with"),
        pytest.param((*QUANTIZE, f"{LMDB}/lock.mdb"), id="quantize, a lock that is not there"),
        pytest.param((*TEST, f"{LMDB}/data.mdb"), id="test"),
        pytest.param((*RUN, f"{LMDB}/data.mdb"), id="run"),
        pytest.param(("doctor", *NET, *DATA, "--no-score", "--json", f"{LMDB}/data.mdb"), id="doctor"),
        pytest.param(("convert", *NET, *DATA, "--output", f"{LMDB}/data.mdb"), id="convert"),
        pytest.param((*QUANTIZE[:-2], "list.txt", *IMAGES), id="image list"),
        pytest.param((*QUANTIZE, "images/3.png", *IMAGES), id="image"),
        pytest.param((*TEST, "images/7.png", *IMAGES), id="image that no batch reads"),
        pytest.param((*TEST, "images/7.png", *IMAGES, "--workers", 2), id="image, with workers"),
        pytest.param((*TEST, "mean.binaryproto", "--model", "mean.prototxt"), id="mean file"),
        pytest.param((*QUANTIZE, "plug.py", "--plugin", "./plug.py"), id="plug-in"),
        pytest.param((*QUANTIZE, "plug.py", "--plugin", "plug"), id="plug-in by its name"),
        pytest.param((*TEST, "script.py", "--score_script", "./script.py:score"), id="script"),
    ],
)
def test_what_the_net_and_the_user_name(capsys: Capture, stays: Path, words: tuple[object, ...]) -> None:
    refused(capsys, *words)


def test_it_is_said_before_the_job(capsys: Capture, stays: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "run_pass", lambda *arguments: pytest.fail("the job has begun"))
    refused(capsys, *QUANTIZE, "images/3.png", *IMAGES)


def test_by_links_and_hard_links(
    capsys: Capture, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    (tmp_path / "soft").symlink_to(models / LMDB / "data.mdb")
    os.link(models / LMDB / "data.mdb", tmp_path / "hard")
    os.link(models / "images" / "5.png", tmp_path / "image")
    os.link(models / NET[3], tmp_path / "weights")
    before = content(models)
    for name in ("soft", "hard", "weights"):
        refused(capsys, *TEST, tmp_path / name)
    refused(capsys, *QUANTIZE, tmp_path / "image", *IMAGES)
    assert content(models) == before
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_report_names(capsys: Capture, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    report = tmp_path / "r.json"
    assert ristretto(capsys, *TEST, report).status == 0
    before = content(models)
    for name in (f"{LMDB}/data.mdb", NET[1], NET[3]):
        refused(capsys, "verify", report, "--json", name)
    changed = json.loads(report.read_text())
    changed["provenance"]["files"][0]["sha256"] = "0" * 64
    report.write_text(json.dumps(changed))  # then nothing is run
    refused(capsys, "verify", report, "--json", NET[3])
    assert content(models) == before


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_what_a_solver_names(capsys: Capture, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    solver, net, weights = tmp_path / "s", tmp_path / "q.prototxt", tmp_path / "p_iter_2.caffemodel"
    net.write_bytes(Path(NET[1]).read_bytes())
    weights.write_bytes(Path(NET[3]).read_bytes())
    solver.write_text(
        f'net: "{net}"\nbase_lr: 0.001\nlr_policy: "fixed"\nmax_iter: 4\nsnapshot: 2\nsnapshot_prefix: "{tmp_path}/p"\n'
    )
    before = content(tmp_path)
    job = ("finetune", "--solver", solver, "--weights", weights, *DATA, "--threads", 1)
    refused(capsys, *job, "--report", net)
    refused(capsys, *job, "--output", "m/digits_data/train_lmdb/data.mdb")
    assert refused(capsys, *job).message == f"ristretto: {weights}: {LOST}"  # its own snapshot would replace it
    assert content(tmp_path) == before


def test_hdf5(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["data"], file["label"] = np.zeros((4, 1, 16, 16), np.float32), np.zeros(4, np.float32)
    Path("list.txt").write_text("a.h5\n")
    text = (MODELS / "digits_lenet" / "train_val.prototxt").read_text()
    layer = (
        'layer { name: "d" type: "HDF5Data" top: "data" top: "label" '
        'hdf5_data_param { source: "list.txt" batch_size: 2 } }'
    )
    Path("net.prototxt").write_text(layer + text[text.index('layer {\n  name: "conv1"') :])
    net = ("--model", "net.prototxt", "--weights", MODELS / "digits_lenet" / "digits_lenet.caffemodel")
    before = content(tmp_path)
    for name in ("list.txt", "a.h5"):
        refused(capsys, "test", *net, "--iterations", 1, "--report", name)
        refused(capsys, "run", *net, "--outputs", name)
    assert content(tmp_path) == before


def test_an_infogain_matrix(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = np.eye(2, dtype=np.float32)
    Path("h.binaryproto").write_bytes(b"\x08\x01\x10\x01\x18\x02\x20\x02\x2a\x10" + matrix.tobytes())
    Path("n.prototxt").write_text(
        'layer { name: "d" type: "Input" top: "p" top: "l" input_param { shape { dim: 2 dim: 2 } shape { dim: 2 } } }\n'
        'layer { name: "loss" type: "InfogainLoss" bottom: "p" bottom: "l" top: "loss" '
        'infogain_loss_param { source: "h.binaryproto" } }'
    )
    np.savez("x.npz", p=np.ones((2, 2)), l=np.zeros(2))
    before = content(tmp_path)
    refused(capsys, "run", "--model", "n.prototxt", "--inputs", "x.npz", "--outputs", "h.binaryproto")
    refused(capsys, "run", "--model", "n.prototxt", "--inputs", "x.npz", "--outputs", "x.npz")
    assert content(tmp_path) == before


def test_a_folder_that_is_replaced(
    capsys: Capture, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other people's data may lie in an older export by now."""
    monkeypatch.chdir(models)
    net, out = tmp_path / "q.prototxt", tmp_path / "out"
    assert ristretto(capsys, "quantize", *NET, *DATA, *JOB, "--model_quantized", net).status == 0
    job = ("export", "--model", net, *NET[2:], "--target", "hardware", "--images", 1, "--output", out, "--force")
    assert ristretto(capsys, *job, *DATA).status == 0
    shutil.copytree(models / "m" / "digits_data", out / "digits_data")
    before = content(out)
    refused(capsys, *job, "--data-root", out, said="this folder holds what is read; write elsewhere")
    assert content(out) == before


def test_from_python(stays: Path) -> None:
    with pytest.raises(UsageError, match="this file is an input too"):
        convert(ConvertOptions(Path("images.prototxt"), (Path(NET[3]),), Path("images/0.png")))


def test_a_second_job_may_replace_what_the_first_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ristretto.pipeline.files import upgrade

    net, new = tmp_path / "a", tmp_path / "b"
    net.write_text('layer { name: "r" type: "ReLU" bottom: "x" top: "y" }\n')
    upgrade(net, new)
    upgrade(new, net)


def test_scores_over_an_input(capsys: Capture, stays: Path) -> None:
    """The weights are called as the file of scores would be."""
    weights = stays / "net.scores"
    weights.write_bytes((stays / NET[3]).read_bytes())
    words = ("quantize", *NET[:3], weights, *DATA, *JOB, "--model_quantized", "net")
    assert refused(capsys, *words, said=KEPT).message.startswith("ristretto: net.scores: ")
    assert weights.read_bytes() == (stays / NET[3]).read_bytes()
    weights.unlink()


def test_scores_over_a_result(capsys: Capture, stays: Path) -> None:
    said = "the job keeps this file while it runs, and a result would go into it; give the result another name"
    refused(capsys, *QUANTIZE, "q.prototxt.scores", said=said)
    refused(capsys, *QUANTIZE, "./q.prototxt.scores", said=said)


def test_scores_over_a_file_of_the_user(capsys: Capture, stays: Path) -> None:
    mine = stays / "q.prototxt.scores"
    mine.write_text("my own\n")
    for more in ((), ("--resume",)):
        outcome = refused(capsys, *QUANTIZE, "r.json", *more, said="move it away, or give the result another name")
        assert outcome.message.startswith(
            "ristretto: q.prototxt.scores: the job keeps its finished scores in this file"
        )
    assert mine.read_text() == "my own\n"
    mine.unlink()


def test_devices_have_no_scores(capsys: Capture, stays: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring.FinishedScores, "_keep", lambda self, file: pytest.fail(f"kept in {file}"))
    for device in ("/dev/null", "/dev/stdout"):
        assert ristretto(capsys, *QUANTIZE[:-2], device).status == 0
        assert not Path(f"{device}.scores").exists()
    refused(capsys, *QUANTIZE[:-2], "/dev/null", "--resume", said="finished scores are kept beside it")

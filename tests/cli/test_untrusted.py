"""``--untrusted``: what the files of others name must lie in their folder, links resolved, or in --data-root."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ristretto as library
from ristretto.caffe.confined import Confined
from ristretto.errors import RistrettoError
from tests.cli.runner import MODELS, Outcome, ristretto
from tests.finetune.needed import needs_torch

NET, WEIGHTS = "digits_lenet/train_val.prototxt", "digits_lenet/digits_lenet.caffemodel"
FIXED = ("--trimming_mode", "dynamic_fixed_point", "--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)
FEW = ("--iterations", 1, "--calibration_batches", 1)

Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs the program in a folder with a copy of the digits net, whose data lie beside its own folder."""
    for name in ("digits_lenet", "digits_data"):
        shutil.copytree(MODELS / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return lambda *words: ristretto(capsys, *words)


def net(source: str, **fields: str) -> str:
    """A net that reads images from a place."""
    transform = " ".join(f"{name}: {value}" for name, value in fields.items())
    return f"""layer {{ name: "data" type: "ImageData" top: "data" top: "label" transform_param {{ {transform} }}
  image_data_param {{ source: "{source}" batch_size: 1 }} }}
layer {{ name: "loss" type: "Reduction" bottom: "data" top: "loss" }}"""


COMMANDS = {
    "quantize": ("--weights", WEIGHTS, *FIXED, *FEW, "--model_quantized", "q.prototxt"),
    "test": ("--weights", WEIGHTS, "--iterations", 1),
    "run": ("--weights", WEIGHTS, "--outputs", "out.npz"),
    "compare": ("--weights", WEIGHTS, "--against", NET),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_data_elsewhere(call: Call, command: str) -> None:
    words = (command, "--model", NET, *COMMANDS[command], "--untrusted")
    outcome = call(*words)
    assert outcome.status == 2
    # quantize opens the test data first, too
    assert "the source 'digits_data/test_lmdb' lies elsewhere; with --untrusted it must lie in" in outcome.message
    assert call(*words, "--data-root", ".").status == 0


def test_commands_that_only_look(call: Call) -> None:
    doctor = call("doctor", NET, WEIGHTS, "--untrusted", "--no-score")
    assert (doctor.status, "lies elsewhere" in doctor.out) == (2, True)
    shown = call("inspect", "--model", NET, "--untrusted")
    assert (shown.status, "lies elsewhere" in shown.out) == (0, True)
    assert "lies elsewhere" not in call("inspect", "--model", NET).out


def test_the_score_is_the_same(call: Call) -> None:
    words = ("test", "--model", NET, "--weights", WEIGHTS, "--iterations", 2)
    assert call(*words, "--untrusted", "--data-root", Path().absolute()).out == call(*words).out
    shutil.move("digits_data", "digits_lenet/digits_data")
    inside = Path(NET).read_text().replace('"digits_data', '"digits_lenet/digits_data')
    Path(NET).write_text(inside)
    assert call(*words, "--untrusted").status == 0


def test_links(call: Call) -> None:
    """A link into another folder is that folder; so is a database whose file is a link."""
    Path("digits_lenet/link").symlink_to(Path("digits_data").absolute())
    Path("digits_lenet/half").mkdir()
    Path("digits_lenet/half/data.mdb").symlink_to(Path("digits_data/test_lmdb/data.mdb").absolute())
    for place in ("link/test_lmdb", "half", "loop"):
        Path("digits_lenet/net.prototxt").write_text(
            Path(NET).read_text().replace('"digits_data/test_lmdb"', f'"digits_lenet/{place}"')
        )
        Path("digits_lenet/loop").unlink(missing_ok=True)
        Path("digits_lenet/loop").symlink_to("loop")
        words = ("test", "--model", "digits_lenet/net.prototxt", "--weights", WEIGHTS, "--untrusted")
        outcome = call(*words)
        assert (outcome.status, f"'digits_lenet/{place}' lies elsewhere" in outcome.message) == (2, True)


@pytest.mark.parametrize(
    ("text", "listing", "named"),
    [
        (net("/etc/passwd"), "", "the image list '/etc/passwd'"),
        (net("project/../../list.txt"), "", "the image list 'project/../../list.txt'"),
        (net("project/list.txt", mean_file='"/etc/hostname"'), "a.png 0", "the mean file '/etc/hostname'"),
        (net("project/list.txt"), "/dev/zero 0", "the image '/dev/zero'"),
        (net("project/list.txt"), "../../secret.png 0", "the image '../../secret.png'"),
    ],
)
def test_paths_in_a_prototxt_and_its_lists(call: Call, text: str, listing: str, named: str) -> None:
    Path("project").mkdir()
    Path("project/net.prototxt").write_text(text)
    Path("project/list.txt").write_text(listing)
    outcome = call("test", "--model", "project/net.prototxt", "--untrusted")
    assert outcome.status == 2
    assert f"{named} lies elsewhere" in outcome.message


def test_an_infogain_matrix(call: Call) -> None:
    Path("n.prototxt").write_text(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: [2] } } }
layer { name: "l" type: "InfogainLoss" bottom: "x" bottom: "y" top: "l" infogain_loss_param { source: "/etc/x" } }"""
    )
    np.savez("in.npz", x=np.zeros((2, 3), np.float32), y=np.zeros(2, np.float32))
    outcome = call("run", "--model", "n.prototxt", "--inputs", "in.npz", "--outputs", "out.npz", "--untrusted")
    assert (outcome.status, "the infogain matrix '/etc/x' lies elsewhere" in outcome.message) == (2, True)


def outside_of_hdf5(how: str, place: Path) -> Callable[[Any, Any], object]:
    """Puts something of another file into a group, as data of its own."""
    h5py = pytest.importorskip("h5py")

    def link(group: Any, name: str) -> None:
        group[name] = h5py.ExternalLink("outside.h5" if how == "link" else str(place / "outside.h5"), "/rows")

    def storage(group: Any, name: str) -> None:
        group.create_dataset(name, shape=(3, 4), dtype="f4", external=[("rows.bin", 0, 48)])

    def view(group: Any, name: str) -> None:
        layout = h5py.VirtualLayout((3, 4), np.float32)
        layout[:] = h5py.VirtualSource("outside.h5", "rows", (3, 4))
        group.create_virtual_dataset(name, layout)

    def soft(group: Any, name: str) -> None:
        group["aside"] = h5py.ExternalLink("outside.h5", "/")
        group[name] = h5py.SoftLink(f"{group.name}/aside/rows")

    return {"link": link, "absolute link": link, "storage": storage, "view": view, "soft link": soft}[how]


@pytest.mark.parametrize("how", ["link", "absolute link", "storage", "view", "soft link"])
def test_hdf5_files_that_lead_to_others(call: Call, tmp_path: Path, how: str) -> None:
    """libhdf5 looks for relative names in the current folder too, and in that of the first file."""
    h5py = pytest.importorskip("h5py")
    put = outside_of_hdf5(how, tmp_path)
    Path("project").mkdir()
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    rows.tofile("rows.bin")
    with h5py.File("outside.h5", "w") as file:
        file["rows"] = rows
    with h5py.File("project/w.caffemodel.h5", "w") as file:
        put(file.create_group("data/ip"), "0")
    with h5py.File("project/rows.h5", "w") as file:
        put(file, "x")
    Path("project/list.txt").write_text("project/rows.h5\n")
    Path("project/net.prototxt").write_text(
        """layer { name: "x" type: "HDF5Data" top: "x" hdf5_data_param { source: "project/list.txt" batch_size: 1 } }
layer { name: "s" type: "Reduction" bottom: "x" top: "s" }"""
    )
    words = ("test", "--model", "project/net.prototxt", "--iterations", 1)
    assert call(*words).status == 0
    outcome = call(*words, "--untrusted")
    assert (outcome.status, "another file, '" in outcome.message) == (2, True), outcome.err
    Path("project/ip.prototxt").write_text(
        """input: "x" input_shape { dim: 1 dim: 4 }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 3 bias_term: false } }"""
    )
    np.savez("in.npz", x=np.ones((1, 4), np.float32))
    words = ("--model", "project/ip.prototxt", "--weights", "project/w.caffemodel.h5", "--inputs", "in.npz")
    assert call("run", *words, "--outputs", "o.npz").status == 0
    assert np.array_equal(np.load("o.npz")["y"], [[6, 22, 38]])
    outcome = call("run", *words, "--outputs", "o2.npz", "--untrusted")
    assert (outcome.status, "another file, '" in outcome.message) == (2, True), outcome.err
    assert not Path("o2.npz").exists()


@needs_torch
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ('net: "digits_lenet/train_val.prototxt"', "the net 'digits_lenet/train_val.prototxt'"),
        ('net: "s/n.prototxt" snapshot_prefix: "../up/a"', "the folder of snapshots '../up'"),
        ('net: "s/n.prototxt" weights: "/etc/passwd"', "the weights file '/etc/passwd'"),
    ],
)
def test_a_solver(call: Call, fields: str, named: str) -> None:
    Path("s").mkdir()
    Path("s/n.prototxt").write_text(Path(NET).read_text())
    Path("s/solver.prototxt").write_text(f'{fields} base_lr: 0.1 lr_policy: "fixed" max_iter: 1')
    given = () if "weights" in fields else ("--weights", WEIGHTS)
    outcome = call("finetune", "--solver", "s/solver.prototxt", *given, "--untrusted")
    assert outcome.status == 2
    assert f"{named} lies elsewhere" in outcome.message


def report(call: Call, **changes: Any) -> dict[str, Any]:
    """A report of ``test`` in the current folder, changed."""
    words = ("test", "--model", NET, "--weights", WEIGHTS, "--iterations", 1, "--report", "r.json")
    assert call(*words).status == 0
    found: dict[str, Any] = json.loads(Path("r.json").read_text())
    found["provenance"]["flags"].update(changes)
    Path("r.json").write_text(json.dumps(found))
    return found


def test_verify(call: Call) -> None:
    report(call)
    assert call("verify", "r.json", "--untrusted", "--data-root", ".").status == 0
    Path("deep").mkdir()
    Path("deep/r.json").write_text(Path("r.json").read_text())
    outcome = call("verify", "deep/r.json", "--untrusted")
    assert (outcome.status, "lies elsewhere" in outcome.message) == (2, True)
    report(call, plugins=["evil.py"])
    Path("evil.py").write_text("open('ran', 'w')")
    outcome = call("verify", "r.json", "--untrusted")
    assert (outcome.status, "refuses what a file says of plugins: ['evil.py']" in outcome.message) == (2, True)
    assert not Path("ran").exists()


@pytest.mark.parametrize("flag", ["report", "model_quantized", "scheduler", "workers", "cache_disk_mb"])
def test_no_report_says_where_to_write(call: Call, flag: str) -> None:
    """Trusted or not: a report that names places to write to or machines to ask is none of ours."""
    report(call, **{flag: "precious.txt"})
    Path("precious.txt").write_text("precious")
    outcome = call("verify", "r.json")
    assert (outcome.status, f"no report of ours says '{flag}'" in outcome.message) == (2, True)
    assert Path("precious.txt").read_text() == "precious"


def test_verify_reads_no_device(call: Call) -> None:
    found = report(call)
    found["provenance"]["files"].append({"role": "source", "path": "/dev/zero", "bytes": 0, "sha256": "0"})
    Path("r.json").write_text(json.dumps(found))
    outcome = call("verify", "r.json")
    assert (outcome.status, "/dev/zero" in outcome.out) == (3, True)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("model: ../up.prototxt", "'../up.prototxt' lies elsewhere"),
        ("plugins: [evil.py]", "--untrusted refuses what a file says of plugins: ('evil.py',)"),
        ("scheduler: 'tcp://evil:1'", "--untrusted refuses what a file says of scheduler: tcp://evil:1"),
        ("report: /etc/x.json", "'/etc/x.json' lies elsewhere"),
        ("also: [/etc/passwd, x]", "'/etc/passwd' lies elsewhere"),
        ("also: ['digits_lenet/net.prototxt=/etc/x']", "'/etc/x' lies elsewhere"),
        ("also: digits_lenet/net.prototxt=../x", "'../x' lies elsewhere"),
        ("also: [/etc/passwd=x]", "'/etc/passwd' lies elsewhere"),
        ("also: [link=x]", "'link' lies elsewhere"),
        ("matrix: {also: [link=x, a=b]}", "'link' lies elsewhere"),
    ],
)
def test_a_batch(call: Call, job: str, said: str) -> None:
    defaults = {"model": NET, "weights": WEIGHTS, "trimming_mode": "dynamic_fixed_point", "iterations": "1"}
    lines = [f"{name}: {value}" for name, value in defaults.items() if not job.startswith(name)]
    Path("jobs.yaml").write_text("jobs: [{name: a, " + ", ".join([*lines, job]) + "}]")
    Path("link").symlink_to("/etc/passwd")
    outcome = call("batch", "jobs.yaml", "--dry_run", "--untrusted")
    assert (outcome.status, said in outcome.message) == (2, True), outcome.err


def test_every_job_of_a_batch_is_untrusted(call: Call) -> None:
    lines = f"model: {NET}, weights: {WEIGHTS}, trimming_mode: dynamic_fixed_point"
    Path("jobs.yaml").write_text(f"jobs: [{{name: a, {lines}}}, {{name: b, {lines}, untrusted: true}}]")
    assert call("batch", "jobs.yaml", "--dry_run", "--untrusted").out.count("--untrusted") == 2
    assert call("batch", "jobs.yaml", "--dry_run").out.count("--untrusted") == 1
    Path("jobs.yaml").write_text(f"root: /\njobs: [{{name: a, {lines}}}]")
    assert "jobs.yaml:1: '/' lies elsewhere" in call("batch", "jobs.yaml", "--dry_run", "--untrusted").message


def test_a_batch_in_the_folder_below(call: Call) -> None:
    """Paths are relative to where we are; that this is not the folder of the file does not matter, nor a link in it."""
    Path("digits_lenet/elsewhere").symlink_to("/etc")
    lines = f"model: {NET}, weights: {WEIGHTS}, trimming_mode: dynamic_fixed_point, data_root: digits_lenet"
    Path("digits_lenet/jobs.yaml").write_text(f"jobs: [{{name: a, {lines}}}]")
    assert call("batch", "digits_lenet/jobs.yaml", "--dry_run", "--untrusted").status == 0


def test_no_module_in_the_folder_of_jobs_is_imported(call: Call) -> None:
    for name in ("click", "numpy", "ristretto", "signal"):
        Path(f"digits_lenet/{name}.py").write_text("open('run.txt', 'w')\n")
    shutil.move("digits_data", "digits_lenet/digits_data")
    lines = "command: test, model: train_val.prototxt, weights: digits_lenet.caffemodel, iterations: 1"
    Path("digits_lenet/jobs.yaml").write_text(f"root: digits_lenet\njobs: [{{name: a, {lines}}}]")
    assert call("batch", "digits_lenet/jobs.yaml", "--untrusted").status == 0
    assert not list(Path().rglob("run.txt"))


def test_from_python(call: Call) -> None:
    with pytest.raises(RistrettoError, match="lies elsewhere"):
        library.evaluate(NET, WEIGHTS, 1, untrusted=True)
    assert library.evaluate(NET, WEIGHTS, 1, untrusted=True, data_root=".").scored.score > 0.9


def test_what_is_inside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    confined = Confined.beside(tmp_path / "a" / "file")
    assert confined.holds(tmp_path / "a" / "b" / "c")
    assert confined.holds(tmp_path / "a" / ".." / "a" / "b")
    assert not confined.holds(tmp_path / "ab")
    assert not confined.holds(tmp_path / "a" / ".." / "b")
    assert not confined.holds(Path("a\0b"))

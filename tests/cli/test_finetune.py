"""``ristretto finetune``, from solver to weights that ``ristretto test`` scores, on the digits net."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import ristretto as library
from ristretto.caffe.solver_state import read_solver_state
from ristretto.caffe.weights import read_weights
from ristretto.cli.finetune import _signals
from ristretto.pipeline.finetune import FinetuneOptions
from ristretto.pipeline.finetune import finetune as finetune_net
from ristretto.report.training import SnapshotWritten
from tests.cli.runner import MODELS, Outcome, ristretto
from tests.finetune.needed import needs_torch

pytestmark = needs_torch

Capture = pytest.CaptureFixture[str]
LENET = MODELS / "digits_lenet"
WEIGHTS = LENET / "digits_lenet.caffemodel"
WIDTHS = {"conv1": (3, 4), "conv2": (3, 3), "ip1": (3, 3), "ip2": (3, 3)}
SOLVER = """net: "q.prototxt"
test_iter: 2
test_interval: 4
base_lr: 0.01
momentum: 0.9
weight_decay: 0.0005
lr_policy: "step"
gamma: 0.5
stepsize: 3
display: 2
max_iter: 8
snapshot: 4
snapshot_prefix: "s"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """A folder with a quantized digits net (3-bit weights) and a solver for it."""
    monkeypatch.chdir(tmp_path)
    layers = {
        name: {"in": {"bw": 8, "fl": 4}, "out": {"bw": 8, "fl": 4}, "params": {"bw": bw, "fl": fl}}
        for name, (bw, fl) in WIDTHS.items()
    }
    (tmp_path / "formats.json").write_text(json.dumps({"layers": layers}))
    model = LENET / "train_val.prototxt"
    done = ristretto(capsys, "apply", "--model", model, "--formats", "formats.json", "--output", "q.prototxt")
    assert done.status == 0, done.err
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    return tmp_path


def finetune(capsys: Capture, *more: object, solver: str = "solver.prototxt", start: bool = True) -> Outcome:
    weights = ("--weights", WEIGHTS) if start else ()
    flags = ("--data-root", MODELS, "--threads", 1)
    return ristretto(capsys, "finetune", "--solver", solver, *weights, *flags, *more)


def texts(err: str) -> list[str]:
    return [re.sub(r"^[IWEF]\d{4} [^\]]*\] ", "", line) for line in err.splitlines()]


def test_from_python(folder: Path) -> None:
    trained = library.finetune_net("solver.prototxt", WEIGHTS, data_root=MODELS, threads=1, output="trained.caffemodel")
    assert trained.iterations == 8
    assert (folder / "trained.caffemodel").read_bytes() == (folder / "s_iter_8.caffemodel").read_bytes()
    library.write_report(trained, "trained.json")
    found = library.verify("trained.json")
    assert found.holds, found
    with pytest.raises(library.RistrettoError, match="has no option 'solvers'"):
        library.finetune_net("solver.prototxt", solvers=1)  # type: ignore[call-arg]


def test_what_is_trained_is_what_test_scores(folder: Path, capsys: Capture) -> None:
    done = finetune(capsys, "--report", "r.json", "--plot", "loss.svg", "--output", "out.caffemodel")
    assert done.status == 0, done.err
    scored = ristretto(
        capsys, "test", "--model", "q.prototxt", "--weights", "s_iter_8.caffemodel", "--iterations", 2,
        "--data-root", MODELS, "--quiet",
    )  # fmt: skip
    assert scored.out.splitlines() == done.out.splitlines()[:2]
    assert done.out.splitlines()[2:] == ["weights: s_iter_8.caffemodel"]
    assert (folder / "out.caffemodel").read_bytes() == (folder / "s_iter_8.caffemodel").read_bytes()
    report = json.loads((folder / "r.json").read_text())
    assert (report["iterations"], report["first"], len(report["losses"])) == (8, 0, 8)
    assert report["rates"] == pytest.approx([0.01] * 3 + [0.005] * 3 + [0.0025] * 2)
    assert [test["iteration"] for test in report["tests"]] == [0, 4, 8]
    assert report["options"]["weight_rounding"] == "stochastic"
    root = ElementTree.parse(folder / "loss.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 3
    lengths = {len(np.unique(blob)) for layer in read_weights("out.caffemodel").layers for blob in layer.blobs[:1]}
    assert min(lengths) > 8  # 3 bits have 8 values: what is written are the float weights


def test_the_log_is_caffes(folder: Path, capsys: Capture) -> None:
    lines = texts(finetune(capsys).err)
    assert lines[:2] == ["Solving DigitsLeNet", "Learning Rate Policy: step"]
    assert "Iteration 4, Testing net (#0)" in lines
    assert any(re.fullmatch(r"    Test net output #0: accuracy = [\d.e-]+", line) for line in lines)
    step = r"Iteration 2 \([\d.e+-]+ iter/s, [\d.e+-]+s/2 iters\), loss = [\d.e+-]+"
    assert any(re.fullmatch(step, line) for line in lines)
    assert any(re.fullmatch(r"    Train net output #0: loss = (\S+) \(\* 1 = \1 loss\)", line) for line in lines)
    assert "Iteration 4, lr = 0.005" in lines
    assert "Snapshotting to binary proto file s_iter_4.caffemodel" in lines
    assert "Snapshotting solver state to binary proto file s_iter_4.solverstate" in lines
    assert lines[-1] == "Optimization Done."


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize("more", [(), ("--quantize_activations", "--learn_formats", "--formats_rate", "0.3")])
def test_going_on_gives_the_same_as_going_through(
    folder: Path, capsys: Capture, hdf5: bool, more: tuple[str, ...]
) -> None:
    """To the last bit: weights, state, log of losses, learned formats."""
    if hdf5:
        pytest.importorskip("h5py")
        (folder / "solver.prototxt").write_text(SOLVER + "snapshot_format: HDF5\n")
    assert finetune(capsys, *more).status == 0
    end = ".h5" if hdf5 else ""
    names = ["s_iter_8.training.json", *(["s_iter_8.prototxt"] if more else [])]
    wanted = {name: (folder / name).read_bytes() for name in names}
    weights, state = read_weights(f"s_iter_8.caffemodel{end}"), read_solver_state(Path(f"s_iter_8.solverstate{end}"))
    for path in folder.glob("s_iter_8.*"):
        path.unlink()
    done = finetune(capsys, "--snapshot", f"s_iter_4.solverstate{end}", *more, start=False)
    assert done.status == 0, done.err
    assert "Going on with iteration 4." in texts(done.err)
    assert {name: (folder / name).read_bytes() for name in names} == wanted
    again, after = read_weights(f"s_iter_8.caffemodel{end}"), read_solver_state(Path(f"s_iter_8.solverstate{end}"))
    for layer in weights.layers:
        for blob, other in zip(layer.blobs, again.get(layer.name) or (), strict=True):
            np.testing.assert_array_equal(blob, other)
    for blob, other in zip(state.history, after.history, strict=True):
        np.testing.assert_array_equal(blob, other)
    assert (state.iteration, state.current_step, state.learned_net) == (
        after.iteration, after.current_step, after.learned_net,
    )  # fmt: skip


def test_learned_formats_are_those_that_are_scored(folder: Path, capsys: Capture) -> None:
    done = finetune(capsys, "--learn_formats", "--formats_rate", "0.3")
    assert done.out.splitlines()[-1] == "formats: s_iter_8.prototxt"
    model = folder / "s_iter_8.prototxt"
    assert model.read_text() != (folder / "q.prototxt").read_text()
    scored = ristretto(
        capsys, "test", "--model", model, "--weights", "s_iter_8.caffemodel", "--iterations", 2, "--data-root", MODELS
    )
    assert scored.out.splitlines() == done.out.splitlines()[:2]


def test_resume_takes_the_last_snapshot_or_starts(folder: Path, capsys: Capture) -> None:
    first = finetune(capsys, "--resume")
    assert "Restoring" not in first.err
    (folder / "s_iter_8.solverstate").unlink()
    assert "Restoring previous solver status from s_iter_4.solverstate" in finetune(capsys, "--resume").err
    done = finetune(capsys, "--resume", start=False)
    assert done.status == 0
    assert done.out == first.out
    assert "Snapshotting" not in done.err


def test_a_snapshot_of_caffes_own_is_enough(folder: Path, capsys: Capture) -> None:
    """It has neither losses nor formats of ours beside it."""
    finetune(capsys)
    (folder / "s_iter_4.training.json").unlink()
    wanted = read_weights("s_iter_8.caffemodel").get("ip2")
    weights = wanted[0].copy() if wanted else None
    done = finetune(capsys, "--snapshot", "s_iter_4.solverstate", "--report", "r.json", start=False)
    found = read_weights("s_iter_8.caffemodel").get("ip2")
    assert found is not None
    np.testing.assert_array_equal(found[0], weights)
    report = json.loads((folder / "r.json").read_text())
    assert (done.status, report["first"], len(report["losses"])) == (0, 4, 4)


def test_a_float_net_is_trained_in_float(folder: Path, capsys: Capture) -> None:
    text = SOLVER.replace("q.prototxt", str(LENET / "train_val.prototxt"))
    (folder / "solver.prototxt").write_text(text)
    done = finetune(capsys, "--quantize_activations")
    assert done.status == 0
    assert "13962 weights are trained; 0 layers have formats." in texts(done.err)
    assert "--quantize_activations changes nothing: the net that the solver names has no formats" in texts(done.err)
    weights = [(folder / "s_iter_8.caffemodel").read_bytes()]
    finetune(capsys, "--weight_rounding", "half_even")
    assert (folder / "s_iter_8.caffemodel").read_bytes() == weights[0]


def test_seeds_make_the_difference(folder: Path, capsys: Capture) -> None:
    def trained(*more: object) -> bytes:
        assert finetune(capsys, *more).status == 0
        return (folder / "s_iter_8.caffemodel").read_bytes()

    plain, seeded = trained(), trained("--seed", 1)
    assert plain != seeded
    assert trained("--seed", 0) == plain
    (folder / "solver.prototxt").write_text(SOLVER + "random_seed: 1\n")
    assert trained() == seeded


def test_control_c_writes_a_snapshot(folder: Path, capsys: Capture) -> None:
    """And going on from it gives what an uninterrupted training gives."""
    (folder / "solver.prototxt").write_text(SOLVER.replace("max_iter: 8", "max_iter: 100000"))
    command = [sys.executable, "-m", "ristretto", "finetune", "--solver", "solver.prototxt"]
    command += ["--weights", str(WEIGHTS), "--data-root", str(MODELS), "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(MODELS.parent)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Iteration 4," in line:
                break
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    match = re.search(r"Optimization stopped early, at iteration (\d+): go on with --snapshot (\S+)", rest)
    assert match is not None
    assert "Traceback" not in rest
    stopped = int(match[1])
    end = stopped + 3
    (folder / "solver.prototxt").write_text(SOLVER.replace("max_iter: 8", f"max_iter: {end}"))
    assert finetune(capsys, "--snapshot", match[2], start=False).status == 0
    went_on = read_weights(f"s_iter_{end}.caffemodel").get("conv1")
    assert went_on is not None
    kept = went_on[0].copy()
    assert finetune(capsys).status == 0
    through = read_weights(f"s_iter_{end}.caffemodel").get("conv1")
    assert through is not None
    np.testing.assert_array_equal(through[0], kept)


def test_signals_ask_and_the_second_control_c_insists() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)
    with _signals() as signals:
        assert signals.now() == ""
        os.kill(os.getpid(), signal.SIGHUP)
        assert [signals.now(), signals.now()] == ["snapshot", ""]
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGHUP)
        assert [signals.now(), signals.now()] == ["stop", "stop"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)) == before


def test_a_snapshot_can_be_asked_for(folder: Path) -> None:
    """During the first test, which asks once a batch, and after the third iteration."""
    asked = iter(["", "snapshot", "", "", "snapshot"])
    options = FinetuneOptions(folder / "solver.prototxt", (WEIGHTS,), data_root=MODELS, threads=1)
    events: list[object] = []
    finetune_net(options, events.append, lambda: next(asked, ""))
    assert [event.iteration for event in events if isinstance(event, SnapshotWritten)] == [1, 3, 4, 8]


BROKEN = {
    "no net": ('net: "q.prototxt"\n', "", "solver.prototxt:1:1: the solver names no net to train"),
    "missing net": ("q.prototxt", "gone.prototxt", "gone.prototxt: cannot read the prototxt: No such file"),
    "test_iter": (
        "test_iter: 2\n",
        "",
        "solver.prototxt:2:16: the solver tests and does not say over how many batches",
    ),
    "prefix": ('"s"', '"no/s"', "no/s_iter_8.solverstate: cannot write: the folder does not exist"),
    "divergence": ("base_lr: 0.01", "base_lr: 1e30", "q.prototxt: the loss is "),
    "the last step": (
        "max_iter: 8",
        'max_iter: 1 type: "Adam" delta: 0',
        "q.prototxt: layer 'conv1': NaN in ",
    ),
    "rate": (
        "gamma: 0.5",
        "gamma: 1e30",
        "solver.prototxt: lr_policy 'step' makes a rate of 1e+58 at iteration 7, which no float32 is; correct base_lr",
    ),
    "policy": ('"step"', '"stop"', "there is no lr_policy 'stop'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_solvers(folder: Path, capsys: Capture, name: str) -> None:
    old, new, message = BROKEN[name]
    assert old in SOLVER
    (folder / "solver.prototxt").write_text(SOLVER.replace(old, new))
    done = finetune(capsys)
    assert (done.status, done.out) == (2, "")
    assert message in done.message


def test_nets_that_cannot_be_trained(folder: Path, capsys: Capture) -> None:
    text = (folder / "q.prototxt").read_text()
    start = text.rindex("layer {", 0, text.index('"SoftmaxWithLoss"'))
    (folder / "q.prototxt").write_text(text[:start])
    message = "q.prototxt: the net has no loss in phase TRAIN: there is nothing to train for; add a loss layer"
    assert message in finetune(capsys).message
    other = text[text.index("layer {") :].replace("phase: TRAIN", "phase: TEST stage: 'no'")
    memory = "memory_data_param { batch_size: 2 channels: 1 height: 16 width: 16 }"
    dummy = "dummy_data_param { shape { dim: 2 dim: 1 dim: 16 dim: 16 } shape { dim: 2 } }"
    for kind, param, message in (
        ("MemoryData", memory, "a MemoryData layer has no data of its own to train or test with"),
        ("DummyData", dummy, "q.prototxt: the net has no data layer in phase TRAIN; name the images"),
    ):
        data = f'layer {{ name: "m" type: "{kind}" top: "data" top: "label" include {{ phase: TRAIN }} {param} }}'
        (folder / "q.prototxt").write_text(f"{data}\n{other}")
        assert message in finetune(capsys).message
    assert "lr_mult: " in text
    (folder / "q.prototxt").write_text(re.sub(r"lr_mult: [\d.]+", "lr_mult: 0", text))
    assert "no weight would be trained: every lr_mult is 0" in finetune(capsys).message


def test_flags_that_do_not_go_together(folder: Path, capsys: Capture) -> None:
    assert "there are no weights to start from" in finetune(capsys, start=False).message
    assert "--snapshot and --weights exclude each other" in finetune(capsys, "--snapshot", "x").message
    assert "a plot is written as SVG; name a file" in finetune(capsys, "--plot", "loss.png").message
    assert "cannot read the snapshot" in finetune(capsys, "--snapshot", "x", start=False).message
    (folder / "solver.prototxt").write_text(SOLVER.replace("q.prototxt", str(LENET / "train_val.prototxt")))
    assert "no fixed-point formats that could be learned" in finetune(capsys, "--learn_formats").message


def test_snapshots_of_other_nets(folder: Path, capsys: Capture) -> None:
    finetune(capsys)
    (folder / "solver.prototxt").write_text(SOLVER + 'type: "Adam"\n')
    done = finetune(capsys, "--snapshot", "s_iter_4.solverstate", start=False)
    assert "the snapshot does not fit: it holds 8 arrays, this net and solver have 16" in done.message
    (folder / "solver.prototxt").write_text(SOLVER)
    (folder / "s_iter_4.caffemodel").unlink()
    done = finetune(capsys, "--snapshot", "s_iter_4.solverstate", start=False)
    assert "the snapshot's weights 's_iter_4.caffemodel' are not there" in done.message


def test_other_flags_than_before_are_told(folder: Path, capsys: Capture) -> None:
    finetune(capsys)
    done = finetune(capsys, "--snapshot", "s_iter_4.solverstate", "--seed", 5, start=False)
    assert "the snapshot was made with seed 0, training goes on with 5" in texts(done.err)


def test_plain_log(folder: Path, capsys: Capture) -> None:
    lines = finetune(capsys, "--log-format", "plain").err.splitlines()
    assert "4: wrote s_iter_4.caffemodel" in lines
    assert any(re.fullmatch(r"2: loss \S+, rate 0.01", line) for line in lines)
    assert any(line.startswith("8: test 0: accuracy ") for line in lines)


def test_a_training_is_verified(folder: Path, capsys: Capture) -> None:
    done = ristretto(capsys, "finetune", "--solver", "solver.prototxt", "--weights", WEIGHTS, "--data-root", MODELS,
                     "--threads", 1, "--report", "out.json")  # fmt: skip
    assert done.status == 0, done.err
    report = json.loads(Path("out.json").read_text())
    assert report["provenance"]["command"] == "finetune"
    assert {file["role"] for file in report["provenance"]["files"]} == {"solver", "net", "weights", "source"}
    assert "torch" in report["provenance"]["versions"]
    before = sorted(folder.iterdir())
    again = ristretto(capsys, "verify", "out.json", "--tolerance", 0, "--quiet")
    assert again.status == 0, again.out
    assert "the same again" in again.out
    assert sorted(folder.iterdir()) == before
    report["losses"][3] *= 1.01
    Path("out.json").write_text(json.dumps(report))
    assert ristretto(capsys, "verify", "out.json", "--quiet").out.startswith("losses.3: ")
    report["interrupted"] = True
    Path("out.json").write_text(json.dumps(report))
    assert "this training was interrupted; let it go on with --resume" in ristretto(capsys, "verify", "out.json").err


def test_snapshots_go_where_the_command_line_says(folder: Path, capsys: Capture) -> None:
    words = ("finetune", "--solver", "solver.prototxt", "--weights", WEIGHTS, "--data-root", MODELS)
    (folder / "elsewhere").mkdir()
    assert ristretto(capsys, *words, "--snapshot_prefix", "elsewhere/t").status == 0
    assert sorted(path.name for path in (folder / "elsewhere").iterdir())[-1] == "t_iter_8.training.json"
    assert not list(folder.glob("s_iter_*"))

"""Every command that writes: what it is given, and what it leaves."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.cli.runner import MODELS, Outcome, ristretto

LENET, RESNET = MODELS / "digits_lenet", MODELS / "digits_resnet"
NET = ("--model", LENET / "train_val.prototxt", "--weights", LENET / "digits_lenet.caffemodel")
DATA = ("--data-root", MODELS)
WIDTHS = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)
JOB = ("--trimming_mode", "dynamic_fixed_point", "--iterations", 1, "--calibration_batches", 1, "--error_margin", 50)

SNAPSHOT = re.compile(r"^s_iter_\d")
LEFT = re.compile(rf"\.scores$|(^|/)log\.txt$|^tmp$|^demo$|{SNAPSHOT.pattern}")
"""What may be left of a job that failed: its finished scores, its log, its snapshots."""


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        words: its command line, run in a folder of its own.
        outputs: the files and folders that it writes there.
    """

    words: tuple[object, ...]
    outputs: tuple[str, ...]


TARGETS: dict[str, tuple[object, ...]] = {
    "hardware": ("--formats", "npy,hex", "--images", 1),
    "onnx-int8": ("--images", 1),
    "qonnx": (),
    "caffe": (),
    "caffe-integer": (),
}

COMMANDS: dict[str, Command] = {
    "quantize": Command(
        ("quantize", *NET, *DATA, *JOB, *WIDTHS, "--weight_rounding", "nearest", "--no-bias_correction",
         "--model_quantized", "q.prototxt", "--weights_quantized", "q.caffemodel", "--save_ranges", "ranges.json",
         "--also", f"{LENET / 'deploy.prototxt'}=also.prototxt", "--report", "report.json", "--html", "page.html"),
        ("q.prototxt", "q.caffemodel", "ranges.json", "also.prototxt", "report.json", "page.html"),
    ),
    "fold": Command(
        ("fold", "--model", RESNET / "train_val.prototxt", "--weights", RESNET / "digits_resnet.caffemodel",
         "--output", "folded.prototxt", "--output-weights", "folded.caffemodel"),
        ("folded.prototxt", "folded.caffemodel"),
    ),
    "upgrade": Command(
        ("upgrade", *NET, "--output", "new.prototxt", "--output-weights", "new.caffemodel"),
        ("new.prototxt", "new.caffemodel"),
    ),
    "apply": Command(
        ("apply", "--model", LENET / "deploy.prototxt", "--formats", "given/report.json", "--output", "a.prototxt"),
        ("a.prototxt",),
    ),
    "convert-dialect": Command(
        ("convert-dialect", "--model", "given/q.prototxt", "--to", "chaidnn", "--nearest", "--output", "d.prototxt"),
        ("d.prototxt",),
    ),
    "convert": Command(
        ("convert", "--model", LENET / "deploy.prototxt", *NET[2:], "--output", "net.onnx"), ("net.onnx",)
    ),
    "init": Command(
        ("init", "--model", LENET / "deploy.prototxt", "--images", "given/photos", "--train", 0.5,
         "--output", "train_val.prototxt"),
        ("train_val.prototxt", "train_val_images.txt", "train_val_images_train.txt", "train_val_images_labels.txt"),
    ),
    "report": Command(("report", "--report", "given/report.json", "--html", "page.html"), ("page.html",)),
    "verify": Command(("verify", "given/report.json", "--json", "found.json"), ("found.json",)),
    "test": Command(("test", *NET, *DATA, "--iterations", 1, "--report", "report.json"), ("report.json",)),
    "doctor": Command(("doctor", *NET, *DATA, "--no-score", "--json", "found.json"), ("found.json",)),
    "run": Command(("run", *NET, *DATA, "--outputs", "blobs.npz"), ("blobs.npz",)),
    "demo": Command(
        ("demo", "--output", "demo"),
        tuple(f"demo/{name}" for name in ("quantized.prototxt", "deploy_quantized.prototxt", "report.json",
                                          "report.html")),
    ),
    "finetune": Command(
        ("finetune", "--solver", "given/solver.prototxt", *NET[2:], *DATA, "--threads", 1, "--output", "t.caffemodel",
         "--report", "t.json", "--plot", "t.svg"),
        ("t.caffemodel", "t.json", "t.svg"),
    ),
    **{
        f"export {target}": Command(
            ("export", "--model", "given/q.prototxt", *NET[2:], *DATA, "--target", target, "--output", "out",
             "--force", *more),
            ("out",),
        )
        for target, more in TARGETS.items()
    },
}  # fmt: skip

SOLVER = """net: "given/q.prototxt"
base_lr: 0.001
lr_policy: "fixed"
display: 2
max_iter: 6
snapshot: 4
snapshot_prefix: "s"
"""


def made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the commands are given."""
    folder.mkdir()
    flags = (*JOB, *WIDTHS, "--model_quantized", folder / "q.prototxt", "--report", folder / "report.json")
    assert ristretto(capsys, "quantize", *NET, *DATA, *flags).status == 0
    (folder / "solver.prototxt").write_text(SOLVER)
    random = np.random.default_rng(0)
    for number in range(8):
        path = folder / "photos" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), random.integers(0, 256, (16, 16), np.uint8))


Content = Mapping[str, Any]


def content(folder: Path) -> dict[str, Any]:
    """All files of a folder but those given, without what a run says of times; hidden ones too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not name.startswith("given"):
            found[name] = None if path.is_dir() else _timeless(path)
    return found


def _timeless(path: Path) -> object:
    data = path.read_bytes()
    if path.suffix == ".json":
        return _without_times(json.loads(data))
    return data if path.suffix not in (".html", ".svg") else data.rstrip().endswith(b">")


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in ("seconds", "speed")}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def checked(before: Content, after: Content, whole: Content, outcome: Outcome, outputs: tuple[str, ...]) -> None:
    """Outputs are all as before or all as they are to be, nothing else is left, and what is said is one line.

    Args:
        before: the content before the run.
        after: the content after it.
        whole: the content after a run that nothing disturbed.
        outcome: what the run said.
        outputs: the outputs.
    """

    def of_outputs(found: Content) -> dict[str, Any]:
        return {name: value for name, value in found.items() if is_output(name, outputs) and not LEFT.search(name)}

    assert "our fault" not in outcome.err
    strange = [name for name in after if name not in before and name not in whole and not LEFT.search(name)]
    assert strange == []
    assert all(value in (before.get(name), whole[name]) for name, value in after.items() if SNAPSHOT.search(name))
    if outcome.status == 0:
        assert of_outputs(after) == of_outputs(whole)
        return
    assert outcome.status == 2, outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("ristretto: ")]
    assert len([line for line in lines if not line.startswith("ristretto: warning")]) == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert of_outputs(after) == of_outputs(before)


def is_output(name: str, outputs: tuple[str, ...]) -> bool:
    """Whether a file is an output, or in a folder that is one."""
    return any(name == output or name.startswith(f"{output}/") for output in outputs)


def old_outputs(folder: Path, outputs: tuple[str, ...], whole: Content) -> None:
    """Outputs of an earlier run, with another content."""
    for name, value in whole.items():
        if is_output(name, outputs):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            if value is None:
                path.mkdir()
            else:
                path.write_text('{"old": 1}' if path.suffix == ".json" else "old")


def emptied(folder: Path) -> None:
    """Remove all but what is given."""
    for path in folder.iterdir():
        if path.name != "given":
            shutil.rmtree(path) if path.is_dir() else path.unlink()

"""``ristretto fold`` through the program itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.weights import read_weights
from tests.cli.runner import MODELS, Outcome, ristretto

RESNET = MODELS / "digits_resnet"
LENET = MODELS / "digits_lenet"
Capture = pytest.CaptureFixture[str]


def files(folder: Path, name: str = "train_val.prototxt") -> tuple[Path, Path]:
    return folder / name, next(folder.glob("*.caffemodel"))


def fold(capsys: Capture, model: Path, weights: Path, target: Path, *more: object) -> Outcome:
    given = ("--model", model, "--weights", weights)
    return ristretto(
        capsys, "fold", *given, "--output", target / "f.prototxt", "--output-weights", target / "f.caffemodel", *more
    )


@pytest.mark.parametrize("name", ["train_val.prototxt", "deploy.prototxt"])
def test_says_what_was_folded(capsys: Capture, tmp_path: Path, name: str) -> None:
    model, weights = files(RESNET, name)
    outcome = fold(capsys, model, weights, tmp_path)
    assert (outcome.status, outcome.err) == (0, "")
    kinds = [layer.type for layer in build_net(read_prototxt(model)).layers]
    lines = outcome.out.splitlines()
    assert len(lines) == kinds.count("BatchNorm") > 0
    assert all(line.startswith("folded ") and " into " in line for line in lines)
    left = build_net(read_prototxt(tmp_path / "f.prototxt")).layers
    assert not {"BatchNorm", "Scale"} & {layer.type for layer in left}
    held = read_weights([tmp_path / "f.caffemodel"])
    assert {layer.name for layer in held.layers if layer.blobs} <= {layer.name for layer in left}


def test_scores_stay(capsys: Capture, tmp_path: Path) -> None:
    model, weights = files(RESNET)
    flags = ("--data-root", MODELS, "--iterations", "all")
    before = ristretto(capsys, "test", "--model", model, "--weights", weights, *flags)
    assert fold(capsys, model, weights, tmp_path).status == 0
    folded = ("--model", tmp_path / "f.prototxt", "--weights", tmp_path / "f.caffemodel")
    after = ristretto(capsys, "test", *folded, *flags)
    assert (before.status, after.status) == (0, 0)
    assert before.out == after.out != ""


def test_says_what_was_kept_and_why(capsys: Capture, tmp_path: Path) -> None:
    model, weights = files(RESNET)
    text = model.read_text()
    start = text.index('type: "BatchNorm"')
    (tmp_path / "m.prototxt").write_text(text[:start] + "include { phase: TEST } " + text[start:])
    norm = next(layer.name for layer in build_net(read_prototxt(model)).layers if layer.type == "BatchNorm")
    outcome = fold(capsys, tmp_path / "m.prototxt", weights, tmp_path)
    assert outcome.status == 0
    kept = [line for line in outcome.out.splitlines() if line.startswith("kept ")]
    assert kept[0].startswith(f"kept {norm}: not into '")
    assert kept[0].endswith("run under different include or exclude rules")
    assert kept[1].endswith(f": it follows '{norm}', which is kept")
    assert len(kept) == 2


def test_phase_train_has_the_statistics_of_the_batch(capsys: Capture, tmp_path: Path) -> None:
    outcome = fold(capsys, *files(RESNET), tmp_path, "--phase", "TRAIN")
    assert outcome.status == 0
    assert "takes its statistics from the batch" in outcome.out
    assert "folded" not in outcome.out


def test_nothing_to_fold_gives_equal_files(capsys: Capture, tmp_path: Path) -> None:
    model, weights = files(LENET)
    outcome = fold(capsys, model, weights, tmp_path)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"nothing to fold: {tmp_path / 'f.prototxt'} is the net as it was\n"
    assert (tmp_path / "f.prototxt").read_bytes() == model.read_bytes()
    assert (tmp_path / "f.caffemodel").read_bytes() == weights.read_bytes()


def test_nothing_to_fold_joins_several_weights_files(capsys: Capture, tmp_path: Path) -> None:
    model, weights = files(LENET)
    both = f"{weights},{weights}"
    assert fold(capsys, model, both, tmp_path).status == 0  # type: ignore[arg-type]
    joined, given = read_weights([tmp_path / "f.caffemodel"]), read_weights([weights])
    for layer in given.layers:
        for mine, wanted in zip(joined.get(layer.name) or (), layer.blobs, strict=True):
            np.testing.assert_array_equal(mine, wanted)


def test_folding_twice_changes_nothing_more(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    assert fold(capsys, *files(RESNET), tmp_path).status == 0
    assert fold(capsys, tmp_path / "f.prototxt", tmp_path / "f.caffemodel", tmp_path / "again").status == 0
    for name in ("f.prototxt", "f.caffemodel"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_mistakes_are_one_line(capsys: Capture, tmp_path: Path) -> None:
    model, weights = files(RESNET)
    given = ("--model", model, "--weights", weights)

    def mistake(*arguments: object) -> str:
        outcome = ristretto(capsys, "fold", *arguments)
        assert (outcome.status, outcome.out) == (2, "")
        assert not list(tmp_path.iterdir())
        return outcome.message

    target, target_weights = tmp_path / "f.prototxt", tmp_path / "f.caffemodel"
    assert "--output-weights" in mistake(*given, "--output", target)
    both = ("--output", target, "--output-weights", target_weights)
    assert "cannot read the prototxt" in mistake("--model", tmp_path / "no", "--weights", weights, *both)
    assert "cannot read the weights" in mistake("--model", model, "--weights", tmp_path / "no", *both)
    assert "this file is an input too" in mistake(*given, "--output", target, "--output-weights", weights)
    assert "two results would go into this one file" in mistake(*given, "--output", target, "--output-weights", target)
    as_hdf5 = mistake(*given, "--output", target, "--output-weights", tmp_path / "f.caffemodel.h5")
    assert "the weights are written as .caffemodel" in as_hdf5
    assert "web page" not in mistake("--model", weights, "--weights", model, *both)

"""``--fast``: the widths of a whole job, with fewer images scored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.cli.npz import save_npz
from ristretto.pipeline.feed import open_feed
from tests.cli.runner import MODELS, ristretto

Capture = pytest.CaptureFixture[str]

EARLY = re.compile(r"Dropped (\w+) (\d+) bit after (\d+) of (\d+) images: it misses the margin, its score is about")


def job(
    capsys: Capture, folder: Path, *flags: object, net: str = "digits_resnet", mode: str = "dynamic_fixed_point"
) -> tuple[dict[str, Any], str]:
    """Quantize a net shipped here; return the report and the log."""
    files = MODELS / net
    outcome = ristretto(
        capsys, "quantize", "--model", files / "train_val.prototxt", "--weights", files / f"{net}.caffemodel",
        "--model_quantized", folder / "q.prototxt", "--trimming_mode", mode,
        "--data-root", MODELS, "--report", folder / "r.json", *flags,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    return json.loads((folder / "r.json").read_text()), outcome.err


def assert_same_but_early(exact: dict[str, Any], fast: dict[str, Any], log: str) -> dict[str, int]:
    """Same widths, same scores of what holds, and estimates that are below the margin; returns images by group."""
    dropped = {}
    for group, ladder in exact["ladders"].items():
        other = fast["ladders"][group]
        assert other["chosen"] == ladder["chosen"]
        assert [trial["bw"] for trial in other["trials"]] == [trial["bw"] for trial in ladder["trials"]]
        for whole, trial in zip(ladder["trials"], other["trials"], strict=True):
            assert "images" not in whole
            if "images" not in trial:
                assert trial == whole, "a score over all images is the same to the last bit"
                continue
            dropped[group] = trial["images"]
            assert trial["bw"] < ladder["chosen"]
            assert whole["score"] < exact["baseline"]["score"] - 0.02
            assert 0 <= trial["score"] < exact["baseline"]["score"] - 0.02
            assert f"{trial['bw']}bit: \t{trial['score']:g} (on {trial['images']} of 600 images)" in log
    assert fast["combined"]["images"] == fast["baseline"]["images"] == 600
    for part in ("baseline", "combined"):
        assert fast[part]["outputs"] == exact[part]["outputs"]
    assert fast["layers"] == exact["layers"]
    seen = {group: int(images) for group, _, images, of in EARLY.findall(log) if of == "600"}
    assert seen == dropped
    return dropped


@pytest.mark.parametrize("scored", [("--iterations", "all"), ("--iterations", 12)])
def test_what_collapses_is_dropped_after_few_images(
    capsys: Capture, tmp_path: Path, scored: tuple[object, ...]
) -> None:
    exact, whole = job(capsys, tmp_path, *scored)
    assert "Dropped" not in whole
    fast, log = job(capsys, tmp_path, *scored, "--fast")
    dropped = assert_same_but_early(exact, fast, log)
    assert set(dropped) == {"conv", "activations"}
    assert max(dropped.values()) <= 100
    assert fast["settings"]["options"] == {"fast": True}


def test_layers_after_kept_batches_see_the_same_images(capsys: Capture, tmp_path: Path) -> None:
    """FC candidates go on from what the float convolutions made, image by image in another order."""
    flags = ("--iterations", "all", "--ladder", "8,3,1")
    exact, _ = job(capsys, tmp_path, *flags, net="digits_lenet")
    fast, log = job(capsys, tmp_path, *flags, "--fast", net="digits_lenet")
    dropped = assert_same_but_early(exact, fast, log)
    assert "fc" in dropped


def test_minifloats_and_the_net_that_is_chosen(capsys: Capture, tmp_path: Path) -> None:
    flags = ("--iterations", "all", "--exp_bits", 4, "--ladder", "12,8,6")
    exact, _ = job(capsys, tmp_path, *flags, mode="minifloat")
    fast, log = job(capsys, tmp_path, *flags, "--fast", mode="minifloat")
    for group, ladder in exact["ladders"].items():
        assert fast["ladders"][group]["chosen"] == ladder["chosen"]
    assert fast["combined"]["images"] == 600
    assert fast["combined"]["score"] == exact["combined"]["score"]
    assert fast["paired"] == exact["paired"], "images are counted by their place in the source, whatever the order"
    assert ("Dropped minifloat" in log) == any(t.get("images") for t in fast["ladders"]["minifloat"]["trials"])


def test_where_no_width_holds_the_result_is_scored_on_all_images(capsys: Capture, tmp_path: Path) -> None:
    """What is written is never known from an estimate."""
    flags = ("--iterations", "all", "--exp_bits", 1, "--ladder", 24, "--fast")
    report, log = job(capsys, tmp_path, *flags, mode="minifloat")
    assert report["ladders"]["minifloat"]["trials"][0]["images"] < 600
    assert "Dropped minifloat 24 bit" in log
    assert report["combined"]["images"] == 600


def test_a_source_sorted_by_class(capsys: Capture, tmp_path: Path) -> None:
    """The first hundreds of images are of one class; nothing is concluded from that."""
    net = build_net(read_prototxt(MODELS / "digits_resnet/train_val.prototxt"))
    batches = list(open_feed(net, inputs=None, data_root=MODELS, seed=0).single_pass())
    arrays = {blob: np.concatenate([batch[blob] for batch in batches]) for blob in batches[0]}
    order = np.argsort(arrays["label"], kind="stable")
    save_npz(tmp_path / "sorted.npz", {blob: array[order] for blob, array in arrays.items()})
    flags = ("--inputs", tmp_path / "sorted.npz", "--calibration_phase", "TEST")
    exact, _ = job(capsys, tmp_path, *flags)
    fast, log = job(capsys, tmp_path, *flags, "--fast")
    dropped = assert_same_but_early(exact, fast, log)
    assert dropped
    assert max(dropped.values()) <= 150


def test_with_random_rounding_only_certainty_counts(capsys: Capture, tmp_path: Path) -> None:
    """The order would change what is drawn, and with it the score of what holds."""
    flags = ("--iterations", "all", "--rounding", "stochastic", "--bw_activations", 8, "--bw_fc_params", 8)
    exact, _ = job(capsys, tmp_path, *flags)
    fast, log = job(capsys, tmp_path, *flags, "--fast")
    assert "--fast: the images cannot be scored in random order" in log
    dropped = assert_same_but_early(exact, fast, log)
    assert dropped["conv"] < 600


def test_a_score_that_is_no_accuracy_is_taken_from_all_images(capsys: Capture, tmp_path: Path) -> None:
    report, log = job(capsys, tmp_path, "--iterations", 2, "--score", "loss", "--fast", "--ladder", "8,2")
    assert "--fast changes nothing: the score is no plain accuracy" in log
    assert "Dropped" not in log
    assert not any("images" in trial for ladder in report["ladders"].values() for trial in ladder["trials"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--fast", "--search", "mixed"), "--fast means nothing with --search mixed"),
        (("--fast", "--fast_error", "0"), "0"),
        (("--fast", "--fast_error", "1"), "1"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys: Capture, tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    files = MODELS / "digits_lenet"
    outcome = ristretto(
        capsys, "quantize", "--model", files / "train_val.prototxt", "--weights", files / "digits_lenet.caffemodel",
        "--model_quantized", tmp_path / "q.prototxt", "--trimming_mode", "dynamic_fixed_point", *flags,
    )  # fmt: skip
    assert outcome.status == 2
    assert message in outcome.message

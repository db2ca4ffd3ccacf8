"""Scores for nets that compute none: agreement with the float net, and a user's own metric."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import ristretto
from ristretto.pipeline.scorers import Agreement, sqnr_db
from tests.cli.runner import MODELS
from tests.cli.runner import ristretto as program

LENET = MODELS / "digits_lenet"
DEPLOY, WEIGHTS = LENET / "deploy.prototxt", LENET / "digits_lenet.caffemodel"
MODE = ("--trimming_mode", "dynamic_fixed_point")


def test_top1_agreement_counts_equal_choices() -> None:
    scorer = Agreement(("p",), classes=True)
    first = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.4], [0.0, 1.0]], np.float32)
    scorer.start()
    assert scorer.add({"p": first}, {}) == 1
    assert scorer.result() == 1
    other = first.copy()
    other[2] = [0.4, 0.5]
    scorer.start()
    assert scorer.add({"p": other}, {}) == 0.75
    scorer.start()
    scorer.add({"p": first}, {})
    assert scorer.result() == 1


def test_signal_agreement_is_one_less_noise_over_signal() -> None:
    scorer = Agreement(("a", "b"), classes=False)
    rng = np.random.default_rng(0)
    batches = [{"a": rng.normal(size=(2, 3)), "b": rng.normal(size=(2, 1, 4, 4))} for _ in range(3)]
    noise = [{name: 0.1 * rng.normal(size=array.shape) for name, array in batch.items()} for batch in batches]
    for shift in (0, 1):
        scorer.start()
        for batch, extra in zip(batches, noise, strict=True):
            scorer.add({name: (batch[name] + shift * extra[name]).astype(np.float32) for name in batch}, {})
        if not shift:
            assert scorer.result() == 1
    shares = []
    for name in ("a", "b"):
        energy = sum((batch[name] ** 2).sum() for batch in batches)
        shares.append(1 - sum((extra[name] ** 2).sum() for extra in noise) / energy)
    assert scorer.result() == pytest.approx(np.mean(shares), abs=1e-6)
    assert sqnr_db(0.99) == pytest.approx(20)
    assert sqnr_db(1.0) == math.inf


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two batches of test images with their labels, as npz."""
    batches = [
        ristretto.run(LENET / "train_val.prototxt", WEIGHTS, ["data", "label"], n, data_root=MODELS) for n in (0, 1)
    ]
    path = tmp_path / "images.npz"
    np.savez(path, **{name: np.concatenate([batch[name] for batch in batches]) for name in ("data", "label")})
    return path


def test_a_deploy_net_without_labels(images: Path, tmp_path: Path) -> None:
    widths = {"bw_conv_params": 8, "bw_fc_params": 8, "bw_activations": 8}
    report = ristretto.quantize(
        DEPLOY, WEIGHTS, model_quantized=tmp_path / "q.prototxt", inputs=images, iterations=None, **widths
    )
    assert report.score_blob == "top1_agreement"
    assert report.baseline.score == 1
    assert report.baseline.images == 100
    assert 0.98 <= report.combined.score <= 1
    assert report.margin_met
    # the claim, checked by hand
    outputs = [
        ristretto.run(model, WEIGHTS, ["prob"], inputs=images)["prob"].argmax(axis=1)
        for model in (DEPLOY, tmp_path / "q.prototxt")
    ]
    assert report.combined.score == pytest.approx((outputs[0] == outputs[1]).mean())


def test_any_blob_can_be_compared(images: Path) -> None:
    report = ristretto.quantize(DEPLOY, WEIGHTS, inputs=images, iterations=None, score="pool1", error_margin=5)
    assert report.score_blob == "signal_agreement"
    assert 0.9 < report.combined.score < 1


def test_a_group_that_cannot_be_quantized_stays_nearly_float(images: Path) -> None:
    options = {"inputs": images, "iterations": None, "score": "ip1", "error_margin": 0, "ladder": (2,)}
    recommended = ristretto.quantize(DEPLOY, WEIGHTS, **options)
    original = ristretto.quantize(DEPLOY, WEIGHTS, preset="original", **options)
    assert recommended.ladders["activations"].chosen == original.ladders["activations"].chosen == 32
    assert recommended.combined.score > 0.999
    assert original.combined.score < 0.99


METRIC = """
import numpy as np

def accuracy(batches):
    right = [(batch["prob"].argmax(axis=1) == batch["label"]).mean() for batch in batches]
    return np.mean(right)

def fails(batches):
    return next(iter(batches))["nothing"]
"""


def test_a_users_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "metric.py"
    script.write_text(METRIC)
    net = tmp_path / "net.prototxt"
    text = (LENET / "train_val.prototxt").read_text()
    ending = 'layer { name: "prob" type: "Softmax" bottom: "ip2" top: "prob" include { phase: TEST } }\n'
    net.write_text(text + ending)
    flags = ("quantize", "--model", net, "--weights", WEIGHTS, "--model_quantized", tmp_path / "q.prototxt", *MODE)
    flags += ("--data-root", MODELS, "--iterations", 12)
    outcome = program(capsys, *flags, "--score-script", f"{script}:accuracy")
    assert outcome.status == 0, outcome.err
    assert "Baseline 32bit float: 0.985\n" in outcome.err
    outcome = program(capsys, *flags, "--score-script", f"{script}:fails")
    assert outcome.status == 2
    assert "the score function 'fails' fails: KeyError: 'nothing'; mend it" in outcome.message
    assert "has no function 'gone'" in program(capsys, *flags, "--score-script", f"{script}:gone").message
    assert "there is no Python module 'gone'" in program(capsys, *flags, "--score-script", "gone:f").message
    assert "expected module:function" in program(capsys, *flags, "--score-script", "gone").message
    both = program(capsys, *flags, "--score-script", f"{script}:accuracy", "--score", "loss").message
    assert both == "ristretto: --score and --score_script exclude each other"


def test_a_net_with_nothing_but_a_loss(tmp_path: Path) -> None:
    """A smaller loss is better, so the loss is no score: what it reads is compared with the float net's."""
    net = tmp_path / "net.prototxt"
    text = (LENET / "train_val.prototxt").read_text()
    start = text.index('layer {\n  name: "accuracy"')
    net.write_text(text[:start] + text[text.index("layer {", start + 5) :])
    assert "Accuracy" not in net.read_text().replace("Float accuracy", "")
    report = ristretto.quantize(net, WEIGHTS, iterations=2, data_root=MODELS)
    assert report.score_blob == "top1_agreement"
    assert report.baseline.score == 1
    assert 0.9 <= report.combined.score < 1


def test_nan_agrees_with_nothing() -> None:
    scorer = Agreement(("a",), classes=False)
    for values in (np.ones((2, 3), np.float32), np.full((2, 3), np.nan, np.float32)):
        scorer.start()
        scorer.add({"a": values}, {})
    assert math.isnan(scorer.result())

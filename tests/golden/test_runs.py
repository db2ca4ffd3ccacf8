"""Whole runs of the original: its quantized nets scored here, and its jobs done over."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.evaluate import NetOptions, evaluate, run
from ristretto.pipeline.quantize import QuantizeOptions, quantize
from ristretto.report.events import Event
from ristretto.report.glog import event_lines, summary_lines
from ristretto.report.model import Report
from tests.golden.shared import SHARED, integer_lengths, messages, needs_shared, summary

pytestmark = [needs_shared, pytest.mark.slow]


@dataclass(frozen=True)
class Run:
    """A run of the original; with ``own_blobs`` no layer of the net works in place."""

    name: str
    model: str
    weights: str
    iterations: int
    margin: float
    images: int
    own_blobs: bool = False


RUNS = [
    Run("lenet_dynamic_fixed_point", "lenet_mnist/train_test", "lenet_mnist/lenet_iter_10000", 100, 1, 10_000),
    Run("cifar10_quick", "cifar10_quick/train_test", "cifar10_quick/cifar10_quick_iter_5000", 20, 2, 2000),
    Run(
        "cifar10_resnet20_own_blobs",
        "cifar10_resnet20/train_test_own_blobs",
        "cifar10_resnet20/resnet20",
        20,
        1,
        2000,
        own_blobs=True,
    ),
    Run("cifar10_resnet20_in_place", "cifar10_resnet20/train_test", "cifar10_resnet20/resnet20", 20, 1, 2000),
    Run(
        "cifar10_mobilenetv2_small",
        "cifar10_mobilenetv2_small/train_val",
        "cifar10_mobilenetv2_small/mobilenetv2_small",
        10,
        1,
        1000,
    ),
    Run("squeezenet_100_images", "squeezenet_v1.0/train_val", "squeezenet_v1.0/squeezenet_v1.0", 2, 3, 100),
]
MODELS = SHARED / "models"


@pytest.fixture(autouse=True)
def _in_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources of the golden nets are relative to a folder beside the golden material."""
    monkeypatch.chdir(SHARED)


def log_of(name: str) -> list[str]:
    return messages((SHARED / "golden/runs" / name / "log.txt").read_text())


@pytest.mark.parametrize("golden", RUNS, ids=lambda golden: golden.name)
def test_the_originals_quantized_net_scores_the_same(golden: Run) -> None:
    options = NetOptions(
        SHARED / "golden/runs" / golden.name / "quantized.prototxt",
        (MODELS / f"{golden.weights}.caffemodel",),
        rounding=Rounding.HALF_AWAY,
        threads=1,
    )
    score = evaluate(options, golden.iterations).scored.score
    assert score == pytest.approx(summary(log_of(golden.name))["combined"][0], abs=max(0.003, 1 / golden.images))


@pytest.mark.parametrize("golden", RUNS, ids=lambda golden: golden.name)
def test_first_batch_is_bit_equal(golden: Run) -> None:
    folder = SHARED / "golden/runs" / golden.name
    if not (folder / "first_batch.npz").exists():
        pytest.skip("no first batch was saved of this run")
    expected = np.load(folder / "first_batch.npz")
    weights = (MODELS / f"{golden.weights}.caffemodel",)
    options = NetOptions(folder / "quantized.prototxt", weights, rounding=Rounding.HALF_AWAY)
    values = run(options, tuple(expected.files))
    for blob in expected.files:
        assert (values[blob].ravel() == expected[blob].ravel()).mean() >= 0.999, blob


def done_over(golden: Run) -> tuple[Report, list[str]]:
    """Our job on the same net with the original's rules; the log's messages with it."""
    heard: list[str] = []

    def listen(event: Event) -> None:
        heard.extend(line.text for line in event_lines(event))

    options = QuantizeOptions(
        MODELS / f"{golden.model}.prototxt",
        (MODELS / f"{golden.weights}.caffemodel",),
        iterations=golden.iterations,
        error_margin=golden.margin,
        preset="original",
        rounding=Rounding.HALF_AWAY,
        threads=1,
    )
    report = quantize(options, listen)
    return report, [*heard, *(line.text for line in summary_lines(report))]


def overwritten_blobs(golden: Run) -> set[str]:
    """Blobs that a layer rewrites in place."""
    text = (MODELS / f"{golden.model}.prototxt").read_text()
    pairs = re.findall(r'bottom:\s*"([^"]+)"\s*top:\s*"([^"]+)"', text)
    return {bottom for bottom, top in pairs if bottom == top}


def check_integer_lengths_at_own_blobs(golden: Run, report: Report, lines: list[str]) -> None:
    """A range within 2 % of a power of two may fall either way: crops and mirrors are drawn by chance."""
    theirs, ours = integer_lengths(log_of(golden.name)), integer_lengths(lines)
    assert list(ours) == list(theirs)
    net = build_net(read_prototxt(MODELS / f"{golden.model}.prototxt"))
    overwritten = {blob for layer in net.layers for blob in set(layer.bottoms) & set(layer.tops)}
    compared = 0
    for name, report_layer in report.layers.items():
        layer = net.layer(name)
        assert layer is not None
        ranges = (report_layer.ranges.input, report_layer.ranges.output, report_layer.ranges.params)
        blobs = (layer.bottoms[0], layer.tops[0], "")
        for role, blob, mine, wanted, stats in zip("iop", blobs, ours[name], theirs[name], ranges, strict=True):
            if blob in overwritten:
                continue
            nearest = 2.0 ** round(math.log2(stats.abs_max))
            at_a_power = abs(stats.abs_max / nearest - 1) < 0.02
            assert mine == wanted or (at_a_power and abs(mine - wanted) == 1), (name, role, stats)
            compared += 1
    assert compared >= len(report.layers)


def check_widths_and_scores(golden: Run, lines: list[str]) -> None:
    theirs, ours = summary(log_of(golden.name)), summary(lines)
    assert ours["combined"][1] == theirs["combined"][1]
    if golden.name == "cifar10_resnet20_in_place":
        assert ours["chosen"][0] == theirs["chosen"][0]
        assert ours["chosen"][1] == theirs["chosen"][1]
        assert ours["activations"][16] == pytest.approx(ours["combined"][1], abs=0.003)
    else:
        without_fc = golden.name == "squeezenet_100_images"
        wanted = {group: bw for group, bw in theirs["chosen"].items() if not (without_fc and group == 1)}
        assert ours["chosen"] == wanted
    for group in ("CONV", "FC", "activations"):
        for bw, score in ours[group].items():
            if golden.name == "cifar10_resnet20_in_place" and group == "activations":
                continue
            if bw >= 8 and bw in theirs[group]:
                slack = 1 / golden.images if golden.own_blobs else 2 / golden.images
                points = 0.005 if golden.own_blobs else 0.01
                assert score == pytest.approx(theirs[group][bw], abs=max(points, slack) + 1e-6), (group, bw)
    if golden.own_blobs:
        assert ours["combined"][0] == pytest.approx(theirs["combined"][0], abs=0.005)


def check_scores_at_all_widths(golden: Run, lines: list[str]) -> None:
    theirs, ours = summary(log_of(golden.name)), summary(lines)
    for group in ("CONV", "FC", "activations"):
        assert ours[group].keys() == theirs[group].keys()
        for bw, score in ours[group].items():
            assert score == pytest.approx(theirs[group][bw], abs=0.005), (group, bw)


def check_log_is_the_originals(golden: Run, ours: list[str]) -> None:
    """All messages, batch by batch, in order, but for time and place; losses may differ in the last digit shown."""
    theirs = log_of(golden.name)
    theirs = theirs[theirs.index("Use CPU.") :]
    assert len(ours) == len(theirs)
    number = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
    for mine, wanted in zip(ours, theirs, strict=True):
        assert number.sub("#", mine) == number.sub("#", wanted)
        np.testing.assert_allclose(
            [float(word) for word in number.findall(mine)],
            [float(word) for word in number.findall(wanted)],
            rtol=2e-3,
            atol=2e-6,
        )


@pytest.mark.parametrize("golden", RUNS, ids=lambda golden: golden.name)
def test_the_job_done_over(golden: Run) -> None:
    """One run of our job, and all that has to agree with the original's."""
    report, lines = done_over(golden)
    check_integer_lengths_at_own_blobs(golden, report, lines)
    check_widths_and_scores(golden, lines)
    if golden.own_blobs:
        check_scores_at_all_widths(golden, lines)
    if golden.name == "lenet_dynamic_fixed_point":
        check_log_is_the_originals(golden, lines)
    if golden.name == "squeezenet_100_images":
        assert "The net has no FC layers: FC weights are not searched." in lines
        assert not any(line.endswith("FC weights,") for line in lines)


def test_float_scores_of_raw_datums_are_exact() -> None:
    """All 10,000 images of each test set, against the scores that the original gives."""
    nets = [
        ("lenet_mnist/train_test", "lenet_mnist/lenet_iter_10000", 9908),
        ("cifar10_quick/train_test", "cifar10_quick/cifar10_quick_iter_5000", 7547),
        ("cifar10_resnet20/train_test", "cifar10_resnet20/resnet20", 9181),
        ("cifar10_mobilenetv2_small/train_val", "cifar10_mobilenetv2_small/mobilenetv2_small", 8740),
    ]
    for model, weights, right in nets:
        options = NetOptions(MODELS / f"{model}.prototxt", (MODELS / f"{weights}.caffemodel",), threads=1)
        scored = evaluate(options, None).scored
        assert scored.images == 10_000
        assert round(scored.score * 10_000) == right, model


def test_squeezenet_on_all_images() -> None:
    options = NetOptions(
        MODELS / "squeezenet_v1.0/train_val.prototxt", (MODELS / "squeezenet_v1.0/squeezenet_v1.0.caffemodel",)
    )
    scored = evaluate(options, None).scored
    assert scored.images == 1000
    assert scored.outputs["accuracy_top1"][0] == pytest.approx(0.648, abs=0.002)
    assert scored.outputs["accuracy_top5"][0] == pytest.approx(0.856, abs=0.002)


def test_the_originals_example_script_runs_unchanged(tmp_path: Path) -> None:
    """gflags style, --gpu and all; only the path of the program is another."""
    output = tmp_path / "quantized.prototxt"
    command = [sys.executable, "-m", "ristretto", "quantize"]
    command += [f"--model={MODELS}/lenet_mnist/train_test.prototxt"]
    command += [f"--weights={MODELS}/lenet_mnist/lenet_iter_10000.caffemodel", f"--model_quantized={output}"]
    command += ["--trimming_mode=dynamic_fixed_point", "--gpu=0", "--iterations=2", "--error_margin=3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"--gpu=0 was asked for: .*, everything runs on the CPU|Use GPU with device ID 0", done.stderr)
    assert output.read_text().count("quantization_param {") == 4

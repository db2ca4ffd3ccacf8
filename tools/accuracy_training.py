"""What training a quantized net gives back, on real nets: all test images, written into docs/accuracy.md.

    python tools/accuracy_training.py --material ../shared --folder build/training

The nets are quantized at 4-bit weights and 8-bit activations without any change of their weights, then trained by
``ristretto finetune``. Solvers, logs and results stay in the folder; a net whose result is there is not trained again.
The material is a folder with ``models`` and ``data``; CIFAR-10's training set there has 5000 images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy import DOCS, TRAINING, training_section


@dataclass(frozen=True)
class Net:
    """A net to train.

    Attributes:
        name: what it is called here.
        model, weights: paths under ``models``.
        rate: the learning rate, which falls to 0 linearly.
        weight_decay: that of its own training.
        steps: iterations.
        mirror: whether its training images are mirrored by chance, which its prototxt does not say.
        flags: of ``ristretto finetune``.
    """

    name: str
    model: str
    weights: str
    rate: float
    weight_decay: float
    steps: int
    mirror: bool = False
    flags: tuple[str, ...] = ("--quantize_activations", "--weight_rounding", "half_even")


NETS = (
    Net(
        "CIFAR-10 quick",
        "cifar10_quick/train_test.prototxt",
        "cifar10_quick/cifar10_quick_iter_5000.caffemodel",
        rate=0.0001,
        weight_decay=0.004,
        steps=600,
        mirror=True,
    ),
    Net(
        "ResNet-20, in place",
        "cifar10_resnet20/train_test.prototxt",
        "cifar10_resnet20/resnet20.caffemodel",
        rate=0.001,
        weight_decay=0.0001,
        steps=300,
        flags=("--quantize_activations", "--weight_rounding", "half_even", "--batch_norm", "frozen"),
    ),
)

MIRRORED = "training images mirrored by chance (`transform_param { mirror: true }`)"

SOLVER = """net: "quantized.prototxt"
base_lr: {rate:g}
lr_policy: "poly"
power: 1
momentum: 0.9
weight_decay: {decay:g}
display: 10
max_iter: {steps}
snapshot_prefix: "trained"
"""


def run(folder: Path, log: str, *arguments: object) -> float:
    """Run a command of the program in a folder, keep its log, and return the seconds it took."""
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parents[1])}
    command = [sys.executable, "-m", "ristretto", *map(str, arguments)]
    start = time.perf_counter()
    with (folder / log).open("w") as file:
        subprocess.run(command, cwd=folder, stderr=file, stdout=file, check=True, env=environment)
    return time.perf_counter() - start


def score(folder: Path, model: Path | str, weights: Path | str, material: Path) -> float:
    """The score of all images of the TEST source."""
    report = folder / "score.json"
    run(folder, "test.log", "test", "--model", model, "--weights", weights, "--iterations", "all",
        "--data-root", material, "--report", report)  # fmt: skip
    value: float = json.loads(report.read_text())["score"]
    return value


def measure(net: Net, material: Path, folder: Path, threads: int) -> dict[str, Any]:
    """Quantize a net, train it, and score it before and after."""
    folder.mkdir(parents=True, exist_ok=True)
    model, weights = material / "models" / net.model, material / "models" / net.weights
    widths = ("--bw_conv_params", 4, "--bw_fc_params", 4, "--bw_activations", 8)
    run(folder, "quantize.log", "quantize", "--model", model, "--weights", weights,
        "--model_quantized", "quantized.prototxt", "--trimming_mode", "dynamic_fixed_point", *widths,
        "--data-root", material, "--iterations", "all")  # fmt: skip
    if net.mirror:
        path = folder / "quantized.prototxt"
        before, train, after = path.read_text().partition("phase: TRAIN")
        path.write_text(before + train + after.replace("transform_param {", "transform_param { mirror: true", 1))
    (folder / "solver.prototxt").write_text(SOLVER.format(rate=net.rate, decay=net.weight_decay, steps=net.steps))
    seconds = run(
        folder, "finetune.log", "finetune", "--solver", "solver.prototxt", "--weights", weights,
        "--data-root", material, "--threads", threads, "--report", "training.json", "--plot", "loss.svg",
        *net.flags,
    )  # fmt: skip
    trained = f"trained_iter_{net.steps}.caffemodel"
    return {
        "float": score(folder, model, weights, material),
        "before": score(folder, "quantized.prototxt", weights, material),
        "after": score(folder, "quantized.prototxt", trained, material),
        "steps": net.steps,
        "rate": net.rate,
        "seconds": seconds,
    }


def row(name: str, result: dict[str, Any]) -> str:
    """A row of the table."""
    lost, left = (100 * (result["float"] - result[key]) for key in ("before", "after"))
    scores = " | ".join(f"{100 * result[key]:.2f}" for key in ("float", "before", "after"))
    back = f"{100 * (1 - left / lost):.0f} %"
    return f"| {name} | {scores} | {back} | {result['steps']} at {result['rate']:g} | {result['seconds']:.0f} s |"


def section(results: dict[str, dict[str, Any]]) -> str:
    """The part of docs/accuracy.md."""
    lines = [
        TRAINING,
        "",
        "Top-1 on all 10,000 test images of nets with 4-bit weights and 8-bit activations: with their weights rounded",
        "as they are (no folding, no compensation), and after `ristretto finetune` on 5000 images of the training set.",
        "The time is the whole command's, on a core that others used too. `tools/accuracy_training.py` writes this.",
        "",
        "| net | float | quantized | trained | of the loss made good | steps, at a rate that falls to 0 | time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(row(name, result) for name, result in results.items()),
        "",
        *(f"{net.name}: `{' '.join(net.flags)}`{', ' + MIRRORED if net.mirror else ''}." for net in NETS),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is not known yet, then write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, default=Path("../shared"), help="folder with models and data")
    parser.add_argument("--folder", type=Path, default=Path("build/training"), help="where results are kept")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    kept = arguments.folder.resolve() / "training.json"
    results: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for net in NETS:
        if net.name not in results:
            folder = kept.parent / net.name.replace(" ", "_").replace(",", "")
            results[net.name] = measure(net, arguments.material.resolve(), folder, arguments.threads)
            kept.write_text(json.dumps(results, indent=1))
            print(row(net.name, results[net.name]), flush=True)
    page = DOCS.read_text()
    DOCS.write_text(page.replace(training_section(page), "").rstrip("\n") + "\n\n" + section(results))


if __name__ == "__main__":
    main()

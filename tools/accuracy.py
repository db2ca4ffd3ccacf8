"""What quantization costs in accuracy, on real nets: all images of each, written to docs/accuracy.md.

    python tools/accuracy.py --material ../shared --results accuracy.json

Every net and setting is one job. Results are kept in a file, so that a run that was stopped goes on where it was, and
``--nets`` and ``--settings`` choose a part. The material is a folder with ``models``, ``data`` and ``golden/runs``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from ristretto.caffe.weights import read_weights
from ristretto.decide.confidence import Paired, drop_interval
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from ristretto.report.model import Report

CALIBRATION_IMAGES = 100
DOCS = Path(__file__).parents[1] / "docs" / "accuracy.md"
TRAINING = "## After training"
"""What the part of the page begins with that tools/accuracy_training.py writes."""


@dataclass(frozen=True)
class Net:
    """A net with a score.

    Attributes:
        name: what it is called here.
        model, weights: paths under ``models``, without suffix.
        golden: the original's run under ``golden/runs``.
        calibration_batches: batches of its TRAIN data to measure ranges on.
        rounding_images: images that compensated rounding looks at.
        test_data: where there is no training data, the scored images, of which 100 serve for calibration, without their
            labels. The scores leave them out.
        depthwise: whether it has depthwise convolutions.
    """

    name: str
    model: str
    weights: str
    golden: str
    calibration_batches: int = 10
    rounding_images: int = 500
    test_data: str = ""
    depthwise: bool = False


NETS = [
    Net(
        "LeNet",
        "lenet_mnist/train_test",
        "lenet_mnist/lenet_iter_10000",
        "lenet_dynamic_fixed_point",
        2,
        100,
        "mnist_t10k_lmdb",
    ),
    Net("CIFAR-10 quick", "cifar10_quick/train_test", "cifar10_quick/cifar10_quick_iter_5000", "cifar10_quick"),
    Net("ResNet-20, in place", "cifar10_resnet20/train_test", "cifar10_resnet20/resnet20", "cifar10_resnet20_in_place"),
    Net(
        "MobileNet-v2, small",
        "cifar10_mobilenetv2_small/train_val",
        "cifar10_mobilenetv2_small/mobilenetv2_small",
        "cifar10_mobilenetv2_small",
        depthwise=True,
    ),
    Net(
        "SqueezeNet v1.0",
        "squeezenet_v1.0/train_val",
        "squeezenet_v1.0/squeezenet_v1.0",
        "squeezenet_100_images",
        4,
        100,
        "imagenet1000_lmdb",
    ),
]

_ALL = {"fold": True, "weight_rounding": "compensated"}
RULES = ("max", "percentile", "squared_error", "output_error")


def _widths(params: int, activations: int) -> dict[str, int]:
    return {"bw_conv_params": params, "bw_fc_params": params, "bw_activations": activations}


FIXED: dict[str, dict[str, Any]] = {
    "8/8, weights as they are": _widths(8, 8),
    "8/8": {**_widths(8, 8), **_ALL},
    "6/6": {**_widths(6, 6), **_ALL},
    "4/8": {**_widths(4, 8), **_ALL},
}
SETTINGS: dict[str, dict[str, Any]] = {
    **FIXED,
    "mixed/8": {"search": "mixed", "error_margin": 1.0, "bw_activations": 8, **_ALL},
    **{f"{bw}/{bw} {rule}": {**_widths(bw, bw), "range_rule": rule} for bw in (8, 6) for rule in RULES},
    "4/8 equalized": {**_widths(4, 8), **_ALL, "equalize": True},
}


def measure(net: Net, setting: str, material: Path) -> dict[str, Any]:
    """Run one job and keep what the tables need."""
    models = material / "models"
    model = models / f"{net.model}.prototxt"
    start = time.perf_counter()
    if net.test_data:
        model = with_calibration_data(model, material / "data" / net.test_data, Path(tempfile.mkdtemp()))
    report = quantize(
        QuantizeOptions(
            model,
            (models / f"{net.weights}.caffemodel",),
            iterations=None,
            calibration_batches=net.calibration_batches,
            rounding_images=net.rounding_images,
            **SETTINGS[setting],
        )
    )
    assert report.baseline.right is not None
    assert report.combined.right is not None
    counted = np.ones(report.baseline.images, bool)
    if net.test_data:
        counted[spread(report.baseline.images)] = False
    before, after = report.baseline.right[counted], report.combined.right[counted]
    paired = Paired(len(before), int((before & ~after).sum()), int((after & ~before).sum()))
    return {
        "images": report.baseline.images,
        "float": float(report.baseline.right.mean()),
        "score": float(report.combined.right.mean()),
        "counted": len(before),
        "counted_float": float(before.mean()),
        "counted_score": float(after.mean()),
        "lost": paired.lost,
        "won": paired.won,
        "weight_bits": mean_weight_bits(report, models / f"{net.weights}.caffemodel"),
        "seconds": round(time.perf_counter() - start, 1),
    }


def spread(images: int) -> range:
    """A hundred images from all over a data set, which may be sorted by class."""
    return range(0, images, images // CALIBRATION_IMAGES)


def with_calibration_data(model: Path, source: Path, folder: Path) -> Path:
    """A copy of a net whose TRAIN data are some images of the TEST data."""
    with lmdb.open(str(source), readonly=True, lock=False) as whole, whole.begin() as reading:
        records = [bytes(value) for _, value in reading.cursor()]
    with lmdb.open(str(folder / "lmdb"), map_size=1 << 30) as some, some.begin(write=True) as writing:
        for number in spread(len(records)):
            writing.put(f"{number:08d}".encode(), records[number])
    layers = re.split(r"(?m)^(?=layer \{)", model.read_text())
    train = next(number for number, layer in enumerate(layers) if "phase: TRAIN" in layer)
    layers[train] = re.sub(r'source: "[^"]*"', f'source: "{folder / "lmdb"}"', layers[train])
    copy = folder / "net.prototxt"
    copy.write_text("".join(layers))
    return copy


def mean_weight_bits(report: Report, weights_file: Path) -> float:
    """Mean bits of a weight over the quantized layers."""
    weights = read_weights([weights_file])
    bits = counts = 0
    for name, formats in report.plan.layers.items():
        blobs = weights.get(name)
        if blobs and isinstance(formats.params, (DynamicFixedPoint, ChannelFixedPoint)):
            bits += blobs[0].size * formats.params.bw
            counts += blobs[0].size
    return bits / counts


def weight_count(weights_file: Path) -> int:
    """How many weights convolutions and fully connected layers have, biases and statistics apart."""
    layers = (layer for layer in read_weights([weights_file]).layers if layer.blobs)
    return sum(layer.blobs[0].size for layer in layers if layer.type in ("Convolution", "InnerProduct"))


def original(net: Net, material: Path) -> str:
    """The combined score that the original reached, and with what widths."""
    log = (material / "golden/runs" / net.golden / "log.txt").read_text()
    baseline, score = (re.findall(pattern, log)[-1] for pattern in (r"Baseline 32bit float: (\S+)", r"Accuracy: (\S+)"))
    widths = "/".join(re.findall(r"\] (\d+)bit (?:CONV weights|FC weights|layer activations)", log))
    return f"{100 * (float(baseline) - float(score)):.2f} at {widths}"


def cell(result: dict[str, Any] | None) -> str:
    """The drop in points and its interval."""
    if result is None:
        return ""
    interval = drop_interval(Paired(result["counted"], result["lost"], result["won"]))
    drop = 100 * (result["counted_float"] - result["counted_score"])
    return f"{drop:+.2f} ({100 * interval.low:+.2f} to {100 * interval.high:+.2f})"


def render(results: dict[str, Any], material: Path) -> str:
    """The page."""
    fixed = list(FIXED)
    lines = [
        "# Accuracy",
        "",
        "Top-1 points lost against the float net, in brackets the 95 % interval of the comparison image by image.",
        "Written by `tools/accuracy.py`. A column is named by the bits of weights and activations; all but the first",
        "change the weights (`--fold --weight_rounding compensated --weights_quantized`), none trains. The original's",
        "column is its loss and its widths (CONV weights, FC weights, activations) in the runs that the tests compare",
        "with, at margins of 1 to 3 points, on fewer images.",
        "",
        "| net | images | float | the original | " + " | ".join(fixed) + " |",
        "| --- | --- | --- | --- | " + " | ".join("---" for _ in fixed) + " |",
    ]
    for net in NETS:
        found = results.get(net.name, {})
        if found:
            any_result = next(iter(found.values()))
            row = [
                net.name,
                str(any_result["counted"]),
                f"{100 * any_result['counted_float']:.2f}",
                original(net, material),
            ]
            lines.append("| " + " | ".join([*row, *(cell(found.get(setting)) for setting in fixed)]) + " |")
    for title, nets in (
        ("mean of all", NETS),
        ("mean without depthwise, MNIST and CIFAR", [net for net in NETS[:4] if not net.depthwise]),
    ):
        means = [_mean([results.get(net.name, {}).get(setting) for net in nets]) for setting in fixed]
        lines.append(f"| {title} | | | | " + " | ".join(means) + " |")
    lines += [
        "",
        "Mixed precision within a margin of 1 point, activations at 8 bits (`--search mixed --error_margin 1`):",
        "",
        "| net | mean bits of a weight | points lost | job |",
        "| --- | --- | --- | --- |",
    ]
    bits, counts = [], []
    for net in NETS:
        result = results.get(net.name, {}).get("mixed/8")
        if result is not None:
            bits.append(result["weight_bits"])
            counts.append(weight_count(material / "models" / f"{net.weights}.caffemodel"))
            lines.append(f"| {net.name} | {result['weight_bits']:.2f} | {cell(result)} | {result['seconds']:.0f} s |")
    if bits:
        lines.append(f"| mean of the nets | {np.mean(bits):.2f} | | |")
        lines.append(f"| mean of all weights | {np.average(bits, weights=counts):.2f} | | |")
    lines += ["", *rules_table(results), *equalized_table(results)]
    lines += [
        "",
        "Ranges and rounding are fitted to images of the training set (CIFAR-10: 1000 for ranges, 500 for rounding).",
        "Where there is none, LeNet and SqueezeNet, they are fitted to 100 of the test images, spread over the set,",
        "without their labels, and the scores leave these out.",
        "",
    ]
    return "\n".join(lines)


def rules_table(results: dict[str, Any]) -> list[str]:
    """What the range rules lose, with the weights as they are."""
    settings = [f"{bw}/{bw} {rule}" for bw in (8, 6) for rule in RULES]
    lines = [
        "Range rules (`--range_rule`), weights as they are, points lost; the intervals are as wide as above:",
        "",
        "| net | " + " | ".join(settings) + " |",
        "| --- |" + " --- |" * len(settings),
    ]
    for net in NETS:
        found = results.get(net.name, {})
        if any(setting in found for setting in settings):
            lines.append(f"| {net.name} | " + " | ".join(_mean([found.get(setting)]) for setting in settings) + " |")
    means = [_mean([results.get(net.name, {}).get(setting) for net in NETS]) for setting in settings]
    return [*lines, "| mean | " + " | ".join(means) + " |", ""]


def equalized_table(results: dict[str, Any]) -> list[str]:
    """What equalizing channels brings beside compensated rounding."""
    lines = [
        "Channels equalized (`--equalize`) beside the rest, 4-bit weights and 8-bit activations:",
        "",
        "| net | without | with |",
        "| --- | --- | --- |",
    ]
    for net in NETS:
        found = results.get(net.name, {})
        if "4/8 equalized" in found:
            lines.append(f"| {net.name} | {cell(found.get('4/8'))} | {cell(found['4/8 equalized'])} |")
    return lines


def training_section(page: str) -> str:
    """The part of the page that another program writes, or ""."""
    _, heading, rest = page.partition(TRAINING)
    return heading + rest


def _mean(found: list[dict[str, Any] | None]) -> str:
    drops = [100 * (item["counted_float"] - item["counted_score"]) for item in found if item is not None]
    return f"{np.mean(drops):+.2f}" if len(drops) == len(found) else ""


def main() -> None:
    """Measure what is asked for and is not known yet, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--material", type=Path, default=Path("../shared"), help="folder with models, data, golden/runs"
    )
    parser.add_argument("--results", type=Path, default=Path("accuracy.json"), help="where results are kept")
    parser.add_argument("--nets", nargs="*", default=[net.name for net in NETS], help="names, or parts of them")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    arguments = parser.parse_args()
    material, kept = arguments.material.resolve(), arguments.results.resolve()
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    os.chdir(material)  # sources in the nets are relative to a folder beside the material
    for net in NETS:
        for setting in arguments.settings:
            wanted = any(part in net.name for part in arguments.nets)
            if wanted and setting not in results.get(net.name, {}):
                results.setdefault(net.name, {})[setting] = measure(net, setting, material)
                kept.write_text(json.dumps(results, indent=1))
                print(net.name, setting, cell(results[net.name][setting]), flush=True)
    training = training_section(DOCS.read_text())
    DOCS.write_text(render(results, material).rstrip("\n") + "\n" + ("\n" + training if training else ""))


if __name__ == "__main__":
    main()

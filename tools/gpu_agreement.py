"""Quantize nets on the CPU and on a CUDA device, and compare all scores image by image.

    python tools/gpu_agreement.py [--gpu 0] [--shared ../shared] [--threads 2]

For a machine with a CUDA device and the package onnxruntime-gpu (docs/gpu.md). Each net is quantized in some ways, once
on either, and both scores of each job are compared: of the float net and of the quantized one. Products and sums of
values of few bits are exact on both. Sums in float are added in another order, which may turn an image whose best
classes are all but equal: one in a thousand is allowed. Exit status: 0 all agree, 1 some do not or no device was used.
The nets are those that come with the tool, and those beside the project where they are.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ristretto.pipeline.device import find_device
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from ristretto.report.model import Report, Scored

SHIPPED = Path(__file__).parents[1] / "models"

Options = dict[str, Any]

SETTINGS: dict[str, Options] = {
    "8/8": {"bw_conv_params": 8, "bw_fc_params": 8, "bw_activations": 8, "fold": True},
    "8/16": {"bw_conv_params": 8, "bw_fc_params": 8, "bw_activations": 16, "fold": True},
    "original 8/8": {"bw_conv_params": 8, "bw_fc_params": 8, "bw_activations": 8, "preset": "original"},
    "minifloat 5.10": {"trimming_mode": "minifloat", "exp_bits": 5, "mant_bits": 10},
    "powers of two": {"trimming_mode": "integer_power_of_2_weights", "bw_activations": 8},
}

SHARED = {
    "lenet_mnist": ("train_test", "lenet_iter_10000"),
    "cifar10_quick": ("train_test", "cifar10_quick_iter_5000"),
    "cifar10_resnet20": ("train_test", "resnet20"),
    "cifar10_mobilenetv2_small": ("train_val", "mobilenetv2_small"),
    "squeezenet_v1.0": ("train_val", "squeezenet_v1.0"),
}

ALLOWED = 0.001
"""The share of images that may be judged otherwise."""


@dataclass(frozen=True)
class Net:
    """A net with its weights, and where relative sources of its data are looked for."""

    name: str
    model: Path
    weights: Path
    data_root: Path | None = None


@dataclass(frozen=True)
class Compared:
    """The score of a net on both.

    Attributes:
        otherwise: how many images one of them got right and the other did not.
        apart: the greatest distance between two values of output blobs.
    """

    net: str
    what: str
    on_cpu: Scored
    on_gpu: Scored
    otherwise: int
    apart: float

    @property
    def agree(self) -> bool:
        """Whether they are as close as they have to be."""
        return self.otherwise <= ALLOWED * self.on_cpu.images

    def __str__(self) -> str:
        cells = [self.net, self.what, f"{self.on_cpu.score:.6g}", f"{self.on_gpu.score:.6g}"]
        cells += [f"{self.otherwise} of {self.on_cpu.images}", f"{self.apart:.1e}"]
        cells += [f"{self.on_cpu.seconds:.2f}", f"{self.on_gpu.seconds:.2f}"]
        return "| " + " | ".join(cells) + " |" + ("" if self.agree else "  <- apart")


def nets(shared: Path) -> Iterator[Net]:
    """The nets that come with the tool, then those beside the project."""
    for name in ("digits_lenet", "digits_resnet"):
        folder = SHIPPED / name
        yield Net(name, folder / "train_val.prototxt", folder / f"{name}.caffemodel", SHIPPED)
    if shared.is_dir():
        for name, (model, weights) in SHARED.items():
            folder = shared / "models" / name
            yield Net(name, folder / f"{model}.prototxt", folder / f"{weights}.caffemodel")


def compared(net: str, what: str, on_cpu: Scored, on_gpu: Scored) -> Compared:
    """Compare two scores of the same net."""
    assert on_cpu.right is not None
    assert on_gpu.right is not None
    values = [np.concatenate(list(map(np.asarray, scored.outputs.values()))) for scored in (on_cpu, on_gpu)]
    otherwise = int((on_cpu.right != on_gpu.right).sum())
    return Compared(net, what, on_cpu, on_gpu, otherwise, float(np.abs(values[0] - values[1]).max()))


def job(net: Net, setting: Options, gpu: str, threads: int) -> Report:
    """Quantize a net over all its images."""
    more: Options = {"iterations": None, "data_root": net.data_root, "gpu": gpu, "threads": threads}
    return quantize(QuantizeOptions(net.model, (net.weights,), **more, **setting))


def main() -> int:
    """Compare all, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", default="0")
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    device = find_device(arguments.gpu)
    if device.number is None:
        print(f"no device: {device.reason or 'none was asked for'}", file=sys.stderr)
        return 1
    if arguments.shared.is_dir():
        os.chdir(arguments.shared)  # the sources of these nets are relative to it
    print("| net | what | CPU | GPU | judged otherwise | values apart | CPU, s | GPU, s |")
    print("| --- " * 8 + "|")
    agree, first = True, next(iter(SETTINGS.values()))
    for net in nets(arguments.shared):
        for name, setting in SETTINGS.items():
            reports = [job(net, setting, gpu, arguments.threads) for gpu in ("", arguments.gpu)]
            if reports[0].plan != reports[1].plan:
                print(f"{net.name}, {name}: other formats were chosen", file=sys.stderr)
                agree = False
            rows = {name: [report.combined for report in reports]}
            if setting is first:
                rows = {"float": [report.baseline for report in reports], **rows}
            for what, scores in rows.items():
                row = compared(net.name, what, *scores)
                agree = agree and row.agree
                print(row, flush=True)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())

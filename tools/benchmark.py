"""Time the main job on real nets, beside the scores it gives.

    python tools/benchmark.py [--shared ../shared] [--output benchmark.json] [NET ...]

For each net: T, the wall time of one float pass over its scored images through a bare onnxruntime session (images in
memory, same batch size and threads); one float and one quantized pass of this tool in units of T, data reading
included; the whole job. Then what does not depend on a net: starting the program, reading a large weights file, parsing
a long prototxt. Nets and data are those beside the project; without them only the last part runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from ristretto.graph.build import build
from ristretto.pipeline.evaluate import NetOptions, evaluate
from ristretto.pipeline.feed import open_feed
from ristretto.pipeline.quantize import QuantizeOptions, quantize
from ristretto.runtime.session import Session

NETS = {
    "lenet_mnist": ("train_test", "lenet_iter_10000", 100),
    "cifar10_quick": ("train_test", "cifar10_quick_iter_5000", 20),
    "cifar10_resnet20": ("train_test", "resnet20", 20),
    "cifar10_mobilenetv2_small": ("train_val", "mobilenetv2_small", 10),
    "squeezenet_v1.0": ("train_val", "squeezenet_v1.0", 4),
}


@dataclass(frozen=True)
class NetFigures:
    """Times of one net in seconds, passes in units of T, and scores."""

    net: str
    images: int
    bare_pass_s: float
    float_pass_t: float
    quantized_8bit_pass_t: float
    job_s: float
    passes: int
    baseline: float
    combined: float
    widths: dict[str, int]


def bare_pass(model: Path, weights: Path, batches: int, threads: int) -> float:
    """One float pass through onnxruntime alone, after one batch to warm up."""
    net = build_net(read_prototxt(model))
    feed = open_feed(net, inputs=None, data_root=None, seed=0)
    shapes = infer_shapes(net, feed.shapes)
    finals = [net.finals[blob] for blob in net.outputs]
    built = build(net, shapes, fit_weights(net, shapes, read_weights([weights])), outputs=finals)
    session = Session(built.model.SerializeToString(), threads=threads)
    held = [{built.inputs[blob]: array for blob, array in batch.items()} for batch in islice(feed.batches(), batches)]
    session.run(held[0], list(built.fetches.values()))
    start = time.perf_counter()
    for batch in held:
        session.run(batch, list(built.fetches.values()))
    return time.perf_counter() - start


def measure(models: Path, name: str, threads: int) -> NetFigures:
    """All figures of one net."""
    prototxt, caffemodel, batches = NETS[name]
    model, weights = models / name / f"{prototxt}.prototxt", models / name / f"{caffemodel}.caffemodel"
    bare = min(bare_pass(model, weights, batches, threads) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        quantized = Path(folder) / "q.prototxt"
        job_at_8 = QuantizeOptions(
            model, (weights,), quantized, iterations=1, bw_conv_params=8, bw_fc_params=8, bw_activations=8
        )
        quantize(job_at_8)
        passes = [
            evaluate(NetOptions(each, (weights,), threads=threads), batches).scored.seconds
            for each in (model, quantized)
        ]
        start = time.perf_counter()
        report = quantize(QuantizeOptions(model, (weights,), quantized, iterations=batches, threads=threads))
        job = time.perf_counter() - start
    return NetFigures(
        name,
        report.baseline.images,
        round(bare, 3),
        round(passes[0] / bare, 2),
        round(passes[1] / bare, 2),
        round(job, 2),
        2 + sum(len(ladder.trials) for ladder in report.ladders.values()),
        report.baseline.score,
        report.combined.score,
        {group: ladder.chosen for group, ladder in report.ladders.items()},
    )


def read_every_weight(path: Path) -> float:
    """Read a weights file to its last byte: files are mapped, so opening one costs nothing yet."""
    return sum(float(blob.sum()) for layer in read_weights([path]).layers for blob in layer.blobs)


def measure_program() -> dict[str, float]:
    """What does not depend on a net, in seconds: the median of five."""

    def median(run: list[float]) -> float:
        return round(float(np.median(run)), 3)

    def timed(action: object) -> float:
        start = time.perf_counter()
        action()  # type: ignore[operator]
        return time.perf_counter() - start

    help_command = [sys.executable, "-m", "ristretto", "--help"]
    figures = {
        "help_s": median(
            [timed(lambda: subprocess.run(help_command, capture_output=True, check=True)) for _ in range(5)]
        )
    }
    layer = 'layer {\n  name: "c%d"\n  type: "Convolution"\n  bottom: "c%d"\n  top: "c%d"\n'
    layer += "  convolution_param {\n    num_output: 64\n    kernel_size: 3\n    pad: 1\n  }\n}\n"
    long_net = "".join(layer % (number, number - 1, number) for number in range(1, 700))
    figures["parse_7000_lines_s"] = median([timed(lambda: parse(long_net)) for _ in range(5)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.caffemodel"
        blob = np.zeros((4096, 4096), np.float32)
        write_caffemodel(path, "large", [LayerWeights(f"fc{number}", "InnerProduct", (blob,)) for number in range(8)])
        figures["read_537_mb_weights_s"] = median([timed(lambda: read_every_weight(path)) for _ in range(5)])
    return figures


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("nets", nargs="*", choices=[[], *NETS], default=[], metavar="NET")
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    output = arguments.output.resolve() if arguments.output else None
    program = measure_program()
    for name, value in program.items():
        print(f"{name}: {value}")
    results = []
    if arguments.shared.is_dir():
        os.chdir(arguments.shared)
        print("| net | images | T s | float pass T | 8 bit pass T | job s | passes | float | quantized | widths |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for name in arguments.nets or NETS:
            figures = measure(Path("models"), name, arguments.threads)
            results.append(asdict(figures))
            print("|", " | ".join(str(value) for value in asdict(figures).values()), "|", flush=True)
    if output:
        output.write_text(json.dumps({"program": program, "nets": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Time the main job on real nets, beside the scores it gives, and write docs/benchmarks.md.

    python tools/benchmark.py [--shared ../shared] [--threads 2] [--write] [NET ...]

The unit is T: the wall time of one float pass of the net over its scored images through a bare onnxruntime session
(images in memory, the net's batch size, same threads). In units of T: the quantized nets at 8 and 16 bits over images
in memory, batches in pieces as this tool runs them, and whole passes of it, data reading included. All of these take
turns, and the least of several rounds counts, so that a machine with other work to do does not favour one of them. Then
the whole job in a process of its own: wall time, and the most memory that it had. Then what does not depend on a net:
starting the program, reading a large weights file, parsing a long prototxt. Nets and data are those beside the project;
without them only the last part runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from ristretto.dialects.fields import read_plan
from ristretto.graph.build import Simulation, build
from ristretto.pipeline.evaluate import NetOptions, evaluate
from ristretto.pipeline.feed import open_feed
from ristretto.pipeline.pieces import Pieces, overlapped
from ristretto.pipeline.quantize import QuantizeOptions, quantize
from ristretto.pipeline.runner import Runner
from ristretto.runtime.session import Session

NETS = {
    "lenet_mnist": ("train_test", "lenet_iter_10000", 100),
    "cifar10_quick": ("train_test", "cifar10_quick_iter_5000", 100),
    "cifar10_resnet20": ("train_test", "resnet20", 100),
    "cifar10_mobilenetv2_small": ("train_val", "mobilenetv2_small", 50),
    "squeezenet_v1.0": ("train_val", "squeezenet_v1.0", 20),
}
WIDTHS = (8, 16)
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class NetFigures:
    """Times of one net in seconds, passes in units of T.

    Attributes:
        bare_s: T.
        sessions: quantized nets over images in memory, by width.
        float_pass: a float pass of this tool.
        passes: quantized passes of this tool, by width.
        job_s, job_passes, job_mb: the whole job, by default settings.
    """

    net: str
    images: int
    bare_s: float
    sessions: dict[int, float]
    float_pass: float
    passes: dict[int, float]
    job_s: float
    job_passes: int
    job_mb: int


def bare(model: Path, weights: Path, batches: int, threads: int) -> Callable[[], object]:
    """A float pass through onnxruntime alone over images in memory."""
    net = build_net(read_prototxt(model))
    feed = open_feed(net, inputs=None, data_root=None, seed=0)
    shapes = infer_shapes(net, feed.shapes)
    finals = [net.finals[blob] for blob in net.outputs]
    built = build(net, shapes, fit_weights(net, shapes, read_weights([weights])), outputs=finals)
    session = Session(built.model.SerializeToString(), threads=threads)
    held = [{name: batch[blob] for blob, name in built.inputs.items()} for batch in islice(feed.batches(), batches)]
    outputs = list(built.fetches.values())
    session.run(held[0], outputs)

    def run() -> None:
        for batch in held:
            session.run(batch, outputs)

    return run


def quantized_pass(model: Path, weights: Path, batches: int, threads: int) -> Callable[[], object]:
    """A pass of a quantized net over images in memory, as this tool runs it."""
    net = build_net(read_prototxt(model))
    feed = open_feed(net, inputs=None, data_root=None, seed=0)
    finals = [net.finals[blob] for blob in net.outputs]
    simulation = Simulation(read_plan(net).layers)
    pieces = Pieces(Runner(net, read_weights([weights]), finals, simulation=simulation, threads=threads))
    held = list(islice(feed.batches(), batches))
    pieces.run(held[0])

    def run() -> None:
        for _ in overlapped(map(pieces.begin, held)):
            pass

    return run


def measure(models: Path, name: str, threads: int, rounds: int) -> NetFigures:
    """All figures of one net."""
    prototxt, caffemodel, batches = NETS[name]
    model, weights = models / name / f"{prototxt}.prototxt", models / name / f"{caffemodel}.caffemodel"
    with tempfile.TemporaryDirectory() as folder:
        quantized = {bw: (Path(folder) / f"{bw}.prototxt", Path(folder) / f"{bw}.caffemodel") for bw in WIDTHS}
        for bw, (net, new) in quantized.items():
            quantize(
                QuantizeOptions(
                    model,
                    (weights,),
                    net,
                    iterations=1,
                    bw_conv_params=8,
                    bw_fc_params=8,
                    bw_activations=bw,
                    fold=True,
                    weight_rounding="nearest",
                    weights_quantized=new,
                )
            )

        def whole(net: Path, new: Path) -> Callable[[], object]:
            return lambda: evaluate(NetOptions(net, (new,), threads=threads), batches)

        runs: dict[str, Callable[[], object]] = {"bare": bare(model, weights, batches, threads)}
        runs |= {f"session {bw}": quantized_pass(*files, batches, threads) for bw, files in quantized.items()}
        runs |= {"float": whole(model, weights)}
        runs |= {f"pass {bw}": whole(*files) for bw, files in quantized.items()}
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(rounds):
            for key, run in runs.items():
                best[key] = min(best[key], timed(run))
        job_s, job_mb, job_passes = job(model, weights, batches, threads, Path(folder))
    unit = best["bare"]
    images = batches * open_feed(build_net(read_prototxt(model)), inputs=None, data_root=None, seed=0).batch_size
    return NetFigures(
        name,
        images,
        unit,
        {bw: best[f"session {bw}"] / unit for bw in WIDTHS},
        best["float"] / unit,
        {bw: best[f"pass {bw}"] / unit for bw in WIDTHS},
        job_s,
        job_passes,
        job_mb,
    )


def job(model: Path, weights: Path, batches: int, threads: int, folder: Path) -> tuple[float, int, int]:
    """The whole job in a process of its own: seconds, megabytes, and how many passes it took."""
    command = [
        sys.executable, "-m", "ristretto", "quantize", "--model", str(model), "--weights", str(weights),
        "--model_quantized", str(folder / "q.prototxt"), "--trimming_mode", "dynamic_fixed_point",
        "--iterations", str(batches), "--threads", str(threads),
    ]  # fmt: skip
    log, peak = folder / "log", 0
    start = time.perf_counter()
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            # What the kernel keeps for a child begins with what its parent had; this is the program's own.
            peak = max([peak, *_kilobytes(Path(f"/proc/{process.pid}/status"))])
            time.sleep(0.05)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(log.read_text())
    return seconds, peak // 1024, log.read_text().count("Running for ")


def _kilobytes(status: Path) -> list[int]:
    try:
        lines = status.read_text().splitlines()
    except OSError:  # the process is over
        return []
    return [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]


def timed(action: Callable[[], object]) -> float:
    """Seconds that something takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def read_every_weight(path: Path) -> float:
    """Read a weights file to its last byte: files are mapped, so opening one costs nothing yet."""
    return sum(float(blob.sum()) for layer in read_weights([path]).layers for blob in layer.blobs)


def measure_program() -> dict[str, float]:
    """What does not depend on a net, in seconds: the median of five."""

    def median(action: Callable[[], object]) -> float:
        return float(np.median([timed(action) for _ in range(5)]))

    help_command = [sys.executable, "-m", "ristretto", "--help"]
    layer = 'layer {\n  name: "c%d"\n  type: "Convolution"\n  bottom: "c%d"\n  top: "c%d"\n'
    layer += "  convolution_param {\n    num_output: 64\n    kernel_size: 3\n    pad: 1\n  }\n}\n"
    long_net = "".join(layer % (number, number - 1, number) for number in range(1, 700))
    figures = {
        "`ristretto --help`": median(lambda: subprocess.run(help_command, capture_output=True, check=True)),
        "parsing a prototxt of 700 layers, 7000 lines": median(lambda: parse(long_net)),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.caffemodel"
        blob = np.zeros((4096, 4096), np.float32)
        write_caffemodel(path, "large", [LayerWeights(f"fc{number}", "InnerProduct", (blob,)) for number in range(8)])
        figures["reading a caffemodel of 537 MB to its last byte"] = median(lambda: read_every_weight(path))
    return figures


def machine(threads: int) -> str:
    """The machine in a line."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith("flags")), "")
    vnni = "with VNNI" if "vnni" in flags else "without VNNI"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{names[0] if names else platform.machine()} ({vnni}), {os.cpu_count()} logical processors, "
        f"{threads} threads, {memory:.0f} GiB; Python {platform.python_version()}, "
        f"onnxruntime {onnxruntime.__version__}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def render(program: dict[str, float], nets: list[NetFigures], threads: int) -> str:
    """The tables of the page."""
    lines = [f"Machine: {machine(threads)}.", ""]
    if nets:
        heads = ["net", "images", "T, s", *(f"{bw} bits, session" for bw in WIDTHS), "float pass"]
        heads += [*(f"{bw} bits, pass" for bw in WIDTHS), "job, s", "passes", "job in T", "job, MB"]
        lines += [_row(heads), _row(["---"] * len(heads))]
    for net in nets:
        cells = [net.net, str(net.images), f"{net.bare_s:.2f}"]
        cells += [f"{net.sessions[bw]:.2f}" for bw in WIDTHS] + [f"{net.float_pass:.2f}"]
        cells += [f"{net.passes[bw]:.2f}" for bw in WIDTHS]
        cells += [f"{net.job_s:.1f}", str(net.job_passes), f"{net.job_s / net.bare_s:.1f}", str(net.job_mb)]
        lines.append(_row(cells))
    lines += ["", _row(["the program", "s"]), _row(["---", "---"])]
    lines += [_row([name, f"{seconds:.2f}"]) for name, seconds in program.items()]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure, print the tables, and write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", choices=[[], *NETS], default=[], metavar="NET")
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    results = []
    if arguments.shared.is_dir():
        os.chdir(arguments.shared)
        for name in arguments.nets or NETS:
            results.append(measure(Path("models"), name, arguments.threads, arguments.rounds))
            print(results[-1], flush=True)
    tables = render(measure_program(), results, arguments.threads)
    print(tables)
    if arguments.write:
        before, mark, after = DOCS.read_text().partition("<!-- tables -->\n")
        rest = after.partition("<!-- end -->\n")[2]
        DOCS.write_text(f"{before}{mark}{tables}<!-- end -->\n{rest}")


if __name__ == "__main__":
    main()

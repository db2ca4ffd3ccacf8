"""Measure the parts of a job on many workers, and compute what 50,000 images cost on 64: the tables of docs/scaling.md.

    python tools/scaling.py [--shared ../shared] [--images 50000] [--workers 64] [--write]

Times are those of the processor, one thread, least of several rounds: a machine with other work to do changes them
little. Every pass goes as on a worker, reading and decoding included. The net is SqueezeNet beside the project.
"""

from __future__ import annotations

import argparse
import operator
import os
import pickle
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnxruntime

from ristretto.decide.plan import QuantPlan, Widths, dynamic_fixed_point_plan
from ristretto.graph.build import Simulation
from ristretto.pipeline import workers
from ristretto.pipeline.feed import Feed
from ristretto.pipeline.job import Job, open_job
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.pieces import Pieces
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.score import scored_blobs
from ristretto.pipeline.shards import Ran, Shard, Wanted, Work, forget, run_batches, shards_of
from ristretto.report.events import silent
from ristretto.runtime.work import Part, Task

DOCS = Path(__file__).parents[1] / "docs" / "scaling.md"
BATCHES = 4
ROUNDS = 3
MARKS = "<!-- measured -->", "<!-- end -->"
NETWORK = 1e9 / 8
"""Bytes per second of the slowest network that is reckoned with."""


@dataclass(frozen=True)
class Net:
    """What one number format costs.

    Attributes:
        start_s: to build the net and load it as a session.
        image_s: for an image, reading included.
    """

    start_s: float
    image_s: float


def processor_time(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The least processor time of an action."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def measured(job: Job, plan: QuantPlan) -> tuple[Net, Runner, list[Ran]]:
    """A plan's format, as a worker runs it with one thread."""
    finals = [job.net.finals[blob] for blob in scored_blobs(job.net, None)]
    verdicts = job.scoring.verdicts()
    wanted = Wanted(tuple(finals), verdicts)
    outputs = list(dict.fromkeys([*finals, *(verdicts.values if verdicts is not None else ())]))
    simulation = Simulation(plan.layers)
    runner = Runner(job.net, job.weights, outputs, (), simulation, threads=1)

    def begun() -> Pieces:
        pieces = Pieces(replace(runner, _loaded={}))
        list(run_batches(pieces, [few], wanted, 0))
        return pieces

    few = {blob: array[:2] for blob, array in next(iter(job.feed.batches())).items()}
    pieces = begun()
    start = processor_time(begun) - processor_time(lambda: list(run_batches(pieces, [few], wanted, 0)))
    ran: list[Ran] = []

    def some() -> None:
        ran[:] = run_batches(pieces, section(job.feed), wanted, 0)

    taken = processor_time(some)
    return Net(start, taken / sum(each.images for each in ran)), runner, ran


def section(feed: Feed) -> Any:
    """Some batches, read anew."""
    return feed.section(BATCHES, 0, BATCHES, feed.picker(BATCHES))


def process_start() -> float:
    """The processor time that a worker takes until it can begin."""
    code = "import ristretto.pipeline.shards, time; print(time.process_time())"
    found = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in "123"]
    return min(found)


def dask_task() -> float:
    """The wall time of a task that does nothing, of 1000 on a local cluster of two workers."""
    import distributed

    from ristretto.runtime.dask_pool import DaskPool

    local: Any = distributed.LocalCluster  # it has no types
    with local(2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50) as cluster:
        pool = DaskPool(cluster.scheduler_address, workers.versions, forget)
        part = Part.of(list(range(1000)))
        times = []
        for _ in range(ROUNDS):
            given = [Task.of(operator.is_, number, (part,), number) for number in range(1000)]
            start = time.perf_counter()
            list(pool.run(given))
            times.append((time.perf_counter() - start) / len(given))
        pool.close()
    return min(times)


def tables(shared: Path, images: int, count: int) -> str:
    """The measured parts and the computed job."""
    folder = shared / "models" / "squeezenet_v1.0"
    model, weights_file = folder / "train_val.prototxt", folder / "squeezenet_v1.0.caffemodel"
    options = QuantizeOptions(
        model, (weights_file,), iterations=BATCHES, threads=1, cache_mb=0, cache_disk_mb=0, data_root=shared.parent
    )
    start = time.process_time()
    job = open_job(options, silent)
    opening = time.process_time() - start
    start = time.process_time()
    ranges = job.ranges()
    sites = job.sites(ranges)
    calibration = time.process_time() - start
    scheme = options.scheme
    plans = {
        "float": QuantPlan(),
        "weights at 8 bits": job.candidate(dynamic_fixed_point_plan(sites, Widths(8, 8, None), scheme)),
        "activations at 16 bits": job.candidate(dynamic_fixed_point_plan(sites, Widths(None, None, 16), scheme)),
        "activations at 8 bits": job.candidate(dynamic_fixed_point_plan(sites, Widths(None, None, 8), scheme)),
        "all at 8 bits": job.candidate(dynamic_fixed_point_plan(sites, Widths(8, 8, 8), scheme)),
    }
    found = {name: measured(job, plan) for name, plan in plans.items()}
    _, runner, ran = found["all at 8 bits"]
    reading = processor_time(lambda: list(section(job.feed))) / (BATCHES * job.feed.batch_size)
    assert job.feed.recipe is not None
    bare = replace(runner, weights=None, _loaded={}, integer={})
    work = Part.of(Work(bare, Wanted(tuple(runner.outputs)), job.feed.recipe, None, (), 0))
    weights = Part.of(job.weights)
    call = Task.of(operator.is_, Shard((work.digest, weights.digest), 0, 4), (work, weights), 0).call
    worker, task = process_start(), dask_task()
    batch = job.feed.batch_size
    shards = shards_of(-(-images // batch), count)
    answer = len(pickle.dumps(ran[: shards[0][1]]))
    rounds = -(-len(shards) // count)
    each = min(images, rounds * shards[0][1] * batch)
    sending = count * (len(weights.content) + len(work.content)) / NETWORK
    lines = [
        f"Machine: {os.cpu_count()} logical processors ({platform.machine()}), Python {platform.python_version()}, "
        f"onnxruntime {onnxruntime.__version__}. SqueezeNet v1.0, batches of {batch}, one thread a worker.",
        "",
        "| format | session, s | an image, ms |",
        "| --- | --- | --- |",
        *(f"| {name} | {net.start_s:.2f} | {1e3 * net.image_s:.1f} |" for name, (net, _, _) in found.items()),
        "",
        "| part | measured |",
        "| --- | --- |",
        f"| reading and decoding an image (in the figures above) | {1e3 * reading:.2f} ms |",
        f"| starting a worker process, imports included | {worker:.1f} s |",
        f"| opening the job | {opening:.1f} s |",
        f"| ranges and integer lengths from {options.calibration_batches} TRAIN batches | {calibration:.0f} s |",
        f"| weights, sent to a worker once | {len(weights.content) / 1e6:.2f} MB |",
        f"| the net and its formats, once for a pass | {len(work.content) / 1e3:.0f} KB |",
        f"| a task; what it brings back | {len(call)} bytes; {answer / 1e3:.1f} KB |",
        f"| a Dask task that does nothing | {1e3 * task:.1f} ms |",
        "",
        f"Computed for {images} images: {len(shards)} shards of {shards[0][1]} batches, so the busiest of {count} "
        f"workers runs {each} images.",
        "",
        f"| pass | times | in one process, s | on {count} workers, s |",
        "| --- | --- | --- | --- |",
    ]
    passes = {
        "float": 1, "weights at 8 bits": 4, "activations at 16 bits": 1, "activations at 8 bits": 2, "all at 8 bits": 1,
    }  # fmt: skip
    alone = together = opening + calibration
    for name, times in passes.items():
        net = found[name][0]
        here = net.start_s + images * net.image_s
        there = net.start_s + each * net.image_s + len(shards) * task
        lines.append(f"| {name} | {times} | {here:.0f} | {there:.1f} |")
        alone, together = alone + times * here, together + times * there
    extra = worker + sending
    lines += [
        f"| opening and calibration, here | 1 | {opening + calibration:.0f} | {opening + calibration:.0f} |",
        f"| workers start, weights and net are sent (1 Gbit/s, one after the other) | 1 | | {extra:.1f} |",
        f"| the job | | {alone:.0f} | {together + extra:.0f} |",
        "",
        f"That is {alone / (together + extra):.0f} times as fast; of the time on {count} workers calibration takes "
        f"{100 * (opening + calibration) / (together + extra):.0f} %. Scoring alone is "
        f"{(alone - opening - calibration) / (together + extra - opening - calibration):.0f} times as fast.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and with --write put the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/scaling.md")
    asked = parser.parse_args()
    text = tables(asked.shared, asked.images, asked.workers)
    print(text)
    if asked.write:
        page = DOCS.read_text()
        head, rest = page.split(MARKS[0])
        _, tail = rest.split(MARKS[1])
        DOCS.write_text(f"{head}{MARKS[0]}\n{text}\n{MARKS[1]}{tail}")


if __name__ == "__main__":
    main()

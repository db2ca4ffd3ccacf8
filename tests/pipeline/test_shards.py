"""A pass that workers share gives what it gives in one process, to the last bit."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.errors import DataError, UsageError
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline import prefix, shards, workers
from ristretto.pipeline.evaluate import NetOptions, evaluate
from ristretto.pipeline.quantize import QuantizeOptions, quantize
from ristretto.pipeline.shards import shards_of
from ristretto.report.events import BatchDone, Event
from ristretto.runtime.local_pool import LocalPool
from ristretto.runtime.work import Pool, Task
from tests.cli.runner import ristretto
from tests.runtime import tasks

MODELS = Path(__file__).parents[2] / "models"
LENET = MODELS / "digits_lenet"
RESNET = MODELS / "digits_resnet"


def options(net: Path, **more: Any) -> QuantizeOptions:
    weights = (net / f"{net.name}.caffemodel",)
    common: dict[str, Any] = {"data_root": MODELS, "iterations": None, "error_margin": 1.0, "calibration_batches": 4}
    return QuantizeOptions(net / "train_val.prototxt", weights, **{**common, **more})


@contextmanager
def using(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> Iterator[list[Task]]:
    """Run jobs on a pool that stays; yields the tasks that it was given."""
    given: list[Task] = []

    class Kept:
        workers, threads = pool.workers, pool.threads

        def run(self, tasks: list[Task]) -> Iterator[tuple[int, Any]]:
            given.extend(tasks)
            return pool.run(tasks)

        def close(self) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(workers, "LocalPool", lambda count: Kept())
        yield given


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    made = LocalPool(2)
    yield made
    made.close()


def job(asked: QuantizeOptions) -> tuple[dict[str, Any], list[Event]]:
    """What a job found, without the time it took, and what was heard of its batches."""
    heard: list[Event] = []
    report = quantize(asked, heard.append)
    scored = {
        name: (found.score, found.outputs, found.images, None if found.right is None else found.right.tolist())
        for name, found in (("baseline", report.baseline), ("combined", report.combined))
    }
    batches = [event for event in heard if isinstance(event, BatchDone)]
    return {**scored, "ladders": report.ladders, "plan": report.plan, "layers": report.layers}, batches


@pytest.mark.parametrize(
    ("net", "more"),
    [
        (LENET, {}),  # all images: the last batch is smaller; FC candidates begin halfway
        (LENET, {"iterations": 15, "rounding": Rounding.HALF_AWAY}),  # wraps around
        (LENET, {"trimming_mode": "minifloat", "ladder": (16, 8), "iterations": 5}),
        (RESNET, {"iterations": 5, "ladder": (8, 4), "threads": 2}),
        (RESNET, {"fast": True, "ladder": (8, 2)}),
        (LENET, {"search": "mixed", "iterations": 5, "rounding_images": 50}),
        (LENET, {"score": "ip2", "iterations": 3, "ladder": (8, 4)}),  # agreement with the float net
    ],
    ids=["all", "wrapped", "minifloat", "threads", "fast", "mixed", "agreement"],
)
def test_jobs_are_the_same(monkeypatch: pytest.MonkeyPatch, pool: LocalPool, net: Path, more: dict[str, Any]) -> None:
    expected = job(options(net, **more))
    with using(monkeypatch, pool) as given:
        found = job(options(net, **more, workers=2))
    assert len(given) > 4
    assert found == expected


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_scores_are_the_same_for_any_threads(monkeypatch: pytest.MonkeyPatch, pool: LocalPool, threads: int) -> None:
    net = NetOptions(RESNET / "train_val.prototxt", (RESNET / "digits_resnet.caffemodel",), data_root=MODELS)
    expected = evaluate(net, None).scored.outputs
    with using(monkeypatch, pool) as given:
        assert evaluate(replace(net, threads=threads, workers=2), None).scored.outputs == expected
    assert given


def test_integers_are_counted(monkeypatch: pytest.MonkeyPatch, pool: LocalPool, tmp_path: Path) -> None:
    quantized = tmp_path / "q.prototxt"
    quantize(
        options(RESNET, model_quantized=quantized, bw_conv_params=8, bw_fc_params=8, bw_activations=8, iterations=1)
    )
    net = NetOptions(quantized, (RESNET / "digits_resnet.caffemodel",), data_root=MODELS, arithmetic=Arithmetic.INTEGER)
    expected = evaluate(net, 4)
    with using(monkeypatch, pool) as given:
        found = evaluate(replace(net, workers=2), 4)
    assert given
    assert len(expected.integer_layers) > 3
    assert (found.integer_layers, found.scored.outputs) == (expected.integer_layers, expected.scored.outputs)


def test_npz_files_and_scripts(monkeypatch: pytest.MonkeyPatch, pool: LocalPool, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data = {"data": rng.integers(0, 17, (130, 1, 16, 16)).astype(np.float32), "label": rng.integers(0, 10, 130)}
    np.savez(tmp_path / "some.npz", **data)
    script = "import numpy as np\ndef right(batches):\n" \
        "    return np.mean(np.concatenate([b['ip2'].argmax(1) == b['label'] for b in batches]))\n"  # fmt: skip
    (tmp_path / "metric.py").write_text(script)
    net = NetOptions(LENET / "train_val.prototxt", (LENET / "digits_lenet.caffemodel",), inputs=Path("some.npz"))
    monkeypatch.chdir(tmp_path)
    for score_script in (None, "metric.py:right"):
        if score_script is not None:
            text = (LENET / "train_val.prototxt").read_text()
            (tmp_path / "plain.prototxt").write_text(text[: text.index('layer {\n  name: "accuracy"')])
            net = replace(net, model=tmp_path / "plain.prototxt")
        expected = evaluate(net, None, score_script=score_script).scored
        with using(monkeypatch, pool) as given:
            found = evaluate(replace(net, workers=2), None, score_script=score_script).scored
        assert given
        assert (found.outputs, found.images) == (expected.outputs, expected.images)


def test_random_numbers_stay_at_home(monkeypatch: pytest.MonkeyPatch, pool: LocalPool) -> None:
    """Those of a batch follow from the batches before it, so only the float net is scored elsewhere."""
    asked = options(LENET, iterations=4, rounding=Rounding.STOCHASTIC, bw_conv_params=4, bw_fc_params=4, ladder=(8,))
    expected = job(asked)
    with using(monkeypatch, pool) as given:
        assert job(replace(asked, workers=2)) == expected
    assert len(given) == len(shards_of(4, 2)), "the TRAIN net has dropout"


def test_what_is_too_much_to_keep_does_not_come_back(monkeypatch: pytest.MonkeyPatch, pool: LocalPool) -> None:
    expected = job(options(LENET, iterations=4))
    monkeypatch.setattr("ristretto.pipeline.score.PREFIX_BYTES", 1000)
    monkeypatch.setattr(prefix, "PREFIX_BYTES", 1000)
    with using(monkeypatch, pool) as given:
        assert job(options(LENET, iterations=4, workers=2)) == expected
    assert len(given) > 6 * len(shards_of(4, 2)), "those of the FC weights with them"


def test_a_worker_killed_midway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = job(options(RESNET, ladder=(8, 4)))
    monkeypatch.setenv(tasks.WORN, str(tmp_path))
    monkeypatch.setattr(shards, "run_shard", tasks.shard_of_a_dying_worker)
    assert job(options(RESNET, ladder=(8, 4), workers=2)) == expected
    assert (tmp_path / "mark").exists()


def test_a_cluster_with_a_worker_killed_midway(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its workers run in another folder than the job, which names its data by relative paths."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setenv(tasks.WORN, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with (
        distributed.LocalCluster(
            2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as watching,
    ):
        watching.wait_for_workers(2)
        monkeypatch.chdir(MODELS)
        files = (
            "--model", "digits_lenet/train_val.prototxt", "--weights", "digits_lenet/digits_lenet.caffemodel",
            "--trimming_mode", "dynamic_fixed_point", "--iterations", "all", "--error_margin", 1, "--ladder", "8,4",
        )  # fmt: skip
        alone = ristretto(capsys, "quantize", *files, "--model_quantized", tmp_path / "alone.prototxt")
        monkeypatch.setattr(shards, "run_shard", tasks.shard_of_a_dying_worker)
        address = ("--scheduler", cluster.scheduler_address)
        shared = ristretto(capsys, "quantize", *files, *address, "--model_quantized", tmp_path / "shared.prototxt")
        assert (tmp_path / "mark").exists()
        for _ in range(600):  # a machine may have much else to do
            left = watching.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
            held = watching.run(held_by_a_worker)
            if not left and not any(held.values()):
                break
            time.sleep(0.05)
    assert (alone.status, shared.status) == (0, 0), shared.err
    assert messages(shared.err) == messages(alone.err)
    assert (tmp_path / "shared.prototxt").read_bytes() == (tmp_path / "alone.prototxt").read_bytes()
    assert left == []
    assert set(held.values()) == {0}, "what workers held for the job"


def held_by_a_worker() -> int:
    return len(shards._benches) + len(shards._caches)


def messages(log: str) -> list[str]:
    """The lines of a log without time and process."""
    return [re.sub(r"^([IW])\d{4} [\d:.]+ +\d+ ", r"\1", line) for line in log.splitlines()]


def test_data_that_workers_cannot_open(monkeypatch: pytest.MonkeyPatch, pool: LocalPool, tmp_path: Path) -> None:
    """The file was there when the job opened it, and is gone when the workers do."""
    path = tmp_path / "some.npz"
    np.savez(path, data=np.zeros((130, 1, 16, 16), np.float32), label=np.zeros(130, np.float32))
    original = shards.dispatched

    def late(*arguments: Any) -> Any:
        path.unlink(missing_ok=True)
        return original(*arguments)

    monkeypatch.setattr("ristretto.pipeline.score.dispatched", late)
    net = NetOptions(LENET / "train_val.prototxt", (LENET / "digits_lenet.caffemodel",), inputs=path, workers=2)
    message = rf"{path}: the worker on \S+ \(process \d+\) cannot open the data: .*; .* mount it on every machine"
    with using(monkeypatch, pool), pytest.raises(DataError, match=message):
        evaluate(net, None)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"workers": 2, "scheduler": "tcp://x:1"}, "--workers and --scheduler exclude each other"),
        ({"workers": 2, "gpu": "0"}, "--gpu and --workers exclude each other"),
        ({"scheduler": "tcp://x:1", "gpu": "0"}, "--gpu and --scheduler exclude each other"),
        ({"workers": -1}, "workers cannot be -1; use a number from 0 to 1024"),
    ],
)
def test_contradictions(wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        quantize(options(LENET, **wishes))


@given(batches=st.integers(1, 5000), count=st.integers(1, 300), most=st.integers(1, 20))
def test_shards_cover_a_pass(batches: int, count: int, most: int) -> None:
    found = shards_of(batches, count, most)
    assert [number for first, size in found for number in range(first, first + size)] == list(range(batches))
    assert all(1 <= size <= most for _, size in found)
    assert len(found) >= min(batches, count)

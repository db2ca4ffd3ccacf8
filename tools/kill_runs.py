"""Ends real runs at random moments, and looks at what they leave.

Each run is a command with all its outputs on the digits nets, in a folder that is empty or holds the outputs of an
earlier run. After a random part of its usual time, or as soon as its outputs change, it is killed (SIGKILL, alone or
with its process group) or asked to end (SIGINT, SIGTERM). Then no process of it may live, every output is whole, old or
absent, none old beside a new one; and the next run (``--resume`` where there is one) gives what an undisturbed run
gives, times aside, and leaves no temporary file.

    nice python tools/kill_runs.py --runs 200 --seed 1
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
LENET, RESNET = MODELS / "digits_lenet", MODELS / "digits_resnet"
MARK = "RISTRETTO_KILL_RUN"
"""The variable that marks all processes of a run, however they were started."""

_NET = ("--model", str(LENET / "train_val.prototxt"), "--weights", str(LENET / "digits_lenet.caffemodel"))
_DATA = ("--data-root", str(MODELS))
_MODE = ("--trimming_mode", "dynamic_fixed_point", "--error_margin", "1")
_SHORT = ("--iterations", "2", "--calibration_batches", "2", "--rounding_images", "20", "--ladder", "8,4")
_ALL = (
    "--model_quantized", "q.prototxt", "--weights_quantized", "q.caffemodel", "--save_ranges", "ranges.json",
    "--also", f"{LENET / 'deploy.prototxt'}=also.prototxt", "--report", "report.json", "--html", "page.html",
)  # fmt: skip
_ALL_FILES = ("q.prototxt", "q.caffemodel", "ranges.json", "also.prototxt", "report.json", "page.html")

_BATCH = f"""root: {MODELS}
defaults: {{model: digits_lenet/train_val.prototxt, weights: digits_lenet/digits_lenet.caffemodel, data_root: {MODELS},
           trimming_mode: dynamic_fixed_point, iterations: 1, calibration_batches: 1, error_margin: 1}}
jobs:
  - name: ladder
  - {{name: fixed, bw_conv_params: 8, bw_fc_params: 8, bw_activations: 8}}
"""
_SOLVER = """net: "q.prototxt"
base_lr: 0.001
lr_policy: "fixed"
display: 5
max_iter: 12
snapshot: 4
snapshot_prefix: "s"
"""


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        words: its command line, run in a folder of its own.
        outputs: the files or folders that appear together.
        again: what is added for the run after the killed one.
        given: files that it reads, by name.
        prepared: a command that makes another one.
        share: how many of the runs are of it, in comparison.
    """

    words: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    prepared: tuple[str, ...] = ()
    share: int = 1


_QUANTIZED = ("quantize", *_NET, *_DATA, *_MODE, "--iterations", "1", "--calibration_batches", "1", "--bw_conv_params",
              "8", "--bw_fc_params", "8", "--bw_activations", "8", "--model_quantized", "q.prototxt")  # fmt: skip

JOBS = {
    "quantize": Job(
        ("quantize", *_NET, *_DATA, *_MODE, *_ALL, *_SHORT),
        _ALL_FILES,
        ("--resume",),
        share=6,
    ),
    "quantize, workers": Job(
        ("quantize", *_NET, *_DATA, *_MODE, *_ALL, *_SHORT, "--workers", "2"),
        _ALL_FILES,
        ("--resume",),
    ),
    "quantize, mixed": Job(
        ("quantize", "--model", str(RESNET / "train_val.prototxt"), "--weights",
         str(RESNET / "digits_resnet.caffemodel"), *_DATA, *_MODE, *_ALL[:6], *_ALL[8:], "--iterations", "1",
         "--calibration_batches", "1", "--search", "mixed", "--min_bits", "6", "--rounding_images", "10"),
        tuple(name for name in _ALL_FILES if name != "also.prototxt"),
        ("--resume",),
    ),
    "batch": Job(("batch", "jobs.yaml", "--output", "out", "--jobs", "2"), given={"jobs.yaml": _BATCH}),
    "export hardware": Job(
        ("export", "--model", "q.prototxt", *_NET[2:], *_DATA, "--target", "hardware", "--output", "out", "--images",
         "2", "--force"),
        ("out",),
        prepared=_QUANTIZED,
    ),
    "export onnx-int8": Job(
        ("export", "--model", "q.prototxt", *_NET[2:], *_DATA, "--target", "onnx-int8", "--output", "out", "--images",
         "20", "--force"),
        ("out",),
        prepared=_QUANTIZED,
    ),
    "fold": Job(
        ("fold", "--model", str(RESNET / "train_val.prototxt"), "--weights", str(RESNET / "digits_resnet.caffemodel"),
         "--output", "folded.prototxt", "--output-weights", "folded.caffemodel"),
        ("folded.prototxt", "folded.caffemodel"),
    ),
    "finetune": Job(
        ("finetune", "--solver", "solver.prototxt", *_NET[2:], *_DATA, "--threads", "1", "--output", "t.caffemodel",
         "--report", "t.json", "--plot", "t.svg"),
        ("t.caffemodel", "t.json", "t.svg"),
        ("--resume",),
        {"solver.prototxt": _SOLVER},
        _QUANTIZED,
    ),
}  # fmt: skip

Content = dict[str, object]


@dataclass(frozen=True)
class Undisturbed:
    """What a job gives when nothing happens to it: all files of its folder, and the seconds it takes."""

    content: Content
    seconds: float


class Wrong(Exception):  # noqa: N818 - it is what was found, no error of this program
    """What a killed run should not have left."""


def started(words: Sequence[str], folder: Path, mark: str) -> subprocess.Popen[bytes]:
    """Start the program in a folder, with a process group and temporary files of its own."""
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {**os.environ, MARK: mark, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT)}
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "ristretto", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def prepare(job: Job, folder: Path) -> None:
    """Make a folder with what a job reads."""
    folder.mkdir(parents=True)
    for name, text in job.given.items():
        (folder / name).write_text(text)
    if job.prepared and started(job.prepared, folder, "").wait():
        raise Wrong((folder / "said.txt").read_text())


_OF_OTHERS = ("said.txt", "tmp/.ses")
"""What a run said, and what onnxruntime writes when it is loaded."""


def content_of(folder: Path) -> Content:
    """All files of a folder, hidden ones too, without what tells times."""
    found: Content = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in _OF_OTHERS and path.name != "log.txt":
            found[name] = _timeless(path)
    return found


def _timeless(path: Path) -> object:
    data = path.read_bytes()
    if path.suffix == ".json":
        return _without_times(json.loads(data))
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(data.decode()))
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    return re.sub(rb"[\d.]+ (ms|s|min|T)\b", b"", data) if path.suffix == ".html" else data


_TIMES = ("seconds", "speed", "inputs")


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in _TIMES}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def undisturbed(job: Job, folder: Path) -> Undisturbed:
    """Run a job to its end."""
    prepare(job, folder)
    start = time.monotonic()
    status = started(job.words, folder, "").wait()
    if status != 0:
        raise Wrong(f"status {status}: {(folder / 'said.txt').read_text()}")
    return Undisturbed(content_of(folder), time.monotonic() - start)


def processes_of(mark: str) -> list[int]:
    """The living processes of a run."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                variables = (place / "environ").read_bytes().split(b"\0")
                dead = (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                if f"{MARK}={mark}".encode() in variables and not dead:
                    found.append(int(place.name))
    return found


def is_output(name: str, job: Job) -> bool:
    """Whether a file is an output of a job, or in one."""
    return any(name == output or name.startswith(f"{output}/") for output in job.outputs)


def put_old(job: Job, folder: Path, whole: Path) -> Content:
    """Put the outputs of an earlier run into a folder: those of a whole one, each with a line more."""
    for path in sorted(whole.rglob("*")):
        name = path.relative_to(whole).as_posix()
        if path.is_file() and is_output(name, job):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_older(path.read_bytes()))
    return {name: value for name, value in content_of(folder).items() if is_output(name, job)}


def _older(data: bytes) -> bytes:
    if data.startswith(b"{"):
        return b'{"old": 1,' + data.lstrip()[1:]
    return data + b"\n"


def of_a_stopped_training(found: Content) -> set[str]:
    """What a training that was asked to end leaves as Caffe does: a snapshot of where it stood, a report, a curve.

    Raises:
        Wrong: the report names a snapshot that is not there.
    """
    report = found.get("t.json")
    if not (isinstance(report, dict) and report.get("interrupted")):
        return set()
    stem = str(report["weights"]).removesuffix(".caffemodel")
    left = {"t.json", "t.svg", *(f"{stem}{end}" for end in (".caffemodel", ".solverstate", ".training.json"))}
    if missing := left - found.keys():
        raise Wrong(f"the report of a stopped training names {stem}, there is no {', '.join(missing)}")
    return left


def check_outputs(job: Job, found: Content, old: Content, new: Content) -> str:
    """Say in a word what outputs there are.

    Raises:
        Wrong: one is neither old nor new, or there are both.
    """
    outputs = {name: value for name, value in found.items() if is_output(name, job)}
    kinds = set()
    for name, value in outputs.items():
        if name in new and value == new[name]:
            kinds.add("new")
        elif name in old and value == old[name]:
            kinds.add("old")
        else:
            raise Wrong(f"{name} is neither old nor new")
    if len(kinds) > 1:
        raise Wrong(f"old ones beside new ones: {sorted(outputs)}")
    wanted = [name for name in new if is_output(name, job)]
    some = " in part" if outputs and len(outputs) < len(wanted) else ""
    return f"{kinds.pop() if kinds else 'none'}{some}"


def left_over(found: Content) -> list[str]:
    """Temporary files."""
    return [name for name in found if name.startswith("tmp/") or re.search(r"(^|/)\.", name)]


def wait_for_change(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until something in a folder appears or disappears, but for finished scores, or until a process ends."""

    def names() -> set[str]:
        found = {path.name for path in folder.iterdir()}
        return {name for name in found if not name.endswith(".scores") and ".scores." not in name}

    before = names()
    while process.poll() is None and names() == before:
        time.sleep(0.0002)


class Runs:
    """Runs that are ended, one after the other.

    Attributes:
        place: where their folders are made.
        chance: what decides.
        told: how many runs ended in which way.
    """

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.chance = random.Random(seed)
        self.told: Counter[str] = Counter()
        self.left = 0
        self._whole: dict[str, Undisturbed] = {}
        self._seconds: dict[str, float] = {}

    def whole(self, name: str) -> Undisturbed:
        """An undisturbed run, once for each job; the second one tells the time, as files are read before."""
        if name not in self._whole:
            undisturbed(JOBS[name], self.place / f"first {name}")
            self._whole[name] = undisturbed(JOBS[name], self.place / f"whole {name}")
            first = content_of(self.place / f"first {name}")
            if first != self._whole[name].content:
                wrong = [file for file, value in self._whole[name].content.items() if first.get(file) != value]
                raise Wrong(f"{name}: two undisturbed runs differ in {', '.join(wrong)}")
        return self._whole[name]

    def one(self, number: int, name: str) -> str:
        """End one run, look at what it leaves, and let the next one go on."""
        job, whole = JOBS[name], self.whole(name)
        folder = self.place / str(number)
        prepare(job, folder)
        with_old = bool(job.outputs) and self.chance.random() < 0.5
        old = put_old(job, folder, self.place / f"whole {name}") if with_old else {}
        how, group = self._how()
        usual = self._seconds.get(name, whole.seconds)
        delay = self.chance.choice([self.chance.uniform(0, usual), usual - self.chance.uniform(0, 0.5), None])
        mark = f"{os.getpid()}-{number}"
        start = time.monotonic()
        process = started(job.words, folder, mark)
        if delay is None:
            wait_for_change(folder, process)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(delay, 0))
        spent = time.monotonic() - start
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, how)
        else:
            self._seconds[name] = min(spent, usual)
        status = process.wait(timeout=60)
        self._check_ended(mark)
        said = (folder / "said.txt").read_text(errors="replace")
        if status not in (0, -how, 128 + how) or "Traceback" in said or "our fault" in said:
            raise Wrong(f"status {status} after {signal.Signals(how).name}: {said[-2000:]}")
        found = content_of(folder)
        stopped = set() if how == signal.SIGKILL else of_a_stopped_training(found)
        kind = check_outputs(job, {name: found[name] for name in found.keys() - stopped}, old, whole.content)
        left = left_over(found)
        self.left += bool(left)
        if left and how != signal.SIGKILL:
            raise Wrong(f"{signal.Signals(how).name} left {left}")
        if how != signal.SIGKILL and "part" in kind and not stopped:
            raise Wrong(f"{signal.Signals(how).name} left some outputs")
        self._go_on(job, folder, whole, number, stopped)
        ended = "ended by itself" if status == 0 else f"{signal.Signals(how).name}{' to the group' if group else ''}"
        self.told[ended] += 1
        return f"{name}: {ended} after {spent:.2f} of {usual:.2f} s; outputs: {kind}; left: {len(left)}"

    def _how(self) -> tuple[signal.Signals, bool]:
        return self.chance.choices(
            [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGINT, False), (signal.SIGTERM, False)],
            [6, 2, 1, 1],
        )[0]

    def _check_ended(self, mark: str) -> None:
        deadline = time.monotonic() + 20
        while living := processes_of(mark):
            if time.monotonic() > deadline:
                for pid in living:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise Wrong(f"{len(living)} processes outlived their parent")
            time.sleep(0.05)

    def _go_on(self, job: Job, folder: Path, whole: Undisturbed, number: int, stopped: set[str]) -> None:
        status = started((*job.words, *job.again), folder, f"{number} again").wait()
        if status != 0:
            raise Wrong(f"the next run ended with {status}: {(folder / 'said.txt').read_text()[-2000:]}")
        found = content_of(folder)
        for name in stopped - whole.content.keys():  # a snapshot that an undisturbed run does not take
            found.pop(name, None)
        wrong = [name for name in {**found, **whole.content} if found.get(name) != whole.content.get(name)]
        if wrong:
            raise Wrong(f"after the next run these are not what an undisturbed one gives: {', '.join(wrong)}")
        shutil.rmtree(folder)


def main(words: Sequence[str] | None = None, tell: Callable[[str], object] = print) -> int:
    """End runs; 1 if one of them left what it should not have."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(JOBS), help="may be repeated")
    asked = parser.parse_args(words)
    # A shell's background jobs ignore SIGINT, and what they start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    names = asked.only or [name for name in JOBS if name != "finetune" or importlib.util.find_spec("torch")]
    wrong = 0
    with _folder() as place:
        runs = Runs(place, asked.seed)
        for number in range(asked.runs):
            name = runs.chance.choices(names, [JOBS[each].share for each in names])[0]
            try:
                tell(f"{number}: {runs.one(number, name)}")
            except Wrong as error:
                wrong += 1
                tell(f"{number}: {name}: WRONG: {error}")
        ends = ", ".join(f"{count} {end}" for end, count in runs.told.most_common())
        tell(f"{asked.runs} runs, {wrong} wrong; {ends}; {runs.left} left temporary files, which the next run removed")
    return 1 if wrong else 0


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ristretto-kill-") as name:
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main())

"""Running the jobs of ``ristretto batch``: a process for each, what is done already left alone."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from ristretto.atomic import atomic_write_text
from ristretto.cli.jobs_flags import Job
from ristretto.errors import RistrettoError
from ristretto.interpreter import python_command
from ristretto.version import VERSION

STATE, RESUME = "job.json", "--resume"

_CHILD = "from ristretto.cli.job_child import main; main()"

EXIT_MISTAKE, EXIT_MARGIN_MISSED = 2, 3

SECONDS_BETWEEN_SUMMARIES = 1.0
"""Thousands of jobs that were done before are told in no time."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job.

    Attributes:
        job: the job.
        report: its report, which is read only if the job is good.
        status: the exit status of its command; negative if a signal ended it, None if it did not run.
        seconds: how long it took.
        message: what it said of its failure.
    """

    job: Job
    report: Path
    status: int | None
    seconds: float = 0.0
    message: str = ""

    @property
    def good(self) -> bool:
        """Whether it came to its end; a margin may have been missed."""
        return self.status in (0, EXIT_MARGIN_MISSED)


def command_line(job: Job) -> list[str]:
    """The words after ``ristretto`` that run a job."""
    return [job.command, *job.arguments, *job.placed]


def shell_line(job: Job, root: Path) -> str:
    """The same for a shell, in the folder that the batch is in."""
    folders = sorted({str((root / path).parent) for path in job.outputs})
    line = shlex.join(["ristretto", *command_line(job)])
    if root.resolve() != Path.cwd():
        line = f"(cd {shlex.quote(str(root))} && {line})"
    return f"mkdir -p {shlex.join(folders)} && {line}"


@dataclass
class Batch:
    """Runs jobs.

    Attributes:
        jobs: the jobs.
        root: the folder that they run in.
        output: the folder for theirs.
        force: whether what is done is done again.
        stop_on_error: whether the first failure is the last job.
        tell: is told of every job that begins or ends.
    """

    jobs: Sequence[Job]
    root: Path
    output: Path
    force: bool = False
    stop_on_error: bool = False
    tell: Callable[[str], None] = lambda line: None
    _running: set[subprocess.Popen[str]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)
    _stopped: bool = False

    def run(self, at_a_time: int, finished: Callable[[Sequence[Done]], None]) -> list[Done]:
        """Run all jobs.

        Args:
            at_a_time: how many at most.
            finished: is given, again and again and at the end, what became of all so far, in the order of the file.

        Raises:
            BaseException: a signal stopped it; no command is left running.
            RistrettoError: what ``finished`` raises at the end.
        """
        results: dict[int, Done] = {}
        told = 0.0
        with ThreadPoolExecutor(at_a_time) as pool:
            waiting: dict[Future[Done], int] = {
                pool.submit(self._one, job): number for number, job in enumerate(self.jobs)
            }
            try:
                while waiting:
                    done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in done:
                        results[waiting.pop(future)] = future.result()
                    if done and time.monotonic() > told + SECONDS_BETWEEN_SUMMARIES:
                        with suppress(RistrettoError):  # a disk that is full now need not be so at the end
                            finished([results[key] for key in sorted(results)])
                        told = time.monotonic()
            except BaseException:
                self._stop()
                with suppress(RistrettoError):
                    finished([results[key] for key in sorted(results)])
                raise
        all_done = [results[key] for key in sorted(results)]
        finished(all_done)
        return all_done

    def _one(self, job: Job) -> Done:
        report = self.root / job.report
        try:
            return self._kept(job, report) or self._run(job, report)
        except (OSError, RistrettoError) as error:  # a full disk, a folder that is a file
            what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            self._stopped |= self.stop_on_error
            self.tell(f"{job.name}: failed")
            return Done(job, report, EXIT_MISTAKE, message=what)

    def _run(self, job: Job, report: Path) -> Done:
        if self._stopped:
            return Done(job, report, None, message="not run")
        self.tell(f"{job.name}: runs")
        folder = self.output / job.name
        for place in {folder, *((self.root / path).parent for path in job.outputs)}:
            place.mkdir(parents=True, exist_ok=True)
        (folder / STATE).unlink(missing_ok=True)
        before = self._found(job.inputs)
        start = time.perf_counter()
        status, said = self._ran_on(job, folder / "log.txt")
        done = Done(job, report, status, time.perf_counter() - start, "" if status in (0, 3) else said)
        self._stopped |= self.stop_on_error and not done.good
        if done.good:
            # What the file does not name, such as the LMDB of a data layer, the report tells.
            inputs = self._found(_named_inputs(read_json(report))) | before
            state = {**_wishes(job), "inputs": inputs, "status": status, "seconds": round(done.seconds, 3)}
            atomic_write_text(folder / STATE, json.dumps(state, indent=1) + "\n")
        self.tell(f"{job.name}: {'done' if done.good else 'failed'} after {done.seconds:.1f} s")
        return done

    def _ran_on(self, job: Job, log: Path) -> tuple[int, str]:
        """Run a job, from the scores on that it has left when it was stopped; from the start if they are of no use."""
        from ristretto.pipeline.finished import scores_file

        anew = [word for word in command_line(job) if word != RESUME]
        left = [file for file in map(scores_file, job.outputs) if (self.root / file).is_file()]
        if self.force or not left:
            return self._ran(anew, log)
        status, said = self._ran([*anew, RESUME], log)
        # Where a job cannot go on, the place of its mistake is the file of scores.
        if status == EXIT_MISTAKE and said.startswith(f"{left[0]}:"):
            return self._ran(anew, log)
        return status, said

    def _ran(self, words: Sequence[str], log: Path) -> tuple[int, str]:
        """Run a command with its log in a file; its exit status, and the last line that it said."""
        with log.open("w", encoding="utf-8") as errors:
            with self._lock:
                if self._stopped:
                    return -signal.SIGINT, "not run"
                # Ctrl-C reaches this process alone, which ends its jobs; the pipe ends with this process.
                process = subprocess.Popen(
                    [*python_command(_CHILD), *words],
                    cwd=self.root,
                    stdin=subprocess.PIPE,
                    stdout=errors,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
                self._running.add(process)
            status = process.wait()
            with self._lock:
                self._running.discard(process)
            if process.stdin is not None:
                process.stdin.close()
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = next((line for line in reversed(lines) if line.startswith("ristretto: ")), "")
        if status < 0:
            return status, f"ended by signal {-status} ({signal.Signals(-status).name}); its log is {log}"
        return status, said.removeprefix("ristretto: ") or f"its log is {log}"

    def _stop(self) -> None:
        """End what runs, and kill what does not end."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        try:
            for process in running:
                process.terminate()  # not SIGINT: a shell's background jobs ignore it
            deadline = time.monotonic() + 10
            while any(process.poll() is None for process in running) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:  # also when Ctrl-C is pressed again
            for process in running:
                process.kill()

    def _kept(self, job: Job, report: Path) -> Done | None:
        """What became of a job before, if nothing that it depends on has changed since."""
        state = None if self.force else read_json(self.output / job.name / STATE)
        if not isinstance(state, dict) or not all((self.root / path).is_file() for path in job.outputs):
            return None
        wishes = json.loads(json.dumps(_wishes(job)))
        if any(state.get(key) != value for key, value in wishes.items()):
            return None
        before, status, seconds = (state.get(key) for key in ("inputs", "status", "seconds"))
        if not isinstance(before, dict) or not isinstance(status, int) or not isinstance(seconds, (int, float)):
            return None
        if self._found(map(Path, {*before, *map(str, job.inputs)})) != before:
            return None
        self.tell(f"{job.name}: was done before")
        return Done(job, report, status, seconds)

    def _found(self, paths: Iterable[Path]) -> dict[str, list[int]]:
        """The size and time of each file that is there."""
        found = {}
        for path in paths:
            with suppress(OSError):
                facts = (self.root / path).stat()
                found[str(path)] = [facts.st_size, facts.st_mtime_ns]
        return found


def _wishes(job: Job) -> dict[str, Any]:
    return {"tool": VERSION, "command": job.command, "arguments": list(job.arguments)}


def _named_inputs(report: Any) -> list[Path]:
    """The files that a report says it was made from."""
    provenance = report.get("provenance") if isinstance(report, dict) else None
    return [Path(file["path"]) for file in provenance["files"]] if isinstance(provenance, dict) else []


def read_json(path: Path) -> Any:
    """The content of a file; None where there is none, or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None

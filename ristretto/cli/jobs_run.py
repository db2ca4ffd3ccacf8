"""Running the jobs of ``ristretto batch``: a process for each, what is done already left alone."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from ristretto.atomic import atomic_write_text
from ristretto.cli.jobs_file import Job, placed_flags
from ristretto.version import VERSION

STATE = "job.json"

EXIT_MARGIN_MISSED = 3


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job.

    Attributes:
        job: the job.
        folder: where its files are.
        status: the exit status of its command; negative if a signal ended it, None if it did not run.
        seconds: how long it took.
        message: what it said of its failure.
        kept: whether it had been done before.
    """

    job: Job
    folder: Path
    status: int | None
    seconds: float = 0.0
    message: str = ""
    kept: bool = False

    @property
    def good(self) -> bool:
        """Whether it came to its end; a margin may have been missed."""
        return self.status in (0, EXIT_MARGIN_MISSED)


def command_line(job: Job, folder: Path) -> list[str]:
    """The words after ``ristretto`` that run a job."""
    placed = [word for pair in placed_flags(job.command, folder.resolve()) for word in pair]
    return [job.command, *job.arguments, *placed]


def shell_line(job: Job, folder: Path, root: Path) -> str:
    """The same for a shell."""
    line = shlex.join(["ristretto", *command_line(job, folder)])
    return line if root.resolve() == Path.cwd() else f"(cd {shlex.quote(str(root))} && {line})"


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
            finished: is given, after each job, what became of all so far, in the order of the file.

        Raises:
            KeyboardInterrupt: the user stopped it; no command is left running.
        """
        results: dict[int, Done] = {}
        with ThreadPoolExecutor(at_a_time) as pool:
            waiting: dict[Future[Done], int] = {
                pool.submit(self._one, job): number for number, job in enumerate(self.jobs)
            }
            try:
                while waiting:
                    done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in done:
                        number = waiting.pop(future)
                        results[number] = future.result()
                        finished([results[key] for key in sorted(results)])
            except BaseException:
                self._stop()
                raise
        return [results[key] for key in sorted(results)]

    def folder(self, job: Job) -> Path:
        """Where the files of a job go."""
        return self.output / job.name

    def _one(self, job: Job) -> Done:
        folder = self.folder(job)
        if not self.force:
            kept = self._kept(job, folder)
            if kept is not None:
                self.tell(f"{job.name}: was done before")
                return kept
        if self._stopped:
            return Done(job, folder, None, message="not run")
        self.tell(f"{job.name}: runs")
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (folder / STATE).unlink()
        facts = self._facts(job, folder)
        start = time.perf_counter()
        status, said = self._ran(command_line(job, folder), folder / "log.txt")
        done = Done(job, folder, status, time.perf_counter() - start, "" if status in (0, 3) else said)
        self._stopped |= self.stop_on_error and not done.good
        if done.good:
            state = {**facts, "status": status, "seconds": round(done.seconds, 3)}
            atomic_write_text(folder / STATE, json.dumps(state, indent=1) + "\n")
        self.tell(f"{job.name}: {'done' if done.good else 'failed'} after {done.seconds:.1f} s")
        return done

    def _ran(self, words: Sequence[str], log: Path) -> tuple[int, str]:
        """Run a command with its log in a file; its exit status, and the last line that it said."""
        with log.open("w", encoding="utf-8") as errors:
            with self._lock:
                if self._stopped:
                    return -signal.SIGINT, "not run"
                # Ctrl-C reaches this process alone, which passes it on.
                process = subprocess.Popen(
                    [sys.executable, "-m", "ristretto", *words],
                    cwd=self.root,
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
                self._running.add(process)
            status = process.wait()
            with self._lock:
                self._running.discard(process)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = next((line for line in reversed(lines) if line.startswith("ristretto: ")), "")
        if status < 0:
            return status, f"ended by signal {-status} ({signal.Signals(-status).name}); its log is {log}"
        return status, said.removeprefix("ristretto: ") or f"its log is {log}"

    def _stop(self) -> None:
        """Interrupt what runs, and kill what does not end."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in running:
            process.kill()

    def _kept(self, job: Job, folder: Path) -> Done | None:
        """What became of a job before, if nothing that it depends on has changed since."""
        state = read_json(folder / STATE)
        if not isinstance(state, dict) or any(not path.is_file() for path in self._outputs(job, folder)):
            return None
        facts = json.loads(json.dumps(self._facts(job, folder)))
        if any(state.get(key) != value for key, value in facts.items()):
            return None
        return Done(job, folder, int(state["status"]), float(state["seconds"]), kept=True)

    def _outputs(self, job: Job, folder: Path) -> list[Path]:
        return [Path(path) for _, path in placed_flags(job.command, folder)]

    def _facts(self, job: Job, folder: Path) -> dict[str, Any]:
        """All that the result of a job follows from, as far as it can be seen from outside."""
        files = {}
        for path in job.inputs:
            with suppress(OSError):
                found = (self.root / path).stat()
                files[str(path)] = [found.st_size, found.st_mtime_ns]
        return {"tool": VERSION, "arguments": list(job.arguments), "command": job.command, "inputs": files}


def read_json(path: Path) -> Any:
    """The content of a file; None where there is none, or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None

"""No command opens a connection: each is run where every attempt is refused and written down."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runner import MODELS

GUARD = """
import os, sys

def refuse(event, arguments):
    if event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"}:
        pass
    elif event in {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}:
        if arguments[0].family == 1:  # AF_UNIX: inside this machine
            return
    else:
        return
    with open(os.environ["ATTEMPTS"], "a") as told:
        told.write(f"{event} {arguments}\\n")
    raise PermissionError(f"no network: {event}")

sys.addaudithook(refuse)
"""
"""A sitecustomize module: processes that are started find it too."""

NET = ["--model", MODELS / "digits_lenet" / "train_val.prototxt"]
NET += ["--weights", MODELS / "digits_lenet" / "digits_lenet.caffemodel", "--data-root", MODELS]
DEPLOY = MODELS / "digits_lenet" / "deploy.prototxt"
WEIGHTS = MODELS / "digits_lenet" / "digits_lenet.caffemodel"
FEW = ["--iterations", 2, "--bw_activations", 8, "--bw_conv_params", 8, "--bw_fc_params", 8]
TESTED = ["--model", "q.prototxt", "--weights", WEIGHTS, "--data-root", MODELS]

COMMANDS = {
    "quantize": ["quantize", *NET, *FEW, "--trimming_mode", "dynamic_fixed_point", "--model_quantized", "q.prototxt",
                 "--report", "r.json", "--html", "r.html", "--workers", 2],
    "test": ["test", *TESTED, "--iterations", 2, "--arithmetic", "integer", "--workers", 2],
    "run": ["run", *TESTED, "--outputs", "out.npz"],
    "compare": ["compare", *NET, "--against", "q.prototxt"],
    "inspect": ["inspect", "--model", DEPLOY, "--weights", WEIGHTS],
    "doctor": ["doctor", *NET],
    "report": ["report", "--report", "r.json", "--html", "again.html"],
    "verify": ["verify", "r.json"],
    "export": ["export", *TESTED, "--target", "onnx-int8", "--output", "int8"],
    "convert": ["convert", "--model", DEPLOY, "--weights", WEIGHTS, "--output", "net.onnx"],
    "demo": ["demo", "--output", "demo"],
    "batch": ["batch", "jobs.yaml", "--output", "jobs"],
    "completion": ["completion", "bash"],
}  # fmt: skip
"""In the order in which they need each other's results."""

JOBS = f"""
jobs:
  - {{name: one, model: {NET[1]}, weights: {WEIGHTS}, data_root: {MODELS}, trimming_mode: minifloat, iterations: 1}}
"""


def guarded(folder: Path) -> tuple[dict[str, str], list[str], Path]:
    """The environment, what a command line begins with, and the file of attempts."""
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD)
    attempts = folder / "attempts.txt"
    paths = [str(folder / "guard"), str(MODELS.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "ATTEMPTS": str(attempts)}
    apart = ["unshare", "--map-root-user", "--net"]
    allowed = (
        shutil.which("unshare") and subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0
    )
    return environment, apart if allowed else [], attempts


def test_the_guard_guards(tmp_path: Path) -> None:
    environment, _, attempts = guarded(tmp_path)
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "no network: socket.getaddrinfo" in done.stderr
    assert attempts.exists()


@pytest.mark.slow
def test_no_command_opens_a_connection(tmp_path: Path) -> None:
    """Also in a network namespace without any network, where the machine allows one: that holds for native code too."""
    environment, apart, attempts = guarded(tmp_path)
    (tmp_path / "jobs.yaml").write_text(JOBS)
    for name, words in COMMANDS.items():
        command = [*apart, sys.executable, "-m", "ristretto", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert not attempts.exists(), (name, attempts.read_text())
        assert done.returncode == 0, (name, done.stderr[-2000:])

"""Runs the program in a terminal of its own."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

COLOUR = re.compile(r"\x1b\[[\d;]*m")
"""What sets a colour or a style."""
ESCAPE = "\x1b"


def in_terminal(folder: Path, *arguments: object, **environment: str) -> tuple[int, str]:
    """The exit status, and all that the program writes to a terminal (stdout and stderr together)."""
    here, there = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "ristretto", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
        cwd=folder,
        env={**variables, "TERM": "xterm-256color", "COLUMNS": "100", **environment},
    ) as program:
        os.close(there)
        written = b""
        while True:
            try:
                piece = os.read(here, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not piece:
                break
            written += piece
        status = program.wait()
    os.close(here)
    return status, written.decode()

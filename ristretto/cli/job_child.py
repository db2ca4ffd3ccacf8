"""A command of ``ristretto batch`` in a process of its own, which ends when the batch ends, however that ends."""

from __future__ import annotations

import _thread
import os
import signal
import time
from threading import Thread

SECONDS_TO_TIDY_UP = 5


def _watch() -> None:
    """Wait for the end of stdin, whose other end is the batch's, and take it for SIGTERM."""
    # Not sys.stdin: its lock, held by a thread that waits, stops the interpreter from ending.
    while os.read(0, 4096):
        pass
    _thread.interrupt_main(signal.SIGTERM)
    time.sleep(SECONDS_TO_TIDY_UP)
    os._exit(128 + signal.SIGTERM)


def main() -> None:
    """Run the command that the arguments say."""
    from ristretto.cli.main import entry

    Thread(target=_watch, daemon=True).start()
    entry()

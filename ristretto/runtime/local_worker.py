"""A worker process: reads tasks from stdin, makes their calls, writes what becomes of them to stdout."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from collections import OrderedDict
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread
from typing import IO, NoReturn

from ristretto.runtime.work import attempt, packed

HELD_PARTS = 4
"""How many parts a worker keeps: the weights, and what the latest passes are."""

_LENGTH = struct.Struct("<Q")


def write_frame(stream: IO[bytes], content: bytes) -> None:
    """Write some bytes so that the other side knows where they end."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes:
    """Read them.

    Raises:
        EOFError: the other side is gone.
    """
    return _exactly(stream, _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0])


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


def main() -> None:
    """Serve until stdin ends, which it does however the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    tasks, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no result
    sys.stdout = sys.stderr
    frames: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read, args=(tasks, frames), daemon=True).start()
    try:
        _serve(frames, results)
    except BrokenPipeError:  # the parent is gone
        os._exit(1)


def _serve(frames: SimpleQueue[bytes], results: IO[bytes]) -> NoReturn:
    held: OrderedDict[str, object] = OrderedDict()
    while True:
        digests, call = pickle.loads(frames.get())
        missing = [digest for digest in digests if digest not in held]
        write_frame(results, pickle.dumps(missing))
        for digest in missing:
            held[digest] = pickle.loads(frames.get())
        outcome = attempt(call, _taken(held, digests))
        write_frame(results, packed(outcome))


def _taken(held: OrderedDict[str, object], digests: Sequence[str]) -> list[object]:
    """The parts of a task; the oldest others are given up."""
    for digest in digests:
        held.move_to_end(digest)
    while len(held) > max(HELD_PARTS, len(digests)):
        held.popitem(last=False)
    return [held[digest] for digest in digests]


def _read(tasks: IO[bytes], frames: SimpleQueue[bytes]) -> None:
    """Read ahead; when the parent is gone, whatever is being computed is of no use to anybody."""
    try:
        while True:
            frames.put(read_frame(tasks))
    except (EOFError, OSError):
        os._exit(1)

"""Signals that end the program: as exceptions, so that what is begun is tidied up."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(BaseException):
    """A signal that asks the program to end: a scheduler's, or that of a terminal that was closed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that shells give to a program which a signal has ended."""
        return 128 + self.number

    @property
    def name(self) -> str:
        """The signal's name."""
        return signal.Signals(self.number).name


STOPPED = (KeyboardInterrupt, Terminated)
"""What a person or a machine stops a command with."""


_AGAIN = 0.02
"""Seconds until a signal that came at a bad time is looked at again."""

_PATIENCE = 5.0
"""Seconds that an import is given for its end."""


def hear_signals() -> None:
    """Raise ``Terminated`` where these signals come, from here on; those that are ignored (nohup) stay so.

    While a module is imported a signal waits, Ctrl-C too, for some seconds at most: what is written in C and falls out
    of its initialization makes another error of the exception, or crashes.
    """
    first = math.inf

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        first = min(first, time.monotonic())
        if _imports(frame) and time.monotonic() < first + _PATIENCE:
            timer = threading.Timer(_AGAIN, _send, [number])
            timer.daemon = True
            timer.start()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Terminated(number)

    for number in _ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, stop)
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
        signal.signal(signal.SIGINT, stop)


def _send(number: int) -> None:
    """The signal once more, to the main thread where that can be said: a call that it waits in is to end of it."""
    ident = threading.main_thread().ident
    if ident is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(ident, number)
    else:
        signal.raise_signal(number)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is imported at present, below a frame or further down."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False

"""Moments that a signal must not cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_HELD = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals that would end the program come after the block, which is to be short.

    Python hears signals in its main thread alone, so other threads have nothing to hold.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in _HELD}
    # None is a handler that was not set by Python: nothing could set it again.
    ours = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    try:
        for number in ours:
            signal.signal(number, lambda number, _frame: heard.append(number))
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        for number in heard[:1]:
            signal.raise_signal(number)

"""Signals that end the program: as exceptions, so that what is begun is tidied up."""

from __future__ import annotations

import signal

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


def hear_signals() -> None:
    """Raise ``Terminated`` where these signals come, from here on; those that are ignored (nohup) stay so."""

    def stop(number: int, _frame: object) -> None:
        raise Terminated(number)

    for number in _ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, stop)

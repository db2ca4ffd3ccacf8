"""What holds for all tests: signals do what they do in a terminal, also where a shell's background jobs ignore them."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take back the ignoring that nohup and ``&`` in scripts hand down, in xdist's workers too."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)

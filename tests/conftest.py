"""What holds for all tests.

Signals do what they do in a terminal, also where a shell's background jobs ignore them. Where tests run side by side,
each takes one thread unless it asks for more: more of them wait in loops, which costs a quarter more of the CPU.

What hypothesis draws is the same in each run, so that a failure tells of the change that it came with. With
``--hypothesis-profile=fresh`` it draws anew, to look for more.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.register_profile("fresh", derandomize=False, print_blob=True)
settings.load_profile("same")


def pytest_configure() -> None:
    """Set threads, and take back the ignoring that nohup and ``&`` in scripts hand down: in xdist's workers too."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        for name in ("RISTRETTO_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, "1")
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)

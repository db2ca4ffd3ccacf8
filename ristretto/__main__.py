"""The program: ``ristretto``, which calls ``entry``, and ``python -m ristretto``."""

import signal


def entry() -> None:
    """Run the program and exit."""
    # Until it hears signals itself there is nothing to tidy up: Ctrl-C ends it at once, and Python shows no traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ristretto.cli.main import entry as start

    start()


if __name__ == "__main__":
    entry()

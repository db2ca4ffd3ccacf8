"""Other processes of Python."""

from __future__ import annotations

import sys
from pathlib import Path

_SAME_PLACES = "import sys; sys.path[:] = sys.argv.pop(1).split('\\n')\n"


def python_command(code: str) -> list[str]:
    """The words that start a Python which runs code, and imports from where this one does.

    By itself it would look in the folder it is started in first, where a file of somebody else may be called like a
    module. Words that are added become its ``sys.argv[1:]``.
    """
    places = "\n".join(str(Path(place).absolute()) for place in sys.path)  # "" is the folder we are in
    return [sys.executable, "-c", _SAME_PLACES + code, places]

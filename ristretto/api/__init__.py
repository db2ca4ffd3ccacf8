"""The jobs of the command line as functions, with the same names and the same defaults.

Nothing is printed. Whatever a user can get wrong is raised as a ``RistrettoError`` whose text is the line that the
program would print. Heavy modules are imported when a function is called, so that ``import ristretto`` is quick.
"""

from __future__ import annotations

from ristretto.api.files import (
    apply,
    convert,
    convert_dialect,
    export_net,
    fold,
    init,
    inspect,
    upgrade,
    write_page,
    write_report,
)
from ristretto.api.nets import (
    compare,
    doctor,
    evaluate,
    finetune_net,
    load_net,
    quantize,
    run,
    verify,
)

__all__ = [
    "apply",
    "compare",
    "convert",
    "convert_dialect",
    "doctor",
    "evaluate",
    "export_net",
    "finetune_net",
    "fold",
    "init",
    "inspect",
    "load_net",
    "quantize",
    "run",
    "upgrade",
    "verify",
    "write_page",
    "write_report",
]

"""ristretto: turn a trained Caffe net into a fixed-point net that hardware can run.

The same jobs as on the command line, as functions (docs/python.md):

    import ristretto

    report = ristretto.quantize("train_val.prototxt", "net.caffemodel", model_quantized="quantized.prototxt")
    print(report.baseline.score, report.combined.score)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ristretto.api import (
    apply,
    compare,
    convert,
    convert_dialect,
    doctor,
    evaluate,
    export_net,
    finetune_net,
    fold,
    init,
    inspect,
    load_net,
    quantize,
    run,
    upgrade,
    verify,
    write_page,
    write_report,
)
from ristretto.errors import RistrettoError
from ristretto.version import VERSION

if TYPE_CHECKING:
    from ristretto import formats
    from ristretto.pipeline.net import Net
    from ristretto.report.model import Evaluation, Report

__version__ = VERSION

__all__ = [
    "Evaluation",
    "Net",
    "Report",
    "RistrettoError",
    "__version__",
    "apply",
    "compare",
    "convert",
    "convert_dialect",
    "doctor",
    "evaluate",
    "export_net",
    "finetune_net",
    "fold",
    "formats",
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

_LATER = {
    "Evaluation": "ristretto.report.model",
    "Net": "ristretto.pipeline.net",
    "Report": "ristretto.report.model",
    "formats": "ristretto.formats",
}
"""What needs numpy, which is imported only once it is asked for."""


def __getattr__(name: str) -> object:
    """Import what takes long when it is asked for."""
    if name not in _LATER:
        message = f"module 'ristretto' has no attribute '{name}'"
        raise AttributeError(message)
    import importlib

    module = importlib.import_module(_LATER[name])
    found: object = module if name == "formats" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """All public names, whether they were asked for or not."""
    return sorted({*globals(), *__all__})

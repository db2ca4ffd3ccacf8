"""ristretto: turn a trained Caffe net into a fixed-point net that hardware can run.

The same jobs as on the command line, as functions:

    import ristretto

    report = ristretto.quantize("train_val.prototxt", "net.caffemodel", model_quantized="quantized.prototxt")
    print(report.baseline.score, report.combined.score)
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ristretto.errors import RistrettoError, UsageError
from ristretto.version import VERSION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ristretto.report.model import Evaluation, Report

__version__ = VERSION

__all__ = ["RistrettoError", "__version__", "evaluate", "quantize", "run"]

PathLike = str | Path


def quantize(model: PathLike, weights: PathLike | Sequence[PathLike], **options: Any) -> Report:
    """Quantize a net; nothing is printed.

    Args:
        model: the float net's prototxt.
        weights: its weights file, or several, of which later ones override.
        **options: the fields of ``ristretto.pipeline.quantize.QuantizeOptions``, which are the flags of the command
            line: ``model_quantized``, ``iterations`` (None for all images), ``error_margin``, ``bw_activations`` ...

    Returns:
        what was found out, as frozen dataclasses.

    Raises:
        RistrettoError: a mistake in what was given.
    """
    from ristretto.pipeline.quantize import QuantizeOptions
    from ristretto.pipeline.quantize import quantize as quantize_net

    return quantize_net(QuantizeOptions(Path(model), _paths(weights), **_with_paths(options)))


def evaluate(
    model: PathLike,
    weights: PathLike | Sequence[PathLike] = (),
    iterations: int | None = 50,
    score: str | None = None,
    **options: Any,
) -> Evaluation:
    """Score a net, quantized or not; the library's form of ``ristretto test``.

    Args:
        model: the prototxt.
        weights: its weights file or files.
        iterations: batches to score; None scores every image once.
        score: the blob that decides; None takes the first output.
        **options: the fields of ``ristretto.pipeline.evaluate.NetOptions``.

    Raises:
        RistrettoError: a mistake in what was given.
    """
    from ristretto.pipeline.evaluate import NetOptions
    from ristretto.pipeline.evaluate import evaluate as evaluate_net

    return evaluate_net(NetOptions(Path(model), _paths(weights), **_with_paths(options)), iterations, score)


def run(
    model: PathLike,
    weights: PathLike | Sequence[PathLike] = (),
    blobs: Sequence[str] | None = None,
    batch: int = 0,
    **options: Any,
) -> dict[str, NDArray[np.floating]]:
    """Run one batch through a net and return its blobs by name: float32, or with ``arithmetic="float64"`` that.

    Args:
        model: the prototxt.
        weights: its weights file or files.
        blobs: the blobs wanted; None for the outputs, ("all",) for every one.
        batch: which batch of the net's own data.
        **options: the fields of ``ristretto.pipeline.evaluate.NetOptions``, such as ``inputs`` for an npz file.

    Raises:
        RistrettoError: a mistake in what was given.
    """
    from ristretto.pipeline.evaluate import NetOptions
    from ristretto.pipeline.evaluate import run as run_net

    chosen = None if blobs is None else tuple(blobs)
    return run_net(NetOptions(Path(model), _paths(weights), **_with_paths(options)), chosen, batch)


def _paths(weights: PathLike | Sequence[PathLike]) -> tuple[Path, ...]:
    given = [weights] if isinstance(weights, (str, Path)) else weights
    return tuple(map(Path, given))


def _with_paths(options: dict[str, Any]) -> dict[str, Any]:
    """Options whose paths and choices may be given as strings."""
    named = (
        "model_quantized",
        "weights_quantized",
        "inputs",
        "data_root",
        "overrides",
        "ranges",
        "save_ranges",
        "report",
    )
    given = {name: Path(value) if name in named and value is not None else value for name, value in options.items()}
    if "plugins" in given:
        plugins = given["plugins"]
        given["plugins"] = tuple(map(str, [plugins] if isinstance(plugins, (str, Path)) else plugins))
    for name in {"arithmetic", "rounding"} & given.keys():
        given[name] = _choice(name, given[name])
    return given


def _choice(name: str, value: object) -> Enum:
    """The choice that a string stands for: elsewhere choices are told apart by identity, which no string has."""
    from ristretto.numerics.arithmetic import Arithmetic
    from ristretto.numerics.rounding import Rounding

    kinds: dict[str, type[Enum]] = {"arithmetic": Arithmetic, "rounding": Rounding}
    try:
        return kinds[name](value)
    except ValueError:
        cure = f"use {', '.join(str(choice.value) for choice in kinds[name])}"
        raise UsageError(f"{name} cannot be {value!r}", cure=cure) from None

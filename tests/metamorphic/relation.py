"""Two nets that must compute the same, put through the tool by its public functions and compared to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import ristretto
from ristretto.numerics.layer_formats import LayerFormats
from tests.metamorphic.nets import Files, SmallNet

EIGHT = {"bw_conv_params": 8, "bw_fc_params": 8, "bw_activations": 8}

MODES: Mapping[str, Mapping[str, Any]] = {
    "recommended": EIGHT,
    "original": {**EIGHT, "preset": "original"},
    "minifloat": {"trimming_mode": "minifloat", "exp_bits": 4, "mant_bits": 5},
    "powers of two": {"trimming_mode": "integer_power_of_2_weights", "bw_activations": 8},
}
"""A choice of options for each kind of number format."""

INTEGERS = ("recommended", "original", "powers of two")
"""Those that hardware computes on integers."""

Names = Mapping[str, str]
"""What things of the first net are called in the second, where that is not the same."""


@dataclass(frozen=True)
class Outcome:
    """All that a quantization says of a net, and what its file computes.

    Attributes:
        baseline, combined: means of the output blobs.
        formats: by layer.
        tests: by arithmetic what the quantized file computes.
    """

    baseline: dict[str, tuple[float, ...]]
    combined: dict[str, tuple[float, ...]]
    formats: dict[str, LayerFormats]
    tests: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)


def quantized(files: Files, folder: Path, mode: str, **more: Any) -> Outcome:
    """Quantize a net and test the file that is written, in each arithmetic that there is for its formats.

    Ranges are measured in TEST: in TRAIN a Dropout does something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "quantized.prototxt"
    few = {"iterations": 1, "calibration_batches": 1, "calibration_phase": "TEST", "threads": 1}
    options = {**few, **MODES[mode], **more, **files.data}
    report = ristretto.quantize(files.model, files.weights, model_quantized=path, **options)
    outcome = Outcome(report.baseline.outputs, report.combined.outputs, dict(report.plan.layers))
    for arithmetic in ("float32", "integer") if mode in INTEGERS else ("float32",):
        scored = scores_of(Files(path, files.weights, files.inputs), options["iterations"], arithmetic=arithmetic)
        outcome.tests[arithmetic] = scored
    compare(outcome.combined, outcome.tests["float32"])
    return outcome


def scores_of(files: Files, iterations: int = 1, **more: Any) -> dict[str, tuple[float, ...]]:
    """The output blobs of a net, means over its images."""
    made = ristretto.evaluate(files.model, files.weights, iterations, threads=1, **more, **files.data)
    return made.scored.outputs


def computed(files: Files, blobs: tuple[str, ...] | None = None, **more: Any) -> dict[str, Any]:
    """The output blobs of one batch."""
    return ristretto.run(files.model, files.weights, blobs, threads=1, **more, **files.data)


def check_same(
    first: SmallNet,
    second: SmallNet,
    folder: Path,
    mode: str,
    *,
    layers: Names | None = None,
    blobs: Names | None = None,
    same: Callable[[Any, Any], None] = np.testing.assert_array_equal,
    formats: bool = True,
    score: str | None = None,
) -> None:
    """Quantize both, and compare scores, formats, and what the files compute.

    Args:
        first, second: the nets.
        folder: for their files.
        mode: one of ``MODES``.
        layers, blobs: what they are called in the second.
        same: compares two scores of the quantized nets; those of the float nets may differ in their last bits.
        formats: whether the formats have to be the same, too.
        score: the blob that decides in the second, where it is not the first in the alphabet.
    """
    one = quantized(first.write(folder / "one"), folder / "one", mode)
    other = quantized(second.write(folder / "other"), folder / "other", mode, score=score)
    if formats:
        assert {(layers or {}).get(name, name): value for name, value in one.formats.items()} == other.formats
    compare(one.baseline, other.baseline, blobs, close(1e-6))
    compare(one.combined, other.combined, blobs, same)
    for arithmetic, scored in one.tests.items():
        compare(scored, other.tests[arithmetic], blobs, same)


def compare(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    names: Names | None = None,
    same: Callable[[Any, Any], None] = np.testing.assert_array_equal,
) -> None:
    """Compare blobs that are called the same, or as ``names`` says."""
    assert one
    for blob, value in one.items():
        same(other[(names or {}).get(blob, blob)], value)


def close(share: float) -> Callable[[Any, Any], None]:
    """Compare values up to a share of the largest, as float32 sums in another order may differ."""

    def same(one: Any, other: Any) -> None:
        largest = float(np.max(np.abs(np.asarray(other)), initial=1.0))
        np.testing.assert_allclose(one, other, rtol=0.0, atol=share * largest)

    return same

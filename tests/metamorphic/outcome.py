"""What the tool makes of a project, so that two projects can be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ristretto
from ristretto.report.model import Report
from tests.metamorphic.project import MODELS, Project

Scores = Mapping[str, tuple[float, ...]]

DEEP = 25

MODES = ("dynamic_fixed_point", "minifloat", "integer_power_of_2_weights")


@dataclass(frozen=True)
class Outcome:
    """Scores and formats.

    Attributes:
        baseline, combined: the score of the float net and of the quantized one, whatever it is called.
        trials: by group, the widths that were scored, with their scores.
        chosen: by group the width.
        formats: by layer.
    """

    baseline: float
    combined: float
    trials: dict[str, tuple[tuple[int, float], ...]]
    chosen: dict[str, int]
    formats: dict[str, Any]


def iterations_of(project: Project) -> int | str:
    """All images for a small net, 150 for a deep one."""
    return "all" if len(project.layers) < DEEP else 3


def score(project: Project, folder: Path, **options: Any) -> dict[str, tuple[float, ...]]:
    """All outputs of a net over all test images."""
    model, weights = project.write(folder)
    wanted = {"iterations": iterations_of(project), "data_root": MODELS, "seed": 3, **options}
    return dict(ristretto.evaluate(model, weights, **wanted).scored.outputs)


def score_as(project: Project, formats: Report | Mapping[str, Any], folder: Path, **options: Any) -> dict[str, Any]:
    """The same of a net with given formats."""
    model, weights = project.write(folder)
    quantized = applied(model, formats, folder)
    wanted = {"iterations": iterations_of(project), "data_root": MODELS, "seed": 3, **options}
    return dict(ristretto.evaluate(quantized, weights, **wanted).scored.outputs)


def applied(model: Path, formats: Report | Mapping[str, Any], folder: Path) -> Path:
    """A prototxt with the formats of a report, or with those that a file of formats would have."""
    target, plan = folder / "applied.prototxt", folder / "formats.json"
    if isinstance(formats, Mapping):
        plan.write_text(json.dumps({"layers": formats}))
    ristretto.apply(model, plan if isinstance(formats, Mapping) else formats, target)
    return target


def quantized(project: Project, folder: Path, **options: Any) -> Report:
    """A quantization on all test images."""
    model, weights = project.write(folder)
    wanted = {
        "iterations": iterations_of(project),
        "data_root": MODELS,
        "error_margin": 1,
        "calibration_batches": 2,
        "model_quantized": folder / "quantized.prototxt",
        **options,
    }
    return ristretto.quantize(model, weights, **wanted)


def same(found: Scores, wanted: Scores) -> None:
    """Require the same scores: accuracies to the last bit, others but for the order in which float32 adds up."""
    assert found.keys() == wanted.keys()
    for blob, values in wanted.items():
        if "accuracy" in blob:
            assert found[blob] == values
        np.testing.assert_allclose(found[blob], values, rtol=2e-6)


def outcome(report: Report, back: Callable[[str], str] = str) -> Outcome:
    """What is to be the same.

    Args:
        report: of a quantization.
        back: the name that a layer had before it was renamed.
    """
    ladders = report.ladders.items()
    return Outcome(
        report.baseline.score,
        report.combined.score,
        {group: tuple((trial.bw, trial.score) for trial in ladder.trials) for group, ladder in ladders},
        {group: ladder.chosen for group, ladder in ladders},
        {back(name): formats for name, formats in report.plan.layers.items()},
    )

"""The report as JSON (schema: docs/report.md). Its "layers" are what ``ristretto apply`` reads."""

from __future__ import annotations

import json
import math
from typing import Any

from ristretto.decide.plan_file import layer_to_json
from ristretto.decide.ranges_file import fitted_to_json, layer_ranges_to_json
from ristretto.decide.search import Ladder
from ristretto.report.model import SCHEMA_VERSION, Evaluation, LayerReport, Report, Scored


def report_to_json(report: Report, version: str) -> dict[str, Any]:
    """A report as JSON values."""
    settings = report.settings
    return {
        "schema": SCHEMA_VERSION,
        "tool": "ristretto",
        "version": version,
        "settings": {
            "model": settings.model,
            "weights": list(settings.weights),
            "trimming_mode": settings.trimming_mode,
            "preset": settings.preset,
            "options": dict(settings.options),
            "dialect": settings.dialect,
            "rounding": settings.rounding,
            "iterations": "all" if settings.iterations is None else settings.iterations,
            "error_margin": settings.error_margin,
            "calibration_phase": settings.calibration_phase,
            "calibration_batches": settings.calibration_batches,
            "seed": settings.seed,
        },
        "net": report.net,
        "score_blob": report.score_blob,
        "source_images": report.source_images,
        "baseline": scored_to_json(report.baseline),
        "ladders": {group: _ladder(ladder) for group, ladder in report.ladders.items()},
        "combined": scored_to_json(report.combined),
        "drop_pct": finite(100 * (report.baseline.score - report.combined.score)),
        "margin_met": report.margin_met,
        "warnings": list(report.warnings),
        "layers": {
            name: {
                "type": layer.type,
                "group": layer.group,
                **layer_to_json(report.plan.layers[name]),
                **_layer(layer),
            }
            for name, layer in report.layers.items()
            if name in report.plan.layers
        },
    }


def evaluation_to_json(result: Evaluation, version: str) -> dict[str, Any]:
    """The result of ``ristretto test`` as JSON values."""
    return {
        "schema": SCHEMA_VERSION,
        "tool": "ristretto",
        "version": version,
        "net": result.net,
        "score_blob": result.score_blob,
        "quantized_layers": result.quantized_layers,
        "source_images": result.source_images,
        **scored_to_json(result.scored),
        "warnings": list(result.warnings),
    }


def dump(data: dict[str, Any]) -> str:
    """JSON text, indented, with a newline at the end."""
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def finite(value: float) -> float | None:
    """A number that JSON can say: null stands for NaN and infinity."""
    return value if math.isfinite(value) else None


def scored_to_json(scored: Scored) -> dict[str, Any]:
    """A score as JSON values."""
    return {
        "score": finite(scored.score),
        "outputs": {blob: [finite(value) for value in values] for blob, values in scored.outputs.items()},
        "images": scored.images,
        "batches": scored.batches,
        "seconds": round(scored.seconds, 3),
    }


def _ladder(ladder: Ladder) -> dict[str, Any]:
    trials = [{"bw": trial.bw, "score": finite(trial.score)} for trial in ladder.trials]
    return {"trials": trials, "chosen": ladder.chosen}


def _layer(layer: LayerReport) -> dict[str, Any]:
    lengths = layer.lengths
    return {
        "ranges": layer_ranges_to_json(layer.ranges),
        "integer_lengths": {"in": lengths.input, "out": lengths.output, "params": lengths.params},
        **fitted_to_json(layer.fitted),
    }

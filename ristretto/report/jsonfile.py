"""The report as JSON (schema: docs/report.md). Its "layers" are what ``ristretto apply`` reads."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ristretto.decide.confidence import Paired, drop_interval, mcnemar
from ristretto.decide.mixed import MixedSearch
from ristretto.decide.plan_file import layer_to_json
from ristretto.decide.ranges_file import fitted_to_json, layer_ranges_to_json
from ristretto.decide.search import Ladder, Trial
from ristretto.report.comparison import Comparison, comparison_to_json
from ristretto.report.details import NetDetails, net_to_json
from ristretto.report.details import layer_to_json as details_to_json
from ristretto.report.integer import IntegerLayer
from ristretto.report.model import SCHEMA_VERSION, Evaluation, LayerReport, Report, Scored
from ristretto.report.provenance import provenance_to_json
from ristretto.report.record import record_to_json

_NUMBERS = re.compile(r"\[\n\s*(?:-?[\d.eE+-]+|null)(?:,\n\s*(?:-?[\d.eE+-]+|null))*\n\s*\]")
"""A list of numbers over several lines; a JSON string holds no line feed."""

_OF_ITS_OWN = ("schema", "first", "second")
"""Fields of a comparison that stands alone."""


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
        **({} if report.provenance is None else {"provenance": provenance_to_json(report.provenance)}),
        "net": report.net,
        "score_blob": report.score_blob,
        "source_images": report.source_images,
        "baseline": scored_to_json(report.baseline),
        "ladders": {group: _ladder(ladder) for group, ladder in report.ladders.items()},
        **({} if report.mixed is None else {"mixed": _mixed(report.mixed)}),
        "combined": scored_to_json(report.combined),
        **({"steps": [{"name": s.name, "sqnr_db": finite(s.sqnr_db)} for s in report.steps]} if report.steps else {}),
        **({} if report.paired is None else {"paired": _paired(report.paired)}),
        **({} if report.comparison is None else {"comparison": _comparison(report.comparison)}),
        **({} if report.details is None else net_to_json(report.details)),
        "drop_pct": finite(100 * (report.baseline.score - report.combined.score)),
        "margin_met": report.margin_met,
        "warnings": list(report.warnings),
        **record_to_json(report.events),
        "layers": {
            name: {
                "type": layer.type,
                "group": layer.group,
                **layer_to_json(report.plan.layers[name]),
                **_layer(layer),
                **_details(report.details, name),
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
        **({} if result.provenance is None else {"provenance": provenance_to_json(result.provenance)}),
        "net": result.net,
        "score_blob": result.score_blob,
        "quantized_layers": result.quantized_layers,
        "source_images": result.source_images,
        **scored_to_json(result.scored),
        "warnings": list(result.warnings),
        "arithmetic": result.arithmetic,
        **record_to_json(result.events),
        **({"integer_layers": _integer(result.integer_layers)} if result.arithmetic == "integer" else {}),
    }


def dump(data: dict[str, Any]) -> str:
    """JSON text, indented but for lists of numbers, which take a line each; with a newline at the end."""
    text = json.dumps(data, indent=2, allow_nan=False) + "\n"
    return _NUMBERS.sub(lambda found: re.sub(r"\s*\n\s*", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)


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


def _comparison(comparison: Comparison) -> dict[str, Any]:
    """The comparison without the names of its files: the report has the one, and does not depend on the other."""
    return {key: value for key, value in comparison_to_json(comparison).items() if key not in _OF_ITS_OWN}


def _paired(paired: Paired) -> dict[str, Any]:
    """What became of single images, and how sure the drop is."""
    interval = drop_interval(paired)
    return {
        "images": paired.images,
        "lost": paired.lost,
        "won": paired.won,
        "drop_interval_pct": [100 * interval.low, 100 * interval.high],
        "p_value": mcnemar(paired),
    }


def _mixed(mixed: MixedSearch) -> dict[str, Any]:
    """The trade-off curve: every point of the path with its cost and predicted harm, and the scores that there are."""
    scores = {item.index: item.score for item in mixed.scored}
    return {
        "path": [
            {"cost": point.cost, "harm": finite(point.harm), **({"score": finite(scores[n])} if n in scores else {})}
            for n, point in enumerate(mixed.path)
        ],
        "chosen": None if mixed.chosen is None else mixed.chosen.index,
    }


def _integer(layers: tuple[IntegerLayer, ...]) -> dict[str, Any]:
    return {
        layer.name: {
            "accumulator_bits": {
                "needed": layer.bits_needed,
                "observed": layer.bits_observed,
                "asked": layer.bits_asked,
            },
            "overflows": layer.overflows,
            "inputs": layer.inputs,
            "inputs_saturated": layer.inputs_saturated,
            "outputs": layer.outputs,
            "outputs_saturated": layer.outputs_saturated,
            "sqnr_db": finite(layer.sqnr_db),
            "float32_differs": layer.differing,
            "float32_proved": layer.proved,
            "products": layer.products,
        }
        for layer in layers
    }


def _ladder(ladder: Ladder) -> dict[str, Any]:
    return {"trials": [_trial(trial) for trial in ladder.trials], "chosen": ladder.chosen}


def _trial(trial: Trial) -> dict[str, Any]:
    """A width and its score; the images that it was estimated on, if those are not all."""
    images = {} if trial.images is None else {"images": trial.images}
    return {"bw": trial.bw, "score": finite(trial.score), **images}


def _details(details: NetDetails | None, name: str) -> dict[str, Any]:
    return {} if details is None or name not in details.layers else details_to_json(details.layers[name])


def _layer(layer: LayerReport) -> dict[str, Any]:
    lengths = layer.lengths
    return {
        "ranges": layer_ranges_to_json(layer.ranges),
        "integer_lengths": {"in": lengths.input, "out": lengths.output, "params": lengths.params},
        **fitted_to_json(layer.fitted),
    }

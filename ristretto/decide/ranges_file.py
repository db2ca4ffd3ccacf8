"""Measured ranges as JSON: {"layers": {NAME: {"ranges": {"in": {"min": -1, "max": 1}, "out": {...}}}}}.

Beside the ranges stand the integer lengths that were fitted to widths, as "fitted_lengths": {"8": {"in": 3, "out": 4}}.
A report holds both in the same form, so it can be read as a ranges file too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ristretto.decide.choose import IntegerLengths, LayerRanges
from ristretto.decide.plan import LayerSites
from ristretto.decide.stats import TensorStats
from ristretto.errors import FormatError

_CURE = 'write {"layers": {"conv1": {"ranges": {"in": {"min": -1, "max": 1}, "out": {"min": 0, "max": 9}}}}}'

_LARGEST = 3.4028234663852886e38
"""The largest number of float32."""


@dataclass(frozen=True, slots=True)
class ValueRanges:
    """What a file states of a layer.

    Attributes:
        input, output: the ranges.
        fitted: by width the integer lengths of input and output.
    """

    input: TensorStats
    output: TensorStats
    fitted: Mapping[int, tuple[int, int]] = field(default_factory=dict)


def sites_to_json(sites: Mapping[str, LayerSites]) -> dict[str, Any]:
    """What was measured as JSON values. The ranges of weights are told and not read back: the weights file has them."""
    return {
        "layers": {
            name: {"ranges": layer_ranges_to_json(site.ranges), **fitted_to_json(site.fitted)}
            for name, site in sites.items()
        }
    }


def fitted_to_json(fitted: Mapping[int, IntegerLengths]) -> dict[str, Any]:
    """Fitted lengths as JSON values; nothing where there are none."""
    by_width = {str(bw): {"in": lengths.input, "out": lengths.output} for bw, lengths in fitted.items()}
    return {"fitted_lengths": by_width} if by_width else {}


def layer_ranges_to_json(layer: LayerRanges) -> dict[str, Any]:
    """The ranges of one layer; a part that the layer does not have is left out."""
    parts = {"in": layer.input, "out": layer.output, "params": layer.params, "bias": layer.bias}
    return {part: stats_to_json(stats) for part, stats in parts.items() if stats is not None and stats.batches}


def stats_to_json(stats: TensorStats) -> dict[str, float | None]:
    """A range as JSON values; null stands for what JSON cannot say."""
    return {"min": _finite(stats.min), "max": _finite(stats.max)}


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def ranges_from_json(data: Any, file: str) -> dict[str, ValueRanges]:
    """Read ranges from parsed JSON.

    Raises:
        FormatError: the structure or a number is wrong; the layer is named.
    """
    layers = data.get("layers") if isinstance(data, Mapping) else None
    if not isinstance(layers, Mapping):
        raise FormatError('a ranges file needs an object "layers"', file=file, cure=_CURE)
    return {str(name): _layer(entry, str(name), file) for name, entry in layers.items()}


def _layer(entry: Any, name: str, file: str) -> ValueRanges:
    ranges = entry.get("ranges") if isinstance(entry, Mapping) else None
    if not isinstance(ranges, Mapping):
        raise FormatError('the layer needs an object "ranges"', file=file, layer=name, cure=_CURE)
    fitted = _fitted(entry.get("fitted_lengths", {}), name, file)
    return ValueRanges(_stats(ranges, "in", name, file), _stats(ranges, "out", name, file), fitted)


def _fitted(given: Any, name: str, file: str) -> dict[int, tuple[int, int]]:
    try:
        return {_width(bw): (_whole(lengths["in"]), _whole(lengths["out"])) for bw, lengths in given.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        cure = 'write {"8": {"in": 3, "out": 4}}, or leave them out'
        raise FormatError(
            "the fitted lengths are no whole numbers by width", file=file, layer=name, cure=cure
        ) from error


def _width(text: Any) -> int:
    bw = int(text)
    if not 1 <= bw <= 32:
        raise ValueError(text)
    return bw


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 120:
        raise ValueError(value)
    return value


def _stats(ranges: Mapping[str, Any], part: str, name: str, file: str) -> TensorStats:
    given = ranges.get(part)
    if not isinstance(given, Mapping):
        given = {}
    low, high = (_number(given.get(end), part, name, file) for end in ("min", "max"))
    if not low <= high:
        raise FormatError(f"the range '{part}' has min {low} above max {high}", file=file, layer=name, cure="swap them")
    return TensorStats(low, high)


def _number(value: Any, part: str, name: str, file: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FormatError(f"the range '{part}' needs two numbers, min and max", file=file, layer=name, cure=_CURE)
    if not abs(value) <= _LARGEST:  # nor is it, for NaN
        what = f"the range '{part}' ends at {str(value)[:20]}, which float32 does not hold"
        raise FormatError(what, file=file, layer=name, cure=_CURE)
    return float(value)

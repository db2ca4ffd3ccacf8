"""Measured ranges as JSON."""

from __future__ import annotations

from collections.abc import Iterable

from json_values import replaced
from text_seeds import JSON_WORDS, RANGES

from ristretto.decide.choose import LayerRanges, integer_lengths
from ristretto.decide.ranges_file import ranges_from_json
from ristretto.decide.stats import TensorStats
from ristretto.errors import RistrettoError
from ristretto.pipeline.files import parse_json


def seeds() -> Iterable[bytes]:
    yield RANGES


def words() -> Iterable[str]:
    return JSON_WORDS


def one_input(data: bytes) -> None:
    try:
        ranges = ranges_from_json(parse_json(replaced(RANGES, data), "ranges.json", "ranges"), "ranges.json")
        for each in ranges.values():
            integer_lengths(LayerRanges(each.input, each.output, TensorStats(-1.0, 1.0), None))
    except RistrettoError:
        pass

"""Reports: one of the digits net with values replaced, drawn as a page and read for verify and --resume."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import redirect_stderr, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from json_values import places_of, replaced
from text_seeds import JSON_WORDS, MODELS

from ristretto.decide.plan_file import plan_from_json
from ristretto.decide.ranges_file import ranges_from_json
from ristretto.errors import RistrettoError
from ristretto.pipeline.files import parse_json
from ristretto.pipeline.verify import described
from ristretto.report.html.page import page_of_file
from ristretto.report.verification import differences


@cache
def base() -> dict[str, Any]:
    """A report of the digits net, without the long lists."""
    from ristretto.cli.main import main

    net = MODELS / "digits_lenet"
    with TemporaryDirectory() as name, redirect_stderr(StringIO()):
        folder = Path(name)
        words = ["quantize", "--model", net / "train_val.prototxt", "--weights", net / "digits_lenet.caffemodel"]
        words += ["--data-root", MODELS, "--iterations", "1", "--trimming_mode", "dynamic_fixed_point"]
        words += ["--model_quantized", folder / "q.prototxt", "--report", folder / "r.json"]
        assert main(list(map(str, words))) == 0
        short: dict[str, Any] = _short(json.loads((folder / "r.json").read_text(encoding="utf-8")))
        return short


@cache
def _text() -> bytes:
    return json.dumps(base()).encode()


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        kept = list(value.items())[:40] if "conv1" not in value else list(value.items())[:2]
        return {key: _short(inner) for key, inner in kept if key not in ("trace", "log")}
    return [_short(inner) for inner in value[:5]] if isinstance(value, list) else value


def seeds() -> Iterable[bytes]:
    yield b"\0"
    for number in range(0, len(places_of(base())), 7):
        yield b"\0" + number.to_bytes(2, "big") + bytes([number % 30])


def words() -> Iterable[str]:
    return JSON_WORDS


def one_input(data: bytes) -> None:
    text = replaced(_text(), data)
    for read in (_page, _formats, _ranges, _verify):
        with suppress(RistrettoError):
            read(parse_json(text, "report.json", "report"))


def _page(report: Any) -> None:
    page_of_file(report, "report.json").encode("utf-8")


def _formats(report: Any) -> None:
    plan_from_json(report, "report.json")


def _ranges(report: Any) -> None:
    ranges_from_json(report, "report.json")


def _verify(report: Any) -> None:
    described(report, "report.json")
    list(differences(report, base(), 1e-6))

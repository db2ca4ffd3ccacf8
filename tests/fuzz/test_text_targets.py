"""The fuzz targets of text formats without a fuzzer: their seeds, what was found, and some damage done to both."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "tools" / "fuzz"
FINDINGS = Path(__file__).with_name("findings")

TARGETS = {
    "prototxt": 300,
    "net": 150,
    "graph": 20,
    "solver": 200,
    "plan_json": 100,
    "ranges_json": 300,
    "finished_json": 200,
    "jobs_yaml": 60,
    "image_list": 60,
}
"""How many damaged inputs each gets; report_html has to make a report first, and has its own tests in tests/report."""


@pytest.fixture(scope="module", autouse=True)
def _targets_can_be_imported() -> Iterator[None]:
    sys.path.insert(0, str(FUZZ))
    yield
    sys.path.remove(str(FUZZ))


def target(name: str) -> ModuleType:
    return importlib.import_module(f"targets.{name}")


def damaged(data: bytes, words: list[bytes], rng: random.Random) -> bytes:
    """The data with a few bytes gone, changed, doubled, or with a word put in."""
    parts = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(parts) + 1)
        end = min(len(parts), at + rng.choice((1, 2, 8, 40)))
        match rng.randrange(4):
            case 0:
                del parts[at:end]
            case 1:
                parts[at:end] = parts[at:end] * 2
            case 2:
                parts[at:at] = rng.choice(words)
            case _:
                parts[at:end] = bytes(rng.randrange(256) for _ in range(end - at))
    return bytes(parts)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds(name: str) -> None:
    module, rng = target(name), random.Random(name)
    seeds = list(module.seeds())
    words = [word.encode() for word in getattr(module, "words", lambda: [" "])()]
    for seed in seeds:
        module.one_input(seed)
    for _ in range(TARGETS[name]):
        module.one_input(damaged(rng.choice(seeds), words, rng))


@pytest.mark.parametrize("path", sorted(FINDINGS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_findings(path: Path) -> None:
    """What once broke a reader does not any more."""
    if path.parent.name in TARGETS:
        target(path.parent.name).one_input(path.read_bytes())

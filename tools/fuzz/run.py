"""Fuzz one reader: ``python tools/fuzz/run.py TARGET --seconds 60``. Needs atheris (``pip install atheris``).

A target is a module in ``targets/`` with ``one_input(data)``, which calls a reader and lets pass ``RistrettoError``
alone, ``seeds()`` to begin from, and if it likes ``words()`` that inputs are made of. Inputs are changed so that they
reach more of our code. Any other exception is a finding: the input is kept, once for each place, and the run goes on.
What ends the process (a crash, ten seconds, two gigabytes) libFuzzer keeps as ``crash-*``, ``timeout-*``, ``oom-*``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS_OF_AN_INPUT, MEGABYTES, LONGEST = 10, 2048, 1024


class Findings:
    """Runs inputs and keeps those that no reader should fall over.

    Attributes:
        folder: where they are kept.
        places: where something was raised, so that each place is kept once.
    """

    def __init__(self, one_input: Callable[[bytes], None], folder: Path) -> None:
        self.folder = folder
        self.places: set[str] = set()
        self._one_input = one_input

    def __call__(self, data: bytes) -> None:
        """Run one input."""
        try:
            self._one_input(data)
        except Exception as error:
            place = place_of(error)
            if place not in self.places:
                self.places.add(place)
                self.keep(data, place, error)

    def keep(self, data: bytes, place: str, error: Exception) -> None:
        """Write an input to a file, with its traceback beside it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{type(error).__name__}-{sha256(place.encode()).hexdigest()[:12]}"
        (self.folder / name).write_bytes(data)
        (self.folder / f"{name}.txt").write_text("".join(traceback.format_exception(error)))
        sys.stderr.write(f"FOUND {name}: {place}\n")


def place_of(error: BaseException) -> str:
    """Where an exception was raised: the last line of our code that its traceback has."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/ristretto/" in frame.filename] or list(frames)
    return f"{type(error).__name__} {Path(ours[-1].filename).name}:{ours[-1].lineno}"


def target_names() -> list[str]:
    """All targets."""
    return sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))


def load(name: str) -> object:
    """A target's module."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    return importlib.import_module(f"targets.{name}")


def dictionary(words: Sequence[str]) -> str:
    """Words in the form of libFuzzer's dictionaries."""

    def spelled(word: str) -> str:
        return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in word.encode())

    return "".join(f'"{spelled(word)}"\n' for word in dict.fromkeys(words) if word)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz, and say how many inputs that were in the last line of stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=target_names())
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs; -1 for no end")
    parser.add_argument("--seconds", type=int, default=0, help="how long; 0 for no end")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="for corpus and findings")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    import atheris

    with atheris.instrument_imports(include=["ristretto"]):
        target = load(asked.target)
    one_input: Callable[[bytes], None] = target.one_input  # type: ignore[attr-defined]
    corpus, found = asked.folder / asked.target / "corpus", asked.folder / asked.target / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    seeds = list(target.seeds())  # type: ignore[attr-defined]
    for seed in seeds:
        (corpus / f"seed-{sha256(seed).hexdigest()[:16]}").write_bytes(seed)
    flags = [
        f"-runs={asked.runs}",
        f"-max_total_time={asked.seconds}",
        f"-timeout={SECONDS_OF_AN_INPUT}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-max_len={getattr(target, 'LONGEST', LONGEST)}",
        f"-artifact_prefix={found}/",
        f"-seed={asked.seed}",
        "-print_final_stats=1",
        "-len_control=20",
    ]
    words = list(getattr(target, "words", tuple)())
    if words:
        listed = asked.folder / asked.target / "words.dict"
        listed.write_text(dictionary(words))
        flags.append(f"-dict={listed}")
    (asked.folder / asked.target / "flags.json").write_text(json.dumps(flags))
    atheris.Setup([sys.argv[0], *flags, str(corpus)], Findings(one_input, found))
    atheris.Fuzz()


if __name__ == "__main__":
    main()

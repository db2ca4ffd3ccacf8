"""Files of others that name whole jobs, reports and lists of jobs: what they may name with ``--untrusted``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ristretto.caffe.confined import Confined, confined_to
from ristretto.errors import UsageError

__all__ = ["Bounds", "Confined", "confined_to"]

_CODE = ("plugins", "score_script")
"""Options that name Python code."""

_MACHINES = ("scheduler",)
"""Options that name other machines."""

_PATHS = frozenset({"model", "weights", "inputs", "overrides", "ranges", "data_root", "also", "solver", "snapshot"})
"""Options of a report's job that are paths."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a file that describes jobs may ask for.

    Attributes:
        file: the file.
        confined: where the paths in it may lie.
        root: what they are relative to.
    """

    file: Path
    confined: Confined
    root: Path = Path()

    @classmethod
    def of_jobs(cls, file: Path, output: Path) -> Bounds:
        """Those of a file of jobs, which write into a folder that the user names."""
        return cls(file, Confined((*Confined.beside(file).folders, output.resolve())))

    def check_paths(self, paths: Iterable[Path]) -> None:
        """Refuse paths that lead elsewhere.

        Raises:
            UsageError: one does.
        """
        for path in paths:
            if not self.confined.holds(self.root / path):
                raise UsageError(f"'{path}' lies elsewhere", cure=self.confined.cure)

    def check_flags(self, flags: Mapping[str, Any]) -> None:
        """Refuse options that run code, ask other machines, or lead elsewhere.

        Args:
            flags: the options by name: as a command has them, or as a report tells them.

        Raises:
            UsageError: there is one.
        """
        for name in (*_CODE, *_MACHINES):
            if flags.get(name):
                what = f"--untrusted refuses what a file says of {name}: {flags[name]}"
                raise UsageError(what, cure="look at it, and if it is harmless leave --untrusted out")
        for name, value in flags.items():
            self.check_paths(_paths_in(value, name in _PATHS))


def _paths_in(value: Any, spelled: bool) -> Iterator[Path]:
    """The paths in the value of an option; in a report they are spelled as text."""
    if isinstance(value, Path) or (spelled and isinstance(value, str)):
        yield Path(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths_in(item, spelled)

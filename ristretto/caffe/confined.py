"""Files of others that name files: with ``--untrusted`` these must lie where the naming file lies.

The folders go with the ``Document`` of a prototxt, so that whoever looks for a file that it names has them at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ristretto.errors import UsageError


@dataclass(frozen=True, slots=True)
class Confined:
    """The folders that the paths in a file must not leave.

    Attributes:
        folders: with all links resolved.
    """

    folders: tuple[Path, ...]

    @classmethod
    def beside(cls, file: Path, data_root: Path | None = None) -> Confined:
        """The folder of a file, and the one that the user names for data."""
        folders = (file.parent, *((data_root,) if data_root is not None else ()))
        return cls(tuple(folder.resolve() for folder in folders))

    @property
    def cure(self) -> str:
        """What the user can do about a path outside."""
        places = " or ".join(str(folder) for folder in self.folders)
        return f"with --untrusted it must lie in {places}: move it there, name its folder with --data-root, or trust it"

    def holds(self, path: Path) -> bool:
        """Whether a path, whether there is such a file or not, lies in one of the folders once links are resolved."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links; a NUL
            return False
        return any(real.is_relative_to(folder) for folder in self.folders)

    def holds_all(self, path: Path) -> bool:
        """The same for a file, or for a database: a folder and the files in it, which may be links."""
        if not self.holds(path):
            return False
        return not path.is_dir() or all(map(self.holds, path.iterdir()))


def confined_to(untrusted: bool, file: Path, data_root: Path | None = None) -> Confined | None:
    """Where the paths in a file are confined to; None where they are trusted."""
    return Confined.beside(file, data_root) if untrusted else None


def check_named(path: Path, what: str, file: Path, confined: Confined | None) -> None:
    """Refuse a path that leads out of the folders.

    Args:
        path: what the file names, as it would be opened.
        what: what it is, for the error.
        file: the file that names it.
        confined: the folders; None allows all.

    Raises:
        UsageError: it lies elsewhere.
    """
    if confined is not None and not confined.holds(path):
        raise UsageError(f"{what} '{path}' lies elsewhere", file=str(file), cure=confined.cure)

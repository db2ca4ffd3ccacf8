"""Where the files that come with the package lie."""

from __future__ import annotations

from pathlib import Path

from ristretto.errors import UsageError


def models_folder() -> Path:
    """The folder of the nets that the project ships: in the wheel, or in a checkout.

    Raises:
        UsageError: it is in neither place.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "_data" / "models", here.parent / "models"):
        if folder.is_dir():
            return folder
    raise UsageError("the nets that come with the tool are not installed", cure="install the package again")

"""What all functions do with what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ristretto.keywords import PathLike, Paths

if TYPE_CHECKING:
    from ristretto.pipeline.evaluate import NetOptions


def paths_of(given: Paths) -> tuple[Path, ...]:
    """One path or several."""
    return tuple(map(Path, [given] if isinstance(given, (str, Path)) else given))


def path_or_none(given: PathLike | None) -> Path | None:
    """A path, if there is one."""
    return None if given is None else Path(given)


def net_options(model: PathLike, weights: Paths, given: dict[str, Any], function: str) -> NetOptions:
    """How a net is simulated.

    Raises:
        RistrettoError: there is no such option, or a value does not suit it.
    """
    from ristretto.pipeline.evaluate import NetOptions
    from ristretto.pipeline.given import check_names, option_names

    check_names(given, option_names(NetOptions)[2:], function)
    return NetOptions(Path(model), paths_of(weights), **given)

"""Loading plug-ins: modules that the user names, and installed ones that announce themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import ristretto.caffe.catalogue
import ristretto.graph.layers  # noqa: F401  (registers ours, so that only what a plug-in registers can be undone)
from ristretto.caffe.catalogue.registry import forget_shape_rules, known_types
from ristretto.decide.plan import joined_types, leave_group
from ristretto.dialects.fields import unset_quantized_type
from ristretto.errors import UsageError
from ristretto.graph.registry import emitted_types, forget_emitters
from ristretto.pipeline.user_code import import_user_module, note_user_module

GROUP = "ristretto.layers"
"""The group of entry points by which an installed package offers layer types."""

_INSTALLED = "entry point "

_loaded: dict[str, None] = {}
"""What was loaded, in that order."""


def load_plugins(plugins: Iterable[str] = ()) -> None:
    """Import the installed plug-ins and the given ones, each once per process.

    Args:
        plugins: modules by dotted name, or paths that end in .py.

    Raises:
        UsageError: a plug-in cannot be found or fails on import, as when it registers a type that is there.
    """
    for point in entry_points(group=GROUP):
        _once(f"{_INSTALLED}{point.name} = {point.value}", partial(_load_entry_point, point))
    for name in plugins:
        key = str(Path(name).resolve()) if name.endswith(".py") else name
        _once(key, partial(import_user_module, name))
        note_user_module(name)


def loaded_plugins() -> tuple[str, ...]:
    """The plug-ins that were given so far, as another process may load them: files by their whole path."""
    return tuple(key for key in _loaded if not key.startswith(_INSTALLED))


def _load_entry_point(point: EntryPoint) -> None:
    try:
        point.load()
    except Exception as error:
        package = point.dist.name if point.dist is not None else "an installed package"
        what = f"the plug-in '{point.value}' of {package} fails on import: {type(error).__name__}: {error}"
        raise UsageError(what, cure=f"mend {package}, or uninstall it") from error


def _once(key: str, load: Callable[[], object]) -> None:
    if key not in _loaded:
        with registrations_undone_on_error():
            load()
        _loaded[key] = None


@contextmanager
def registrations_undone_on_error() -> Iterator[None]:
    """Take away what was registered if an error passes."""
    rules, emitters, joined = known_types(), emitted_types(), joined_types()
    try:
        yield
    except BaseException:
        forget_shape_rules(known_types() - rules)
        forget_emitters(emitted_types() - emitters)
        for name in joined_types() - joined:
            leave_group(name)
            unset_quantized_type(name)
        raise

"""Importing what a user wrote: a module by name, or a Python file by its path."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ristretto.errors import UsageError
from ristretto.inputs import note_input


def import_user_module(name: str) -> ModuleType:
    """Import a module by its dotted name, or a file by its path; the current folder counts too.

    Raises:
        UsageError: there is no such module, or it fails on import.
    """
    module = _imported(name)
    note_user_module(name)
    return module


def note_user_module(name: str) -> None:
    """Note the file of an imported module: no result takes its place."""
    file = name if name.endswith(".py") else getattr(sys.modules.get(name), "__file__", None)
    if file:
        note_input(Path(file))


def _imported(name: str) -> ModuleType:
    path = Path(name)
    try:
        if path.suffix == ".py":
            return _import_file(path)
        return _import_by_name(name)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        what = f"there is no Python module '{error.name}'"
        cure = "name a module that can be imported from here, or a path ending in .py"
        raise UsageError(what, cure=cure) from error
    except Exception as error:
        what = f"the module '{name}' fails on import: {type(error).__name__}: {error}"
        raise UsageError(what, cure="mend it, and import it in Python first") from error


def _import_by_name(name: str) -> ModuleType:
    """What is asked for by name is looked for in the current folder first; what we import later, last of all."""
    here = str(Path.cwd())
    if {"", here} & set(sys.path):
        return importlib.import_module(name)
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)
        sys.path.append(here)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError("there is no such Python file", file=str(path), cure="check the path given")
    module_name = f"ristretto_user_{path.stem}"
    specification = importlib.util.spec_from_file_location(module_name, path)
    if specification is None or specification.loader is None:
        raise UsageError("this file cannot be imported", file=str(path))
    module = importlib.util.module_from_spec(specification)
    sys.modules[module_name] = module
    specification.loader.exec_module(module)
    return module

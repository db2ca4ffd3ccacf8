"""torch, imported when it is first used: everything else here can be read without it."""

from __future__ import annotations

from typing import Any, TypeAlias

from ristretto.errors import UsageError

Tensor: TypeAlias = Any
"""A torch.Tensor. torch is optional, so its types are not checked against."""


def import_torch() -> Any:
    """The module torch, or an error that says how to get it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        cure = "pip install 'ristretto-fixed-point[finetune]'"
        raise UsageError("training needs the package torch (its build for the CPU is enough)", cure=cure) from error
    return torch


class _Lazy:
    """A module that is imported when something of it is asked for."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by what looks through modules, such as doctest
            raise AttributeError(name)
        found = import_torch()
        for part in self._names:
            found = getattr(found, part)
        value = getattr(found, name)
        setattr(self, name, value)
        return value


torch: Any = _Lazy()
functional: Any = _Lazy("nn", "functional")

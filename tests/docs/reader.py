"""A reader of the documentation: has the files of which the pages speak, and types in what they show."""

from __future__ import annotations

from ristretto.data.source import open_source  # noqa: F401
from tests.docs.pages import ROOT

LENET = ROOT / "models" / "digits_lenet"

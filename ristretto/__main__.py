"""``python -m ristretto``."""

from ristretto.cli.main import entry

entry()

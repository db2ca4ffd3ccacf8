"""A net that can be scored, from a deploy net and images."""

from __future__ import annotations

from ristretto.pipeline.init.job import Initialised, InitOptions, initialise

__all__ = ["InitOptions", "Initialised", "initialise"]

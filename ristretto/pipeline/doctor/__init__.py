"""What would go wrong with a net: every check looks on after it has found something."""

from __future__ import annotations

from ristretto.pipeline.doctor.examine import DoctorOptions, diagnose

__all__ = ["DoctorOptions", "diagnose"]

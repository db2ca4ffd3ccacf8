"""Decisions: ranges to formats, plans, searches."""

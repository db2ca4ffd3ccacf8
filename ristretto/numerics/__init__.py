"""Number formats and roundings in plain numpy: the reference for all arithmetic."""

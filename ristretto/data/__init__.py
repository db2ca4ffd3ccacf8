"""Data sources, transform_param and batches."""

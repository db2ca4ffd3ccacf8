"""Quantized nets for others: files that hardware generators and other runtimes read (``targets`` lists them)."""

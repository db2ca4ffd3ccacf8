"""Report values to log lines, tables and JSON."""

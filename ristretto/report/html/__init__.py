"""The report as one HTML page, made of nothing but the JSON report."""

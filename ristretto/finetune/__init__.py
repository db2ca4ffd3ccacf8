"""Training of nets, quantized or not, with torch: the update rules, the layers, the rounding on the way."""

"""One module per family of layers, each emitting ONNX nodes."""

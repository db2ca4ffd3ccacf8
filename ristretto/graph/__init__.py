"""A net and its weights as an ONNX model."""

"""The only room that runs onnxruntime."""

"""ristretto: turn a trained Caffe net into a fixed-point net that hardware can run."""

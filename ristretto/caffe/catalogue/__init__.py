"""What Caffe's file says of each layer type: parameters, shapes, weight shapes."""

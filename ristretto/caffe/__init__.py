"""Everything that knows Caffe's files and rules."""

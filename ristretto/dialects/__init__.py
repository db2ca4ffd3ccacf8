"""Plans to and from the fields of a quantized prototxt."""

"""The use cases: the one room that wires the others together."""

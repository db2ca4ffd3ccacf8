"""Nets that draw random numbers."""

from __future__ import annotations

from ristretto.caffe.netspec import NetSpec
from ristretto.graph.build import Simulation
from ristretto.numerics.rounding import Rounding


def draws(net: NetSpec, simulation: Simulation) -> bool:
    """Whether a net draws random numbers while it runs: those of an image follow from the images before it."""
    roundings = {formats.rounding or simulation.rounding for formats in simulation.formats.values()}
    if Rounding.STOCHASTIC in roundings:
        return True
    return any(layer.type == "DummyData" or (layer.type == "Dropout" and net.phase == "TRAIN") for layer in net.layers)

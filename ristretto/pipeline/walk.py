"""Some images on their way through a net, stopped before a layer: nothing is computed twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.weights import Weights
from ristretto.graph.build import Section, Simulation, live_values
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.feed import Batch
from ristretto.pipeline.pieces import in_pieces
from ristretto.pipeline.runner import Halfway, Runner

Array = NDArray[np.float32]


class Walk:
    """Batches that have come as far as one layer of a net.

    Attributes:
        position: number of the layer that is next.
    """

    def __init__(self, net: NetSpec, batches: Sequence[Batch], threads: int = 0) -> None:
        """Begin before the first layer.

        Args:
            net: the net.
            batches: what is fed to it.
            threads: threads per run; 0 for one per core.
        """
        self._net, self._threads = net, threads
        pieces = [piece for batch in batches for piece in in_pieces(net, batch)]
        self._halfway = [Halfway({blob: array.shape for blob, array in piece.items()}, piece) for piece in pieces]
        self.position = 0

    def advance(self, position: int, weights: Weights, formats: Mapping[str, LayerFormats]) -> None:
        """Run the layers up to one, with these weights and formats."""
        if position <= self.position:
            return
        section = Section(self.position, position)
        live = live_values(self._net, position)
        runner = Runner(self._net, weights, live, (), Simulation(formats), self._threads, section=section)
        # One by one: what a batch was before makes room for what it is next.
        for number, halfway in enumerate(self._halfway):
            self._halfway[number] = Halfway(halfway.fed, runner.run(halfway)[0])
        self.position = position

    def values(self, value: str) -> list[Array]:
        """What a value holds in each batch, as the next layer finds it."""
        return [halfway.values[value] for halfway in self._halfway]

    def outputs(self, value: str, weights: Weights, formats: Mapping[str, LayerFormats]) -> list[Array]:
        """What the next layer makes of the batches, which stay where they are."""
        section = Section(self.position, self.position + 1)
        runner = Runner(self._net, weights, [value], (), Simulation(formats), self._threads, section=section)
        return [runner.run(halfway)[0][value] for halfway in self._halfway]
